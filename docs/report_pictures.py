"""Makes the pictures of docs/report.md from a report: python docs/report_pictures.py REPORT.

Needs Chromium, its driver and selenium, as the tests of the report do.
"""

import base64
import io
import shutil
import sys
import time
from pathlib import Path
from typing import Any

from PIL import Image
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

FOLDER = Path(__file__).parent / "images"
# Name of a picture, its width and height in pixels, and the element that it begins with
SHOTS = (
    ("report-verdict", 900, 1000, "#gate"),
    ("report-maps", 640, 640, "#maps .photo"),
    ("report-phone", 390, 640, "#accuracy table"),
)


def main(report: Path) -> None:
    """Write all pictures.

    Args:
        report: A report.html.
    """
    chromium, driver = (shutil.which(name) for name in ("chromium", "chromedriver"))
    if not chromium or not driver:  # selenium would look for them in the internet
        sys.exit("chromium and chromedriver are not installed; install both")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"):
        options.add_argument(argument)
    browser = webdriver.Chrome(options=options, service=Service(driver))
    try:
        for name, width, height, selector in SHOTS:
            picture = _picture(browser, report, (width, height), selector)
            picture.save(FOLDER / f"{name}.png", optimize=True)
            print(FOLDER / f"{name}.png")
    finally:
        browser.quit()


def _picture(browser: Any, report: Path, size: tuple[int, int], selector: str) -> Image.Image:
    """The part of a report that begins with an element; its size in pixels."""
    width, height = size
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
    clip = {"x": 0, "y": max(0, top - 8), "width": width, "height": height, "scale": 1}
    shot = {"captureBeyondViewport": True, "clip": clip}
    data = browser.execute_cdp_cmd("Page.captureScreenshot", shot)["data"]
    return Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
