"""Python source as lines of coloured pieces, made on the server: no script, no third-party style.

Called by ``function_pages`` for the code of a version, which is hostile: it is split by the standard library's
tokenizer, which runs nothing; what cannot be split is shown plain. The template escapes every piece.
"""

import builtins
import io
import keyword
import token
import tokenize
from typing import Final, NamedTuple

LINES_MAX: Final = 5_000


class Piece(NamedTuple):
    kind: str
    """A class of the style sheet; empty: plain."""
    text: str


_BUILTINS: Final = frozenset(name for name in dir(builtins) if not name.startswith("_"))
_STRINGS: Final = frozenset({token.STRING, token.FSTRING_START, token.FSTRING_MIDDLE, token.FSTRING_END})


def lines_of(text: str, *, is_python: bool) -> tuple[list[list[Piece]], bool]:
    """→ the lines, and whether some are left out."""
    plain = text.split("\n")
    if plain and plain[-1] == "":
        plain.pop()
    shown = plain[:LINES_MAX]
    lines = [[Piece("", line)] for line in shown]
    if is_python:
        _colour("\n".join(shown) + "\n", shown, lines)
    return lines, len(plain) > LINES_MAX


def _colour(text: str, plain: list[str], lines: list[list[Piece]]) -> None:
    marks: list[list[tuple[int, int, str]]] = [[] for _ in plain]
    after = ""
    try:
        for each in tokenize.generate_tokens(io.StringIO(text).readline):
            kind = _kind(each, after)
            if kind:
                _mark(marks, each, kind)
            if each.type == token.NAME or each.string.strip():
                after = each.string
    except (tokenize.TokenError, SyntaxError, RecursionError, ValueError):
        pass  # what was split so far keeps its colours
    for number, line in enumerate(plain):
        if marks[number]:
            lines[number] = _pieces(line, marks[number])


def _kind(each: tokenize.TokenInfo, after: str) -> str:
    if each.type == token.COMMENT:
        return "c"
    if each.type in _STRINGS:
        return "s"
    if each.type == token.NUMBER:
        return "n"
    if each.type == token.NAME:
        if after in ("def", "class"):
            return "d"
        if keyword.iskeyword(each.string):
            return "k"
        return "b" if each.string in _BUILTINS and after != "." else ""
    return "k" if each.type == token.OP and each.string == "@" else ""


def _mark(marks: list[list[tuple[int, int, str]]], each: tokenize.TokenInfo, kind: str) -> None:
    (first, begin), (last, end) = each.start, each.end
    for row in range(first, last + 1):
        if row - 1 < len(marks):
            marks[row - 1].append((begin if row == first else 0, end if row == last else -1, kind))


def _pieces(line: str, marks: list[tuple[int, int, str]]) -> list[Piece]:
    pieces, at = [], 0
    for begin, end, kind in marks:
        stop = len(line) if end < 0 else end
        if begin < at:
            continue
        if begin > at:
            pieces.append(Piece("", line[at:begin]))
        pieces.append(Piece(kind, line[begin:stop]))
        at = stop
    if at < len(line):
        pieces.append(Piece("", line[at:]))
    return pieces
