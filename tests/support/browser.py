"""The Chromium of this machine, driven by Playwright, which needs no browser of its own."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest


@contextmanager
def chromium(*options: str) -> Iterator[Any]:
    """Start a headless Chromium with these command-line options; skip the test without one, or without Playwright."""
    playwright = pytest.importorskip("playwright.sync_api", reason="no Playwright")
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if path is None:
        pytest.skip("no Chromium on this machine")
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=path, args=["--no-sandbox", *options])
        yield started
        started.close()
