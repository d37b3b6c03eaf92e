"""Every page on a narrow phone, with the keyboard alone: all is reached, seen and named, and nothing is wider; and all
text can be read, light and dark.

``Walk.faults`` is what looks; ``test_each_fault_is_seen`` breaks a page in each of the ways that it must notice.
"""

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import urljoin

import pytest
from playwright.sync_api import Browser, Page, expect

from control_plane.dashboard.endpoints import PARTS
from tests.browser import contrast, pages
from tests.browser.chromium import Fence
from tests.browser.conftest import narrow, sign_in
from tests.browser.customer import PASSWORD, Customer
from tests.support.server import Server

FUNCTION = {
    "greet": """\
def handler(name: str = "world", loud: bool = False) -> dict:
    if name == "nobody":
        raise ValueError("somebody who is greeted has a name, and this line is longer than a phone is wide")
    return {"hello": name.upper() if loud else name}
"""
}
TAB = {"type": "rawKeyDown", "key": "Tab", "code": "Tab", "windowsVirtualKeyCode": 9}
WATCH = """async () => {
  // A field that asks for the focus gets it with a frame after the page has come: after that it is ours.
  if (document.readyState !== "complete") await new Promise((go) => addEventListener("load", go, { once: true }));
  for (let frame = 0; frame < 2; frame++) await new Promise(requestAnimationFrame);
  const isSeen = (each) => each.checkVisibility({ visibilityProperty: true }) && each.getClientRects().length > 0;
  const named = (each) => {
    const label = each.labels?.[0]?.textContent || each.getAttribute("aria-label") || each.getAttribute("title")
      || document.getElementById(each.getAttribute("aria-labelledby"))?.textContent
      || (each.matches("input, select, textarea") ? "" : each.textContent);
    return (label || "").replace(/\\s+/g, " ").trim();
  };
  const said = (each) => `${each.localName} ${named(each) || each.id || each.outerHTML.slice(0, 60)}`.slice(0, 90);
  const walk = { reached: [], hidden: [], wanted: [], nameless: [] };
  for (const each of document.querySelectorAll(
    "a[href], button, input:not([type=hidden]), select, textarea, summary, [tabindex='0']")) {
    if (each.disabled || each.tabIndex < 0 || !isSeen(each)) continue;
    if (!named(each)) walk.nameless.push(said(each));
    // Of radio buttons one is a stop of Tab; arrows lead to the others.
    const isOther = each.type === "radio" && !each.checked;
    if (isOther && document.querySelector(`input[name="${each.name}"]:checked`)) continue;
    walk.wanted.push(each);
  }
  document.addEventListener("focusin", ({ target }) => {
    walk.reached.push(target);
    // Choices show the focus on the frame around them.
    const style = getComputedStyle(target.closest(".choice") || target);
    const box = target.getBoundingClientRect();
    const bar = target.closest(".topbar, .skip") ? 0 : document.querySelector(".topbar")?.offsetHeight || 0;
    const outlined = style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2;
    if (!outlined) walk.hidden.push(`${said(target)}: no outline`);
    else if (box.bottom <= bar || box.top >= innerHeight || box.right <= 0 || box.left >= innerWidth)
      walk.hidden.push(`${said(target)}: outside of what is seen`);
  });
  document.activeElement?.blur();
  getSelection().removeAllRanges();
  window.walk = { ...walk, said };
  return walk.wanted.length;
}"""
TOLD = """() => ({
  missed: walk.wanted.filter((each) => each.isConnected && !walk.reached.includes(each)).map(walk.said),
  hidden: walk.hidden, nameless: walk.nameless,
  wider_px: document.documentElement.scrollWidth - document.documentElement.clientWidth,
})"""


class Walk:
    def __init__(self, page: Page) -> None:
        self.page = page
        self.complaints: list[str] = []
        self._keys = page.context.new_cdp_session(page)
        page.on("console", lambda said: self.complaints.append(said.text) if said.type == "error" else None)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def faults(self) -> list[str]:
        """Of the page that is open: pressing Tab once around it."""
        stops = self.page.evaluate(WATCH)
        for _ in range(stops + 2):
            self._keys.send("Input.dispatchKeyEvent", TAB)  # as keyboard.press does, with one message instead of two
        told: dict[str, Any] = self.page.evaluate(TOLD)
        faults = [f"never reached: {each}" for each in told["missed"]]
        faults += [f"focus not seen: {each}" for each in told["hidden"]]
        faults += [f"without a name: {each}" for each in told["nameless"]]
        faults += [f"{told['wider_px']} px wider than the screen"] if told["wider_px"] > 0 else []
        faults += contrast.faults(self.page)
        faults += [f"the browser says: {each}" for each in self.complaints]
        self.complaints.clear()
        return faults


@pytest.fixture(scope="module")
def customer(shop: Server) -> Customer:
    found = Customer(shop, "ada@keys.example.com", "Ada", "keyboard", FUNCTION)
    found.places["invoice"] = "/billing/invoices"  # on the free tier there is none
    return found


@pytest.fixture(scope="module")
def phone(browser: Browser, shop: Server, customer: Customer) -> Iterator[Walk]:
    context = narrow(browser)
    fence, page = Fence(context), context.new_page()
    walk = Walk(page)
    sign_in(page, shop.control_plane_url, "ada@keys.example.com", PASSWORD)
    yield walk
    context.close()
    assert fence.stopped == []


def test_every_page_is_in_a_table() -> None:
    routes = {route.path for part in PARTS for route in part.router.routes if "GET" in route.methods}
    tables = pages.BEFORE | pages.PAGES | pages.ADMIN
    walked = {re.sub(r"\?.*", "", path) or "/" for path in tables.values()}
    as_patterns = {route: re.compile(re.sub(r"\{\w+\}", "[^/]+", route)) for route in routes}
    left_out = {route for route, pattern in as_patterns.items() if not any(pattern.fullmatch(path) for path in walked)}
    assert left_out == set(pages.ELSEWHERE)


def test_every_page_by_keyboard(browser: Browser, shop: Server, customer: Customer, phone: Walk) -> None:
    operator, codes = customer.operator()
    found = {}
    stranger, manager = narrow(browser), narrow(browser)
    others = Walk(stranger.new_page()), Walk(manager.new_page())
    sign_in(others[1].page, shop.control_plane_url, operator, PASSWORD, codes.pop())
    for walk, table in zip((*others, phone), (pages.BEFORE, pages.ADMIN, pages.PAGES), strict=True):
        for name, path in pages.paths(table, customer.places).items():
            answer = walk.page.goto(urljoin(shop.control_plane_url, path), wait_until="domcontentloaded")
            assert answer, path
            assert answer.status == 200, f"{path}: {answer.status}"
            if faults := walk.faults():
                found[name] = faults
    # What only a form leads to: an answer with its traceback.
    phone.page.goto(f"{shop.control_plane_url}/functions/greet/try")
    phone.page.get_by_label("name").fill("nobody")
    phone.page.keyboard.press("Enter")
    phone.page.locator("pre.traceback").wait_for()
    found |= {"answer": faults} if (faults := phone.faults()) else {}
    stranger.close()
    manager.close()
    assert found == {}


def test_the_skip_link_and_the_menu(shop: Server, phone: Walk) -> None:
    page = phone.page
    page.goto(f"{shop.control_plane_url}/functions")
    page.keyboard.press("Tab")
    expect(page.get_by_text("Skip to content")).to_be_focused()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.closest('main') !== null"), "the skip link leads into the content"

    page.goto(f"{shop.control_plane_url}/functions")
    menu = page.locator("details.menu")
    menu.locator("summary").focus()
    page.keyboard.press("Enter")
    expect(menu).to_have_attribute("open", "")
    assert phone.faults() == []
    page.keyboard.press("Escape")
    expect(menu).not_to_have_attribute("open", "")
    expect(menu.locator("summary")).to_be_focused()

    # By keyboard to another page: the menu is closed there, and the focus is at its beginning.
    page.keyboard.press("Enter")
    menu.get_by_role("link", name="Keys", exact=True).focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Keys", level=1)).to_be_visible()
    expect(page.locator("main")).to_be_focused()
    expect(page.locator("details.menu")).not_to_have_attribute("open", "")


BREAKS = {
    "focus not seen": "document.styleSheets[0].insertRule('a:focus-visible { outline: none !important }', 0)",
    "outside of what is seen": "document.querySelector('main a').style.cssText = 'position: fixed; left: -500px'",
    "never reached": "document.querySelector('textarea').addEventListener('keydown', (e) => e.preventDefault())",
    "without a name": "document.querySelector('main label').remove()",
    "contrast, light: 3.": "document.querySelector('main label').style.color = '#8a8a8a'",
    "contrast, dark: 1.": "document.querySelector('main label').style.color = '#222'",
    "of 4.5 in textarea": "document.querySelector('textarea').style.color = 'rgb(0 0 0 / 30%)'",
    "px wider than the screen": "document.querySelector('main').style.width = '500px'",
    "Content Security Policy": "document.querySelector('main').setAttribute('style', 'color: red')",
    "the browser says: broken": "setTimeout(() => { throw new Error('broken'); })",
}


@pytest.mark.parametrize("said", BREAKS)
def test_each_fault_is_seen(shop: Server, phone: Walk, said: str) -> None:
    phone.page.goto(f"{shop.control_plane_url}/deploy")
    phone.complaints.clear()
    phone.page.evaluate(BREAKS[said])
    faults = phone.faults()
    assert any(said in fault for fault in faults), faults
