"""Chromium without a screen, for tests of what a page looks like and does."""

import base64
import shutil
import time
from pathlib import Path

import pytest

ARGUMENTS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--window-size=1280,1000",
)


def open_browser(downloads: Path):
    """A driver of Chromium; the test is skipped where there is none.

    Args:
        downloads: Folder of the files that the page saves.
    """
    chromium, driver = (shutil.which(name) for name in ("chromium", "chromedriver"))
    if not chromium or not driver:
        pytest.skip(
            "no chromium and chromedriver here; on Debian: apt-get install chromium chromium-driver"
        )
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in ARGUMENTS:
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    preferences = {
        "download.default_directory": str(downloads),
        "profile.default_content_setting_values.automatic_downloads": 1,
    }
    options.add_experimental_option("prefs", preferences)
    return webdriver.Chrome(options=options, service=Service(driver))


def show(browser, report: Path, width: int | None = None) -> None:
    """Open a report and wait until it is drawn.

    Args:
        browser: Of `open_browser`.
        report: The page.
        width: Of the screen, pixels; None for that of the window.
    """
    if width:
        screen = {"width": width, "height": 1000, "deviceScaleFactor": 1, "mobile": width < 500}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    browser.get(report.as_uri())
    until(lambda: browser.execute_script("return document.documentElement.dataset.drawn"))


def printed(browser, inches: float | None = None) -> bytes:
    """The open page as a PDF.

    Args:
        browser: Of `open_browser`.
        inches: Height of the paper; None for A4.
    """
    options = {"printBackground": True, "preferCSSPageSize": inches is None}
    if inches:
        options |= {"paperWidth": 8.27, "paperHeight": inches}
    return base64.b64decode(browser.execute_cdp_cmd("Page.printToPDF", options)["data"])


def until(condition, seconds=30):
    """Wait until a condition holds, and return what it returns."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.1)
    return found
