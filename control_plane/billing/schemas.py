"""Purchases, invoices and spend caps as JSON. Money is in integer minor units with its currency."""

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from control_plane.models import Invoice, SpendCap
from gateway.contract.table import Name

Quantities = dict[Name, Annotated[int, Field(ge=0, le=1000, strict=True)]]
"""Strict, as all that costs money: ``true`` and ``"5"`` are no numbers."""


class PurchaseRequest(BaseModel):
    model_config = ConfigDict(extra="forbid")
    tier: Name
    add_ons: Quantities = {}
    """Name → quantity; what is not named is not part of it."""
    when: Literal["now", "period-end"] = "now"
    """Of a change: ``now`` with proration, or ``period-end``, where the paid month ends; then nothing is due now."""


class OfferOut(BaseModel):
    kind: Literal["checkout", "changed", "planned"]
    """``checkout``: pay at ``url``; the tier holds once Stripe says so. ``changed``: the existing subscription is
    changed, the difference is invoiced. ``planned``: it will be, at the end of the paid month."""
    url: str
    simulated: bool
    """No money moves."""


class PortalOut(BaseModel):
    url: str
    simulated: bool


class LineOut(BaseModel):
    description: str
    amount_minor: int
    quantity: int | None
    proration: bool
    period_start: datetime
    period_end: datetime


class PreviewOut(BaseModel):
    currency: str
    total_minor: int
    due_minor: int
    """After credit."""
    lines: list[LineOut]
    simulated: bool

    @classmethod
    def of(cls, found: dict[str, Any], *, simulated: bool) -> "PreviewOut":
        return cls(
            currency=found["currency"],
            total_minor=found["total"],
            due_minor=found["amount_due"],
            lines=[_line(line) for line in found["lines"]["data"]],
            simulated=simulated,
        )


class InvoiceOut(BaseModel):
    id: str
    number: str | None
    status: str
    currency: str
    total_minor: int
    tax_minor: int
    paid_minor: int
    period_start: datetime
    period_end: datetime
    url: str | None
    pdf_url: str | None
    created_at: datetime

    @classmethod
    def of(cls, row: Invoice) -> "InvoiceOut":
        return cls.model_validate({name: getattr(row, name) for name in cls.model_fields})


class InvoicePage(BaseModel):
    items: list[InvoiceOut]
    next_cursor: str | None


class SpendCapSet(BaseModel):
    model_config = ConfigDict(extra="forbid")
    amount_minor: Annotated[int, Field(ge=0, le=10**9, strict=True)]
    """For usage over what the tier includes, in a month."""
    action: Literal["stop", "alert"]
    """``stop``: calls are refused from there on. ``alert``: members are told."""


class SpendCapOut(SpendCapSet):
    function: str | None
    """Null: the whole tenant."""
    updated_at: datetime

    @classmethod
    def of(cls, row: SpendCap) -> "SpendCapOut":
        return cls.model_validate(
            {
                "amount_minor": row.amount_minor,
                "action": row.action,
                "function": row.function or None,
                "updated_at": row.updated_at,
            }
        )


class SpendCapList(BaseModel):
    items: list[SpendCapOut]


class BillingHealth(BaseModel):
    """For the operator."""

    simulated: bool
    configured: bool
    events: dict[str, int]
    """By state: stored (not handled yet), handled, ignored, failed"""
    meter_events: dict[str, int]
    """By state; ``refused`` and ``ambiguous`` need a person"""
    notes: list[str]


class Received(BaseModel):
    received: bool = True


def _line(line: dict[str, Any]) -> LineOut:
    details = line["parent"] and line["parent"].get("subscription_item_details")
    return LineOut(
        description=line["description"] or "",
        amount_minor=line["amount"],
        quantity=line["quantity"],
        proration=bool(details and details["proration"]),
        period_start=datetime.fromtimestamp(line["period"]["start"], UTC),
        period_end=datetime.fromtimestamp(line["period"]["end"], UTC),
    )
