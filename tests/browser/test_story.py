"""The whole way of a customer, in a real browser: from the sign-up to a larger tier on the bill."""

import re

import httpx
from playwright.sync_api import expect

from tests.browser.conftest import FREE_INVOCATIONS, Visit, mailed_link
from tests.support.server import HANG_S, Server

EMAIL = "grace@example.com"
PASSWORD = "four quiet lighthouses"
SOURCE = """\
def handler(name: str = "world") -> str:
    return f"Hello, {name}!"
"""


def test_from_the_sign_up_to_a_larger_tier(shop: Server, visit: Visit) -> None:
    page = visit.page
    # -- Sign up, with the link of the mail.
    visit.open("/sign-up")
    page.get_by_label("E-mail address").fill(EMAIL)
    page.get_by_label("Name of your tenant").fill("hopper")
    page.keyboard.press("Enter")
    assert visit.says("Look into your mail")
    page.goto(mailed_link(shop, EMAIL))
    page.get_by_label("Your name").fill("Grace")
    page.get_by_label("Password").fill(PASSWORD)
    page.keyboard.press("Enter")
    expect(page.get_by_text("From nothing to a first call")).to_be_visible()

    # -- A function, pasted; its page says when it is ready.
    page.get_by_role("link", name="Paste code").click()
    page.get_by_label("Name").fill("hello")
    page.get_by_label("Code", exact=True).fill(SOURCE)
    page.get_by_role("button", name="Deploy").click()
    expect(page.locator("main .pill.ready").first).to_be_visible()

    # -- A key that may call it.
    page.get_by_role("link", name="Keys", exact=True).first.click()
    page.locator("main a[href='/keys/new']").first.click()
    page.get_by_label("What it is for").fill("story")
    page.get_by_role("button", name="Make the key").click()
    headers = {"Authorization": f"Bearer {page.get_by_label('The key').inner_text()}"}
    url = f"{shop.gateway_url}/hopper/hello"

    def call() -> httpx.Response:
        return httpx.post(url, json={"name": "Grace"}, headers=headers, timeout=HANG_S, trust_env=False)

    shop.wait_for(lambda: call().status_code in (200, 402), what="the function, served")

    # -- Until the free month is used up: 402 with the link to what would be enough.
    # Between the last lease and the word that there is no more, a busy node may say 503: not executed.
    statuses: list[int] = []

    def used_up() -> bool:
        statuses.append(call().status_code)
        return statuses[-1] == 402

    shop.wait_for(used_up, what="the free month used up")
    assert statuses.count(200) <= FREE_INVOCATIONS
    refused = call()
    assert refused.status_code == 402, refused.text
    problem = refused.json()
    assert (problem["tier"], problem["next_tier"]) == ("free", "pro")
    assert refused.headers["Link"] == f'<{problem["upgrade_url"]}>; rel="payment"'

    # -- The link leads to where it is bought; the checkout says that it is simulated.
    page.goto(problem["upgrade_url"])
    page.get_by_role("link", name="Compare tiers").click()
    page.get_by_role("link", name="Upgrade to Pro").click()
    expect(page.get_by_text("Due at the checkout")).to_be_visible()
    page.get_by_role("button", name="Go to the checkout").click()
    page.get_by_role("link", name="Continue to payment").click()
    assert visit.says("SIMULATED")
    page.get_by_role("button", name=re.compile(r"^Pay .*29\.00 USD \(simulated\)")).click()
    expect(page.get_by_text("Pro is yours")).to_be_visible()

    # -- The same call succeeds, without a redeploy.
    shop.wait_for(lambda: call().status_code == 200, what="a call on the new tier")

    # -- Usage and the next invoice show it.
    def used_on_pro() -> bool:
        page.reload()
        return not re.search(r"\b0 of 5 million", page.locator(".meters li").first.inner_text())

    visit.open("/billing")
    shop.wait_for(used_on_pro, what="the call on the billing page")
    expect(page.get_by_role("heading", name="Pro")).to_be_visible()
    expect(page.get_by_text("$29.00 as it stands")).to_be_visible()
    visit.open("/usage")
    assert visit.says("hello")
