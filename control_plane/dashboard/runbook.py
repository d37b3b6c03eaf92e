"""docs/RUNBOOK.md as a page, so that a check that is red can lead to the chapter that says what to do.

Called by ``admin_pages``. The text is ours and comes with the distribution; HTML in it is shown, not obeyed.
"""

import re
from functools import cache
from pathlib import Path
from typing import Final

from markdown_it import MarkdownIt

_PLACES: Final = (
    Path(__file__).with_name("RUNBOOK.md"),  # in an installed distribution
    Path(__file__).parents[2] / "docs" / "RUNBOOK.md",
)


@cache
def rendered() -> tuple[list[tuple[str, str]], str]:
    """→ (anchor, title) of each chapter, and the HTML"""
    text = next((place.read_text() for place in _PLACES if place.exists()), "# Runbook\n\nIt was not installed.")
    parser = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = parser.parse(text.partition("\n")[2])
    chapters = []
    for at, token in enumerate(tokens):
        if token.type == "heading_open":
            title = tokens[at + 1].content
            token.attrSet("id", anchor_of(title))
            if token.tag == "h2":
                chapters.append((anchor_of(title), title))
        for part in token.children or []:
            if part.type == "link_open" and "://" not in str(part.attrGet("href")):
                part.attrSet("href", "#")  # another file of the repository
    return chapters, parser.renderer.render(tokens, parser.options, {})


def anchor_of(title: str) -> str:
    """As GitHub makes them: "Start, stop, look" → start-stop-look"""
    return re.sub(r"[^a-z0-9-]", "", title.lower().replace(" ", "-"))
