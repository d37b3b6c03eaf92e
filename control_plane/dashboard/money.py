"""Money as people read and type it. Inside it is integer minor units with a currency; nothing here is a float.

``money`` is a filter of the templates; forms use ``minor_of``.
"""

from decimal import Decimal, InvalidOperation
from typing import Final

_SIGNS: Final = {"usd": "$", "eur": "€", "gbp": "£"}
_WITHOUT_MINOR: Final = frozenset(
    ["bif", "clp", "djf", "gnf", "jpy", "kmf", "krw", "mga", "pyg", "rwf", "ugx", "vnd", "vuv", "xaf", "xof", "xpf"]
)
"""https://docs.stripe.com/currencies#zero-decimal"""


def money(amount_minor: float, currency: str = "usd") -> str:
    """``$29.00``, ``−$3.10``, ``1,000 JPY``"""
    amount_minor = round(amount_minor)
    minus = "−" if amount_minor < 0 else ""
    if currency in _WITHOUT_MINOR:
        number = f"{abs(amount_minor):,}"
    else:
        whole, rest = divmod(abs(amount_minor), 100)
        number = f"{whole:,}.{rest:02}"
    sign = _SIGNS.get(currency)
    return f"{minus}{sign}{number}" if sign else f"{minus}{number} {currency.upper()}"


def price(amount_minor: int, currency: str) -> str:
    """For headings: ``$29`` where there are no cents."""
    return money(amount_minor, currency).replace(".00", "")


def typed(amount_minor: int, currency: str) -> str:
    """As a form holds it: ``29.00``"""
    if currency in _WITHOUT_MINOR:
        return str(amount_minor)
    return f"{amount_minor // 100}.{amount_minor % 100:02}"


def minor_of(text: str, currency: str) -> int | None:
    """``29`` or ``29.50`` → 2900 or 2950. None: it is no amount, or finer than the currency."""
    try:
        amount = Decimal(text.strip())
    except InvalidOperation:
        return None
    if not amount.is_finite() or amount < 0 or amount > 10**9:
        return None
    minor = amount if currency in _WITHOUT_MINOR else amount * 100
    return int(minor) if minor == int(minor) else None
