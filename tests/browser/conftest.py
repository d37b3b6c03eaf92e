"""One browser for all tests of this folder, one server whose free month is tiny, a fenced page for each test.

Of the package, not of the session: Playwright keeps a loop running in this thread until it ends, and other tests have
loops of their own.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from tests.browser import catalog
from tests.browser.chromium import PATIENCE_MS, Fence, launched
from tests.conftest import FREE_PORTS, server_environment
from tests.support.server import Server

FREE_INVOCATIONS = 4


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    # What an ``expect`` waits for is bounded apart from all else, by 5 s: too little on a busy machine for a deploy or
    # for Stripe's word.
    expect.set_options(timeout=PATIENCE_MS)
    with launched() as running:
        yield running


@pytest.fixture(scope="package")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Sells through the simulated checkout; usage is in SQL and on the bill as soon as it may be."""
    folder = tmp_path_factory.mktemp("shop")
    settings = {
        "tier_catalog": catalog.write(folder / "catalog.toml", free_invocations=FREE_INVOCATIONS),
        "billing_interval": "PT0.5S",
    }
    running = Server(folder / "server", server_environment(**settings), *FREE_PORTS, "--no-example")
    yield running
    running.stop()


@dataclass
class Visit:
    page: Page
    fence: Fence
    url: str
    """Of the dashboard."""

    def open(self, path: str) -> None:
        self.page.goto(self.url + path)

    def says(self, text: str) -> bool:
        self.page.get_by_text(text).first.wait_for()
        return True


@pytest.fixture
def visit(browser: Browser, shop: Server) -> Iterator[Visit]:
    """Asserts at the end that nothing but this machine was asked for."""
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    fence = Fence(context)
    yield Visit(context.new_page(), fence, shop.control_plane_url)
    context.close()
    assert fence.allowed > 0
    assert fence.stopped == []


def narrow(browser: Browser) -> BrowserContext:
    """A small phone."""
    return browser.new_context(viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=False)


def mailed_link(server: Server, address: str) -> str:
    """The link in the newest mail to the address: without SMTP, mails are printed to the log."""

    def look() -> str:
        lines = (server.log_dir / "control-plane.log").read_text(errors="replace").splitlines()
        mails = [json.loads(line) for line in lines if line.startswith("{") and '"event": "mail"' in line]
        texts = [mail["text"] for mail in mails if mail["to"] == address]
        found = re.search(r"http\S+token=\w+", texts[-1]) if texts else None
        return found[0] if found else ""

    return server.wait_for(look, what=f"a mail to {address}")


def sign_in(page: Page, url: str, email: str, password: str, code: str = "") -> None:
    page.goto(f"{url}/sign-in")
    page.get_by_label("E-mail address").fill(email)
    page.get_by_label("Password").fill(password)
    page.keyboard.press("Enter")
    if code:
        page.get_by_label("Code").fill(code)
        page.keyboard.press("Enter")
    page.locator("form[action='/sign-out']").first.wait_for(state="attached")  # on a phone it is in the menu
