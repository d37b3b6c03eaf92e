"""Takes docs/screenshots: every page of the dashboard, light and dark, on a desktop and on a phone.

``make screenshots``, or ``python -m tests.browser.screenshots [NAME …]`` for some pages only. Starts a server of its
own with the data of ``demo``, and writes PNGs with a palette, small enough to commit; it fails when a page does not
answer, when one is too large, or when anything but this machine was asked for.
"""

import argparse
import io
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Final

from PIL import Image
from playwright.sync_api import Browser, Page

from tests.browser.chromium import Fence, launched
from tests.browser.demo import EMAIL, PASSWORD, Demo
from tests.conftest import FREE_PORTS, server_environment
from tests.control_plane.running import Valkey
from tests.support.server import Server

FOLDER: Final = Path(__file__).resolve().parents[2] / "docs" / "screenshots"
SIZES: Final = {"desktop": (1280, 800), "phone": (390, 844)}
THEMES: Final = ("light", "dark")
HEIGHT_MAX: Final = 3200
BYTES_MAX: Final = 150_000
TOTAL_BYTES_MAX: Final = 6_000_000

BEFORE: Final = {"sign-up": "/sign-up", "sign-in": "/sign-in", "reset": "/reset"}
"""Pages that one sees signed out."""
PAGES: Final = {
    "overview": "/",
    "functions": "/functions",
    "deploy": "/deploy",
    "function": "/functions/invoice",
    "code": "/functions/invoice/code",
    "try": "/functions/invoice/try",
    "secrets": "/functions/invoice/secrets",
    "aliases": "/functions/invoice/aliases",
    "function-settings": "/functions/invoice/settings",
    "function-delete": "/functions/invoice/delete",
    "logs": "/logs",
    "usage": "/usage?range=month",
    "usage-function": "/usage?range=month&function=report",
    "keys": "/keys",
    "key-new": "/keys/new",
    "members": "/members",
    "invite": "/members/invite",
    "billing": "/billing",
    "tiers": "/billing/tiers",
    "upgrade": "/billing/change?tier=scale&add-on.cpu-reservation=1",
    "add-ons": "/billing/change?tier=pro",
    "spend-caps": "/billing/spend-caps",
    "invoices": "/billing/invoices",
    "cancel": "/billing/cancel",
    "audit": "/audit",
    "settings": "/settings",
    "delete": "/settings/delete",
    "security": "/security",
    "tenants": "/tenants",
    "errors": "/errors",
    "error": "/errors/tier-limit",
}
"""Pages of the dashboard, as the tenant's owner sees them."""


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("names", nargs="*", help="pages to take; all when none is named")
    parser.add_argument("--folder", type=Path, default=FOLDER)
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    if not arguments.names:
        for old in arguments.folder.glob("*.png"):
            old.unlink()
    data = Path(tempfile.mkdtemp(prefix="tailcut-shots-"))
    valkey = Valkey()
    server = Server(data / "server", server_environment(redis_url=valkey.url), *FREE_PORTS, "--no-example")
    try:
        Demo(server, valkey)
        with launched() as browser:
            take_all(browser, server.control_plane_url, arguments.folder, set(arguments.names))
    finally:
        server.stop()
        valkey.stop()
        shutil.rmtree(data, ignore_errors=True)
    total = sum(path.stat().st_size for path in arguments.folder.glob("*.png"))
    print(f"{len(list(arguments.folder.glob('*.png')))} pictures, {total / 1e6:.1f} MB, in {arguments.folder}")
    if total > TOTAL_BYTES_MAX:
        print(f"that is more than {TOTAL_BYTES_MAX / 1e6:g} MB: lower HEIGHT_MAX, or take fewer pages", file=sys.stderr)
        return 1
    return 0


def take_all(browser: Browser, url: str, folder: Path, names: set[str]) -> None:
    for theme in THEMES:
        for device, (width, height) in SIZES.items():
            context = browser.new_context(
                viewport={"width": width, "height": height},
                color_scheme="dark" if theme == "dark" else "light",
                reduced_motion="reduce",
            )
            fence, page = Fence(context), context.new_page()
            for pages, signed_in in ((BEFORE, False), (PAGES, True)):
                if signed_in:
                    sign_in(page, url)
                for name, path in pages.items():
                    if not names or name in names:
                        page.set_viewport_size({"width": width, "height": height})
                        take(page, url + path, folder / f"{name}-{theme}-{device}.png")
            context.close()
            assert fence.stopped == [], f"something asked for {fence.stopped}"


def sign_in(page: Page, url: str) -> None:
    page.goto(f"{url}/sign-in")
    page.get_by_label("E-mail address").fill(EMAIL)
    page.get_by_label("Password").fill(PASSWORD)
    page.keyboard.press("Enter")
    page.get_by_role("heading", level=1).wait_for()
    page.wait_for_url(f"{url}/")


def take(page: Page, url: str, path: Path) -> None:
    """The whole page, in a window as high as it is: what sticks to the window is where it belongs."""
    answer = page.goto(url, wait_until="networkidle")
    assert answer is not None
    assert answer.status == 200, f"{url} answered {answer.status}"
    wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert wide <= 1, f"{url} is {wide} px wider than the window of {path.name}"
    size = page.viewport_size
    assert size is not None
    height = min(max(int(page.evaluate("document.documentElement.scrollHeight")), size["height"]), HEIGHT_MAX)
    page.set_viewport_size({"width": size["width"], "height": height})
    picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    small = picture.quantize(colors=128, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    small.save(path, optimize=True)
    size_bytes = path.stat().st_size
    assert size_bytes < BYTES_MAX, f"{path.name} has {size_bytes} bytes; at most {BYTES_MAX} are committed"


if __name__ == "__main__":
    sys.exit(main())
