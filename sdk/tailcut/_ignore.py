"""Which files of a folder stay at home: patterns as in a .gitignore.

``name`` matches at any depth, ``/name`` or ``a/b`` from the top, ``name/`` only folders, ``*`` and ``?`` within one
name, ``**`` across folders, ``!pattern`` takes a file back in. The last pattern that matches decides; nothing inside
an excluded folder can be taken back in. Called by _bundle.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

DEFAULTS = (
    ".git",
    ".hg",
    ".svn",
    "__pycache__",
    "*.pyc",
    "*.pyo",
    ".venv",
    "venv",
    "node_modules",
    ".mypy_cache",
    ".pytest_cache",
    ".ruff_cache",
    ".tox",
    ".nox",
    ".idea",
    ".vscode",
    ".DS_Store",
    "*.egg-info",
    # What people keep secrets in: a function's environment is `env` in tailcut.toml, not a file in its bundle.
    ".env",
    ".env.*",
    "/var/dev-credentials.json",
    # The manifest says what these say.
    "/tailcut.toml",
    "/tailcut.lock",
)


@dataclass(frozen=True, slots=True)
class _Pattern:
    expression: re.Pattern[str]
    folders_only: bool
    excludes: bool


class Ignore:
    """The defaults followed by the project's own patterns."""

    def __init__(self, patterns: Iterable[str] = ()) -> None:
        self._patterns = [_compiled(text) for text in (*DEFAULTS, *patterns) if text.strip() and text[0] != "#"]

    def excludes(self, path: str, *, is_folder: bool) -> bool:
        """``path`` is relative, with ``/``; its parents are known not to be excluded."""
        verdict = False
        for pattern in self._patterns:
            if (is_folder or not pattern.folders_only) and pattern.expression.fullmatch(path):
                verdict = pattern.excludes
        return verdict


def _compiled(text: str) -> _Pattern:
    excludes = not text.startswith("!")
    body = text.removeprefix("!").strip()
    folders_only = body.endswith("/")
    body = body.rstrip("/")
    anchored = "/" in body
    expression = _expression(body.lstrip("/"))
    if not anchored:
        expression = f"(?:.*/)?{expression}"
    return _Pattern(re.compile(expression, re.DOTALL), folders_only, excludes)


def _expression(glob: str) -> str:
    """A glob as a regular expression, part by part."""
    parts = glob.split("/")
    out = ""
    for index, part in enumerate(parts):
        is_last = index == len(parts) - 1
        if part == "**":
            out += ".*" if is_last else "(?:.*/)?"
        else:
            out += "".join(_character(character) for character in part) + ("" if is_last else "/")
    return out


def _character(character: str) -> str:
    return {"*": "[^/]*", "?": "[^/]"}.get(character) or re.escape(character)
