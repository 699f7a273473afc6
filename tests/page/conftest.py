"""What the tests of pages in a browser share."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from diffcli.files.checkpoint import load_model
from diffcli.files.locations import find_model
from diffcli.page.build import build_page
from tests.page.browsing import CHROMIUM


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        # Without a sandbox, since tests may run as root; the page is our own.
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=["--no-sandbox"],
            # Playwright lifts a limit that pages have to keep to.
            ignore_default_args=["--disable-ipc-flooding-protection"],
        )
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """An empty page without a network; whatever fails or asks for something there is an error."""
    context = browser.new_context(offline=True, viewport={"width": 1200, "height": 900})
    page = context.new_page()
    troubles: list[str] = []
    page.on("console", lambda message: troubles.append(message.text))
    # The tests read pixels often, the page does not.
    hint = "Canvas2D: Multiple readback operations"
    page.on("pageerror", lambda error: troubles.append(str(error)))
    page.on(
        "request",
        lambda request: (
            None if request.url.startswith(("file:", "blob:")) else troubles.append(request.url)
        ),
    )
    yield page
    context.close()
    assert [trouble for trouble in troubles if not trouble.startswith(hint)] == []


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "digits.html"
    path.write_bytes(build_page(*load_model(find_model(Path("mnist-2step"))), "mnist-2step"))
    return path
