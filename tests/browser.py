"""The machine's own Chromium, for tests of pages."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest


def chromium() -> str | None:
    """The path of its program; None where there is none."""
    return next(filter(None, map(shutil.which, ("chromium", "google-chrome", "chromium-browser"))), None)


@contextmanager
def headless(*flags: str) -> Iterator[Any]:
    """One without a window, driven by Playwright, whose loop must not outlive a module of tests."""
    playwright = pytest.importorskip("playwright.sync_api", reason="the browser's driver is a development extra")
    program = chromium()
    if program is None:
        pytest.skip("no Chromium on this machine")
    with playwright.sync_playwright() as driver:
        running = driver.chromium.launch(executable_path=program, args=["--no-sandbox", *flags])
        yield running
        running.close()


def option(box: Any, name: str) -> Any:
    """An option of a field of the label page by what is seen of it; see annotate/page/radios.py."""
    same = f"input[name='{name}'], input[name^='{name}\u200b']"
    return box.locator("label").filter(has=box.page.locator(same))
