"""A real headless Chromium, driven as a person would: by keys and by what the page shows."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By

BROWSER, DRIVER = "chromium", "chromedriver"
needs_chromium = pytest.mark.skipif(
    not (shutil.which(BROWSER) and shutil.which(DRIVER)), reason="needs Debian's chromium and chromium-driver"
)

_UNREADABLE = (Path(__file__).parent / "contrast.js").read_text(encoding="utf-8")


class Browser:
    """One window."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def open(self, url: str, view: str = "incidents") -> None:
        """Load a view anew and wait until the page is live."""
        self.driver.get("about:blank")
        self.driver.get(f"{url}#/{view}")
        self.wait_for(lambda: self.text("#link") == "live", "the page is live")

    def wait_for(self, condition: Callable[[], object], what: str, timeout_s: float = 15) -> None:
        """Wait until a condition holds; fails with what the page shows."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline, f"not within {timeout_s:g} s: {what}\n{self.text('body')[:3000]}"
            time.sleep(0.05)

    def text(self, selector: str) -> str:
        """What an element shows; empty when it is not there."""
        return str(self.script("return document.querySelector(arguments[0])?.innerText ?? ''", selector))

    def count(self, selector: str) -> int:
        """How many elements there are."""
        return int(self.script("return document.querySelectorAll(arguments[0]).length", selector))

    def click(self, selector: str) -> None:
        """Press a button or follow a link."""
        self.driver.find_element(By.CSS_SELECTOR, selector).click()

    def keys(self, *keys: str) -> None:
        """Press keys, wherever the focus is."""
        ActionChains(self.driver).send_keys(*keys).perform()

    def script(self, code: str, *arguments: Any) -> Any:
        """Run JavaScript of the test."""
        return self.driver.execute_script(code, *arguments)

    def size(self, width: int, height: int = 900) -> None:
        """Size of the page."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)

    def prefer(self, theme: str) -> None:
        """What the system says it likes: light or dark."""
        features = [{"name": "prefers-color-scheme", "value": theme}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})

    def complaints(self) -> list[str]:
        """Errors that the console of the browser's developer tools has shown since the last look."""
        return [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] == "SEVERE"]

    def unreadable(self) -> list[str]:
        """Texts with too little contrast (WCAG 2, AA)."""
        return list(self.script(_UNREADABLE))

    def overflows(self) -> bool:
        """Whether the page is wider than the window."""
        return bool(self.script("return document.scrollingElement.scrollWidth > innerWidth + 1"))


@contextmanager
def browser(*more: str) -> Iterator[Browser]:
    """A window without history, ended with its processes; `more` are options of Chromium."""
    options = Options()
    options.binary_location = shutil.which(BROWSER) or BROWSER
    # In a container there is neither a user without rights nor a large /dev/shm.
    for word in (
        "--headless=new",
        "--no-sandbox",
        "--disable-dev-shm-usage",
        "--disable-gpu",
        "--hide-scrollbars",
        *more,
    ):
        options.add_argument(word)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(shutil.which(DRIVER)))
    try:
        found = Browser(driver)
        found.size(1440)
        yield found
    finally:
        driver.quit()
