"""The pages that a problem's ``type`` points to, for the gateway's problems and our own alike.

Called by ``endpoints``. Two files, packaged with the code, are split at their headings, which are the slugs:
``errors.md`` (ours) and ``gateway_errors.md``, a link to docs/errors.md that becomes a file in the built package.
A slug that is in both has one page with both.
"""

import html
import re
from functools import cache
from pathlib import Path
from typing import Final

from fastapi import Request, Response
from markupsafe import Markup

from control_plane.context import Context
from control_plane.dashboard import pages
from control_plane.problems import KINDS

_SOURCES: Final = {"gateway_errors.md": "Calling functions", "errors.md": "Managing functions"}
"""File → what somebody was doing who met the error."""
_HEADING: Final = re.compile(r"^#{2,3} +`?([a-z0-9]+(?:-[a-z0-9]+)*)`?(?![\w-])[^\n]*$", re.MULTILINE)


def render_page(request: Request, context: Context, slug: str) -> Response | None:
    """None: there is no such error."""
    parts = _pages().get(slug)
    if parts is None:
        return None
    title = KINDS[slug][1] if slug in KINDS else ""
    return pages.render(request, context, None, "error.html", slug=slug, title=title, pieces=parts)


def render_index(request: Request, context: Context) -> Response:
    return pages.render(request, context, None, "errors.html", slugs=sorted(_pages()))


@cache
def _pages() -> dict[str, list[tuple[str, Markup]]]:
    """Slug → parts of its page, each with a heading."""
    pages: dict[str, list[tuple[str, Markup]]] = {}
    for name, occasion in _SOURCES.items():
        text = Path(__file__).with_name(name).read_text(encoding="utf-8")
        headings = list(_HEADING.finditer(text))
        ends = [heading.start() for heading in headings[1:]] + [len(text)]
        for heading, end in zip(headings, ends, strict=True):
            body = _to_html(text[heading.end() : end].strip())
            pages.setdefault(heading[1], []).append((occasion, body))
    return pages


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
