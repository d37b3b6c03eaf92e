"""The simulated Stripe's PDF: a file that readers can open, with what the invoice says and nothing executable."""

import re
from typing import Any

from control_plane.simulated_stripe.invoice_pdf import render


def invoice(*descriptions: str, name: str = "Ada (Ltd) \\ Söhne 馬") -> dict[str, Any]:
    period = {"start": 1_790_000_000, "end": 1_792_592_000}
    lines = [{"description": each, "amount": 2900 + at, "period": period} for at, each in enumerate(descriptions)]
    total = sum(line["amount"] for line in lines)
    return {
        "id": "in_1", "number": "ABC-0001", "created": period["start"], "status": "paid", "currency": "usd",
        "customer_name": name, "customer_email": "ada@example.com", "lines": {"data": lines}, "total": total,
        "amount_due": total, "amount_remaining": 0,
    }  # fmt: skip


def objects(pdf: bytes) -> dict[int, bytes]:
    """Number → object, found as a reader finds them: by the table at the end."""
    assert pdf.startswith(b"%PDF-1.4\n")
    [table] = re.findall(rb"startxref\n(\d+)\n%%EOF\n\Z", pdf)
    place = int(table)
    assert pdf[place:].startswith(b"xref\n0 ")
    entries = re.findall(rb"^(\d{10}) (\d{5}) ([nf]) $", pdf[place:], re.MULTILINE)
    assert f"/Size {len(entries)} ".encode() in pdf[place:]
    found = {}
    for number, (offset, _, _) in enumerate(entries[1:], 1):
        start = int(offset)
        head = b"%d 0 obj\n" % number
        assert pdf[start:].startswith(head)
        found[number] = pdf[start + len(head) : pdf.index(b"\nendobj\n", start)]
    return found


def test_a_reader_finds_every_object_and_every_page_its_text() -> None:
    pdf = render(invoice("1 × Tailcut Pro", *(f"{n:,} × Invocations " + "long " * 30 for n in range(1000, 1040))))
    found = objects(pdf)
    [kids] = re.findall(rb"/Kids \[([^]]*)\]", found[2])
    pages = [int(number) for number in re.findall(rb"(\d+) 0 R", kids)]
    assert len(pages) > 1
    assert f"/Count {len(pages)} ".encode() in found[2]
    for page in pages:
        [contents] = re.findall(rb"/Contents (\d+) 0 R", found[page])
        head, _, rest = found[int(contents)].partition(b"\nstream\n")
        text = rest.removesuffix(b"\nendstream")
        assert head == b"<< /Length %d >>" % len(text)
        assert b"SIMULATED" in text
        assert text.count(b"BT") == text.count(b"ET")


def test_names_cannot_leave_their_text() -> None:
    text = render(invoice("1 × Tailcut Pro)\nET Q (", name="Ada (Ltd) \\ Söhne 馬"))
    assert "(Ada \\(Ltd\\) \\\\ Söhne ? ada@example.com)".encode("cp1252") in text
    assert b"(1 \xd7 Tailcut Pro\\) ET Q \\()" in text
    assert b"(29.00 USD)" in text
