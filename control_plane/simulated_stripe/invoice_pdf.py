"""An invoice as a PDF of one or more pages: what people file away, and here says that nothing was paid with it.

``render`` is called by ``server``. The file is written by hand: text in the fonts that every reader has, no images,
nothing compressed. What always holds: the banner is on each page; a character that the fonts do not have is a "?".
"""

import textwrap
from typing import Final, NamedTuple

from control_plane.simulated_stripe.objects import Object
from control_plane.simulated_stripe.pages import day, money

_WIDTH, _HEIGHT, _MARGIN = 595, 842, 56
"""A4, in points"""
_LINE: Final = 16
_DESCRIPTION_CHARACTERS_MAX: Final = 68
_ROWS_PER_PAGE: Final = 30
_BANNER: Final = "SIMULATED: this server stands in for Stripe. No money was moved with this invoice."
_DIGIT, _NARROW, _CAPITAL = 556, 278, 700
"""Widths in Helvetica, thousandths of the size; amounts have nothing else. Capitals are near enough."""


class _Row(NamedTuple):
    text: str
    amount: str = ""
    kind: str = ""
    """``sum`` or ``detail``"""


def render(invoice: Object) -> bytes:
    rows = _rows(invoice)
    pages = [rows[at : at + _ROWS_PER_PAGE] for at in range(0, len(rows), _ROWS_PER_PAGE)]
    return _file([_page(invoice, page, number, len(pages)) for number, page in enumerate(pages, 1)])


def _rows(invoice: Object) -> list[_Row]:
    currency = invoice["currency"]
    rows = []
    for line in invoice["lines"]["data"]:
        first, *others = textwrap.wrap(line["description"] or "", _DESCRIPTION_CHARACTERS_MAX) or [""]
        rows.append(_Row(first, money(line["amount"], currency)))
        rows.extend(_Row(other) for other in others)
        rows.append(_Row(f"{day(line['period']['start'])} to {day(line['period']['end'])}", kind="detail"))
    rows.append(_Row("Total", money(invoice["total"], currency), "sum"))
    credit = invoice["total"] - invoice["amount_due"]
    if credit:
        rows.append(_Row("Credit used" if credit > 0 else "Kept as credit", money(-credit, currency)))
    rows.append(_Row("Amount due", money(invoice["amount_remaining"], currency), "sum"))
    return rows


def _page(invoice: Object, rows: list[_Row], number: int, count: int) -> bytes:
    parts = [f"0.71 0.33 0.04 rg 0 {_HEIGHT - 34} {_WIDTH} 34 re f 1 g", _text(_MARGIN, _HEIGHT - 22, 9, _BANNER, "B")]
    parts.append("0.09 0.11 0.1 rg")
    parts.append(_text(_MARGIN, 764, 22, "Invoice", "B"))
    head = [
        ("Number", invoice["number"] or "draft"),
        ("Date", day(invoice["created"])),
        ("State", invoice["status"]),
        ("From", "Tailcut"),
        ("To", " ".join(each for each in (invoice["customer_name"], invoice["customer_email"]) if each) or "–"),
    ]
    for at, (label, value) in enumerate(head):
        parts.append(_text(_MARGIN, 736 - at * _LINE, 10, label, "B"))
        parts.append(_text(_MARGIN + 72, 736 - at * _LINE, 10, str(value)))
    y = 736 - len(head) * _LINE - 12
    parts.append(f"0.8 G {_MARGIN} {y} m {_WIDTH - _MARGIN} {y} l S")
    for row in rows:
        if row.kind == "detail":
            y -= _LINE - 4
            parts.append(f"0.4 g {_text(_MARGIN, y, 8, row.text)} 0.09 0.11 0.1 rg")
            continue
        y -= _LINE + 6
        font = "B" if row.kind == "sum" else "R"
        parts.append(_text(_MARGIN, y, 10, row.text, font))
        parts.append(_text(_WIDTH - _MARGIN - _width(row.amount) / 100, y, 10, row.amount, font))
    parts.append(_text(_MARGIN, 40, 8, f"{invoice['id']}, page {number} of {count}"))
    return "\n".join(parts).encode("cp1252", "replace")


def _text(x: float, y: float, size: int, text: str, font: str = "R") -> str:
    shown = text.replace("−", "-").translate({ord(each): f"\\{each}" for each in "\\()"})
    shown = "".join(each for each in shown if each.isprintable())
    return f"BT /{font} {size} Tf {x:.1f} {y:.1f} Td ({shown}) Tj ET"


def _width(amount: str) -> int:
    return sum(
        _DIGIT if each.isdigit() else _CAPITAL if each.isalpha() else 333 if each in "−-" else _NARROW
        for each in amount
    )


def _file(contents: list[bytes]) -> bytes:
    """Objects 1 to 4 are the catalogue, the list of pages and both fonts; then a page and its text in turn."""
    kids = " ".join(f"{5 + 2 * at} 0 R" for at in range(len(contents)))
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Kids [{kids}] /Count {len(contents)} >>".encode(),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>",
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica-Bold /Encoding /WinAnsiEncoding >>",
    ]
    for at, content in enumerate(contents):
        objects.append(
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 {_WIDTH} {_HEIGHT}] /Contents {6 + 2 * at} 0 R "
            "/Resources << /Font << /R 3 0 R /B 4 0 R >> >> >>".encode()
        )
        objects.append(b"<< /Length %d >>\nstream\n%s\nendstream" % (len(content), content))
    written, places = b"%PDF-1.4\n", []
    for number, each in enumerate(objects, 1):
        places.append(len(written))
        written += b"%d 0 obj\n%s\nendobj\n" % (number, each)
    table = "".join(f"{place:010} 00000 n \n" for place in places)
    end = (
        f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n{table}trailer\n<< /Size {len(objects) + 1} /Root 1 0 R >>\n"
    )
    return written + f"{end}startxref\n{len(written)}\n%%EOF\n".encode()
