"""Takes docs/screenshots: every page of the dashboard, light and dark, on a desktop and on a phone.

``make screenshots``, or ``python -m tests.browser.screenshots [NAME …]`` for some pages only. Starts a server of its
own with the data of ``demo``, and writes lossless WebPs, small enough to commit; it fails when a page does not
answer, when one is too large, or when anything but this machine was asked for.
"""

import argparse
import io
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Final
from urllib.parse import urljoin

from PIL import Image
from playwright.sync_api import Browser, Page

from tests.browser import contrast, pages
from tests.browser.chromium import Fence, launched
from tests.browser.conftest import sign_in
from tests.browser.customer import PASSWORD
from tests.browser.demo import EMAIL, NEWCOMER, Demo
from tests.browser.states import STATES
from tests.conftest import FREE_PORTS, server_environment
from tests.control_plane.running import Valkey
from tests.support.server import Server

FOLDER: Final = Path(__file__).resolve().parents[2] / "docs" / "screenshots"
SIZES: Final = {"desktop": (1280, 800), "phone": (390, 844)}
THEMES: Final = ("light", "dark")
HEIGHT_MAX: Final = 1800
BYTES_MAX: Final = 150_000
TOTAL_BYTES_MAX: Final = 9_000_000


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("names", nargs="*", help="pages to take; all when none is named")
    parser.add_argument("--folder", type=Path, default=FOLDER)
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    if not arguments.names:
        for old in arguments.folder.glob("*.webp"):
            old.unlink()
    data = Path(tempfile.mkdtemp(prefix="tailcut-shots-"))
    valkey = Valkey()
    server = Server(data / "server", server_environment(redis_url=valkey.url), *FREE_PORTS, "--no-example")
    try:
        demo = Demo(server, valkey)
        with launched() as browser:
            take_all(browser, demo, arguments.folder, set(arguments.names))
    finally:
        server.stop()
        valkey.stop()
        shutil.rmtree(data, ignore_errors=True)
    total = sum(path.stat().st_size for path in arguments.folder.glob("*.webp"))
    print(f"{len(list(arguments.folder.glob('*.webp')))} pictures, {total / 1e6:.1f} MB, in {arguments.folder}")
    if total > TOTAL_BYTES_MAX:
        print(f"that is more than {TOTAL_BYTES_MAX / 1e6:g} MB: lower HEIGHT_MAX, or take fewer pages", file=sys.stderr)
        return 1
    return 0


def take_all(browser: Browser, demo: Demo, folder: Path, names: set[str]) -> None:
    url = demo.server.control_plane_url
    operator, codes = demo.operator()
    for theme in THEMES:
        for device, (width, height) in SIZES.items():
            for table, email in (
                (pages.BEFORE, ""), (pages.PAGES, EMAIL), (pages.ADMIN, operator), (pages.FIRST, NEWCOMER),
                *((pages.of_state(name), f"{name}@example.com") for name in STATES),
            ):  # fmt: skip
                known = pages.paths(table, demo.places)
                wanted = {name: path for name, path in known.items() if not names or name in names}
                if not wanted:
                    continue
                context = browser.new_context(
                    viewport={"width": width, "height": height},
                    color_scheme="dark" if theme == "dark" else "light",
                    reduced_motion="reduce",
                )
                fence, page = Fence(context), context.new_page()
                if email:
                    sign_in(page, url, email, PASSWORD, codes.pop() if email == operator else "")
                for name, path in wanted.items():
                    page.set_viewport_size({"width": width, "height": height})
                    take(page, urljoin(url, path), folder / f"{name}-{theme}-{device}.webp")
                context.close()
                assert fence.stopped == [], f"something asked for {fence.stopped}"


def take(page: Page, url: str, path: Path) -> None:
    """The whole page, in a window as high as it is: what sticks to the window is where it belongs."""
    answer = page.goto(url)
    assert answer is not None
    assert answer.status == 200, f"{url} answered {answer.status}"
    low = contrast.faults(page) if path.name.endswith("-light-desktop.webp") else []
    assert low == [], f"{url}: {low}"
    wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert wide <= 1, f"{url} is {wide} px wider than the window of {path.name}"
    size = page.viewport_size
    assert size is not None
    height = min(max(int(page.evaluate("document.documentElement.scrollHeight")), size["height"]), HEIGHT_MAX)
    page.set_viewport_size({"width": size["width"], "height": height})
    picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    picture.save(path, lossless=True, method=4)
    size_bytes = path.stat().st_size
    assert size_bytes < BYTES_MAX, f"{path.name} has {size_bytes} bytes; at most {BYTES_MAX} are committed"


if __name__ == "__main__":
    sys.exit(main())
