"""The pages that a problem's ``type`` points to: ``errors.md`` (packaged data) split at its headings.

Called by ``endpoints``. The slug is the first word of a heading of the second or third level, in backquotes or not.
"""

import html
import re
from functools import cache
from pathlib import Path
from typing import Final

from jinja2 import Environment, PackageLoader, select_autoescape
from markupsafe import Markup

from control_plane.problems import KINDS

_SOURCE: Final = Path(__file__).with_name("errors.md")
_HEADING: Final = re.compile(r"^#{2,3} +`?([a-z0-9]+(?:-[a-z0-9]+)*)`?(?![\w-])[^\n]*$", re.MULTILINE)

_environment = Environment(
    loader=PackageLoader("control_plane.dashboard"), autoescape=select_autoescape(default=True), enable_async=False
)


def render_page(slug: str) -> str | None:
    """None: there is no such error."""
    body = _sections().get(slug)
    if body is None:
        return None
    status, title = KINDS.get(slug, (None, slug))
    return _environment.get_template("error.html").render(
        visitor=None, slug=slug, status=status, title=title, body=body
    )


def render_index() -> str:
    return _environment.get_template("errors.html").render(visitor=None, slugs=sorted(_sections()))


@cache
def _sections() -> dict[str, Markup]:
    text = _SOURCE.read_text(encoding="utf-8")
    headings = list(_HEADING.finditer(text))
    ends = [heading.start() for heading in headings[1:]] + [len(text)]
    return {
        heading[1]: _to_html(text[heading.end() : end].strip()) for heading, end in zip(headings, ends, strict=True)
    }


def _to_html(text: str) -> Markup:
    """The little Markdown that the file uses: paragraphs, lists, `code` and **strong**."""
    blocks = []
    for block in re.split(r"\n\s*\n", text):
        lines = block.strip().splitlines()
        if not lines:
            continue
        if all(line.startswith(("- ", "  ")) for line in lines):
            items = re.split(r"^- ", block.strip(), flags=re.MULTILINE)[1:]
            blocks.append("<ul>" + "".join(f"<li>{_inline(item)}</li>" for item in items) + "</ul>")
        else:
            blocks.append(f"<p>{_inline(block)}</p>")
    return Markup("\n".join(blocks))  # noqa: S704 - built from escaped text by the two functions here


def _inline(text: str) -> str:
    escaped = html.escape(" ".join(text.split()))
    escaped = re.sub(r"`([^`]+)`", r"<code>\1</code>", escaped)
    return re.sub(r"\*\*([^*]+)\*\*", r"<strong>\1</strong>", escaped)
