"""Makes the pictures of docs/report.md from a report: python docs/report_pictures.py REPORT.

Needs Chromium, its driver and selenium, as the tests of the report do.
"""

import base64
import io
import sys
import time
from pathlib import Path
from typing import Any

from PIL import Image
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

FOLDER = Path(__file__).parent / "images"
COLOURS = 128  # of a picture's palette, which keeps it small
MOST_HEIGHT = 900  # pixels
# Name of a picture, width of the screen, and what is shown: from the top of the first element
SHOTS = (
    ("report-verdict", 1000, "header"),
    ("report-maps", 1000, "#maps .photo"),
    ("report-phone", 390, "#accuracy table"),
)


def main(report: Path) -> None:
    """Write all pictures.

    Args:
        report: A report.html.
    """
    options = webdriver.ChromeOptions()
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"):
        options.add_argument(argument)
    browser = webdriver.Chrome(options=options, service=Service())
    try:
        for name, width, selector in SHOTS:
            _picture(browser, report, width, selector).save(FOLDER / f"{name}.png", optimize=True)
            print(FOLDER / f"{name}.png")
    finally:
        browser.quit()


def _picture(browser: Any, report: Path, width: int, selector: str) -> Image.Image:
    """The part of a report that begins with an element, at a width in pixels."""
    screen = {"width": width, "height": 1000, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    browser.get(report.resolve().as_uri())
    while not browser.execute_script("return document.documentElement.dataset.drawn"):
        time.sleep(0.1)
    time.sleep(0.5)  # the last figure is painted
    top = browser.execute_script(
        "return document.querySelector(arguments[0]).getBoundingClientRect().top + scrollY",
        selector,
    )
    clip = {"x": 0, "y": max(0, top - 8), "width": width, "height": MOST_HEIGHT, "scale": 1}
    shot = {"captureBeyondViewport": True, "clip": clip}
    data = browser.execute_cdp_cmd("Page.captureScreenshot", shot)["data"]
    picture = Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB")
    return picture.quantize(COLOURS)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
