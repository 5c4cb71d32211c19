"""A browser without a window."""

import pytest


@pytest.fixture(scope="module")
def browser(chromium):
    """Return a Chromium that asks for nothing by itself."""
    from playwright.sync_api import sync_playwright

    options = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=str(chromium), args=options)
        yield started
        started.close()
