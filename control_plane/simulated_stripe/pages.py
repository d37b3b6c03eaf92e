"""The pages a browser sees: pay, portal, invoice. Each says in its first line that nothing here is real money.

No script, no style from elsewhere; every value is escaped.
"""

import html
from datetime import UTC, datetime
from typing import Final

from control_plane.simulated_stripe.objects import Object

_PAGE: Final = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title} (simulated)</title>
<style>
:root {{ color-scheme: light dark; font: 400 100%/1.55 system-ui, "Noto Sans", "DejaVu Sans", sans-serif;
--ground: light-dark(#f6f6f2, #0f1312); --surface: light-dark(#fff, #171c1a); --ink: light-dark(#161c19, #e9eeeb);
--soft: light-dark(#57635d, #a3afa9); --line: light-dark(#e2e4dd, #2a322f); --main: light-dark(#4338ca, #a5b4fc);
--on-main: light-dark(#fff, #1e1b4b); --bad: light-dark(#a3262b, #ff9f9b) }}
* {{ box-sizing: border-box }}
body {{ margin: 0; background: var(--ground); color: var(--ink); overflow-wrap: anywhere }}
.banner {{ background: #92400e; color: #fff; margin: 0; padding: .75rem 1rem; text-align: center; font-size: .875rem;
font-weight: 600 }}
main {{ max-width: 34rem; margin: 2rem auto; padding: 1.5rem 2rem 2rem; background: var(--surface);
border: 1px solid var(--line); border-radius: 10px }}
h1 {{ font-size: 1.5rem; line-height: 1.2; letter-spacing: -.02em; margin: 0 0 1rem }} h2 {{ font-size: 1.0625rem }}
a {{ color: var(--main) }} small {{ display: block; color: var(--soft); font-size: .8125rem }}
dl {{ display: grid; grid-template-columns: 4rem minmax(0, 1fr); gap: .25rem 1rem; margin: 0; font-size: .9375rem }}
dt {{ color: var(--soft) }} dd {{ margin: 0 }}
table {{ width: 100%; border-collapse: collapse; margin: 1.25rem 0; font-size: .9375rem }}
td, th {{ padding: .625rem 0; text-align: left; vertical-align: top; border-bottom: 1px solid var(--line) }}
td:last-child, th:last-child {{ text-align: right; white-space: nowrap; padding-left: 1rem;
font-variant-numeric: tabular-nums }}
form {{ display: inline }} button {{ font: inherit; font-weight: 570; min-height: 2.75rem; padding: .5rem 1.1rem;
border-radius: 7px; border: 1px solid var(--line); margin: .25rem .25rem .25rem 0; cursor: pointer;
background: transparent; color: inherit }}
button.main {{ background: var(--main); border-color: var(--main); color: var(--on-main) }}
.error {{ color: var(--bad); font-weight: 600 }}
button:focus-visible, a:focus-visible {{ outline: 3px solid #d97706; outline-offset: 2px; border-radius: 4px }}
@media (max-width: 44rem) {{ main {{ margin: 1rem; padding: 1rem 1.25rem 1.5rem }} }}
@media print {{ :root {{ color-scheme: light }} body {{ background: #fff }}
main {{ border: 0; margin: 0; max-width: none }}
.tools {{ display: none }} .banner {{ color: #000; background: none; border-bottom: 1px solid #000 }} }}
</style></head><body>
<p class="banner" role="status">
SIMULATED: this server stands in for Stripe. No card is asked for and no money moves.</p>
<main>{content}</main></body></html>
"""


def pay_page(session: Object, lines: list[tuple[str, int | None, int]], error: str = "") -> str:
    rows = "".join(
        f"<tr><td>{_safe(name)}{'' if quantity in (None, 1) else f' × {quantity}'}</td>"
        f"<td>{'by usage' if quantity is None else money(amount, session['currency'])}</td></tr>"
        for name, quantity, amount in lines
    )
    total = money(session["amount_total"], session["currency"])
    cancel = f'<p><a href="{_safe(session["cancel_url"])}">Back without buying</a></p>' if session["cancel_url"] else ""
    return _page(
        "Checkout",
        f"<h1>Subscribe</h1>{_error(error)}<table><thead><tr><th>Each month</th><th>Price</th></tr></thead>"
        f"<tbody>{rows}<tr><th>Due today</th><th>{total}</th></tr></tbody></table>"
        f"{_button('pay', f'Pay {total} (simulated)', main=True)}"
        f"{_button('decline', 'Try a card that is declined')}{cancel}",
    )


def portal_page(
    portal: Object, customer: Object, subscriptions: list[Object], invoices: list[Object], pays: bool, error: str = ""
) -> str:
    parts = [f"<h1>Billing of {_safe(customer['name'] or customer['id'])}</h1>", _error(error)]
    card = "The simulated card works." if pays else "The simulated card declines every charge."
    parts.append(f"<p>{card}</p>{_button('card', 'Use a card that declines' if pays else 'Use a card that works')}")
    for subscription in subscriptions:
        fixed = [
            each for each in subscription["items"]["data"] if each["price"]["recurring"]["usage_type"] == "licensed"
        ]
        names = ", ".join(_safe(item["price"]["nickname"]) for item in fixed)
        parts.append(f"<h2>{names}</h2><p>{_safe(subscription['status'])}</p>")
        if subscription["status"] != "canceled":
            ends = subscription["cancel_at_period_end"]
            text = "Keep the subscription" if ends else "Cancel at the end of the month"
            parts.append(_button("resume" if ends else "cancel", text, subscription["id"]))
    rows = "".join(
        f'<tr><td><a href="{_safe(invoice["hosted_invoice_url"])}">{_safe(invoice["number"])}</a> {invoice["status"]}'
        f"{_button('pay', 'Pay', invoice['id']) if invoice['status'] == 'open' else ''}</td>"
        f"<td>{money(invoice['total'], invoice['currency'])}</td></tr>"
        for invoice in invoices
    )
    parts.append(f"<h2>Invoices</h2><table><tbody>{rows}</tbody></table>")
    if portal["return_url"]:
        parts.append(f'<p><a href="{_safe(portal["return_url"])}">Back</a></p>')
    return _page("Billing", "".join(parts))


def invoice_page(invoice: Object) -> str:
    currency = invoice["currency"]
    rows = "".join(
        f"<tr><td>{_safe(line['description'])}<small>{day(line['period']['start'])} to "
        f"{day(line['period']['end'])}</small></td><td>{money(line['amount'], currency)}</td></tr>"
        for line in invoice["lines"]["data"]
    )
    credit = invoice["total"] - invoice["amount_due"]
    if credit:
        label = "Credit used" if credit > 0 else "Kept as credit"
        rows += f"<tr><td>{label}</td><td>{money(-credit, currency)}</td></tr>"
    facts = "".join(
        f"<dt>{label}</dt><dd>{_safe(value)}</dd>"
        for label, value in (
            ("Date", day(invoice["created"])),
            ("State", invoice["status"]),
            ("From", "Tailcut"),
            ("To", " · ".join(each for each in (invoice["customer_name"], invoice["customer_email"]) if each)),
        )
        if value
    )
    pdf = f'<p class="tools"><a href="{_safe(invoice["invoice_pdf"])}">PDF</a></p>' if invoice["invoice_pdf"] else ""
    return _page(
        f"Invoice {invoice['number'] or ''}",
        f"<h1>Invoice {_safe(invoice['number'] or 'draft')}</h1><dl>{facts}</dl><table><tbody>{rows}"
        f"<tr><th>Total</th><th>{money(invoice['total'], currency)}</th></tr>"
        f"<tr><th>Amount due</th><th>{money(invoice['amount_remaining'], currency)}</th></tr></tbody></table>{pdf}",
    )


def error_page(message: str) -> str:
    return _page("Error", f"<h1>That did not work</h1>{_error(message)}")


def money(amount: int, currency: str) -> str:
    whole, cents = divmod(abs(amount), 100)
    return f"{'−' if amount < 0 else ''}{whole:,}.{cents:02} {_safe(currency.upper())}"


def day(at: int) -> str:
    return datetime.fromtimestamp(at, UTC).date().isoformat()


def _button(action: str, text: str, subject: str = "", *, main: bool = False) -> str:
    kind = ' class="main"' if main else ""
    return (
        f'<form method="post"><input type="hidden" name="action" value="{action}"><input type="hidden" name="subject" '
        f'value="{_safe(subject)}"><button{kind}>{_safe(text)}</button></form>'
    )


def _error(message: str) -> str:
    return f'<p class="error" role="alert">{_safe(message)}</p>' if message else ""


def _page(title: str, content: str) -> str:
    return _PAGE.format(title=_safe(title), content=content)


def _safe(text: object) -> str:
    return html.escape(str(text), quote=True)
