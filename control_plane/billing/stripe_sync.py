"""Makes products, prices and meters in Stripe from the tier versions in SQL. Repeating it makes nothing twice.

Called by ``python -m control_plane stripe-sync`` (and by ``app`` at its start when Stripe is simulated). What is there
is found again by its name: a product by its id, a price by its lookup key, a meter by its event's name. So it may be
killed anywhere and run again, also on a new database against the same Stripe.
"""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.billing import repository
from control_plane.billing.stripe_client import Object, StripeClient, StripeRefused
from control_plane.context import Context
from control_plane.models import AddOnVersion, StripeObject, TierVersion, now
from control_plane.tiers import repository as tiers
from control_plane.tiers.catalog import METERS, AddOn, Meter, Tier

_METER_TITLES: dict[Meter, str] = {"invocations": "Invocations", "cpu-ms": "CPU milliseconds", "mib-s": "MiB-seconds"}
_MILLION = 1_000_000


def event_name(meter: Meter) -> str:
    return f"tailcut_{meter.replace('-', '_')}"


def tier_price_key(tier: str, number: int) -> str:
    return f"tailcut_tier_{tier}_v{number}"


def meter_price_key(tier: str, number: int, meter: Meter) -> str:
    return f"{tier_price_key(tier, number)}_{meter.replace('-', '_')}"


def add_on_price_key(add_on: str, number: int) -> str:
    return f"tailcut_add_on_{add_on}_v{number}"


async def sync(context: Context, client: StripeClient) -> int:
    """→ how many objects were not known here before."""
    async with context.reading() as session:
        known = await repository.stripe_objects(session)
        versions = await tiers.current_tier_versions(session)
        add_ons = await tiers.current_add_on_versions(session)
    wanted = _Sync(context, client, {row.name: row.stripe_id for row in known})
    await wanted.run(versions, add_ons)
    return wanted.made


class _Sync:
    def __init__(self, context: Context, client: StripeClient, known: dict[str, str]) -> None:
        self._context = context
        self._client = client
        self._known = known
        self.made = 0

    async def run(self, versions: Sequence[TierVersion], add_ons: Sequence[AddOnVersion]) -> None:
        meters = {meter: await self._meter(meter) for meter in METERS}
        for version in versions:
            tier = Tier.model_validate(version.document)
            if not tier.price_minor:
                continue
            product = await self._product(f"tailcut_tier_{tier.name}", f"Tailcut {tier.title}", tier.summary)
            key = tier_price_key(tier.name, version.number)
            licensed = {
                "product": product, "currency": version.currency, "unit_amount": tier.price_minor,
                "recurring": {"interval": "month"}, "nickname": f"Tailcut {tier.title}",
            }  # fmt: skip
            await self._price(key, licensed, version.id, "tier")
            for meter in METERS if tier.overage is not None else ():
                params = _metered(tier, meter, meters[meter], version.currency)
                key = meter_price_key(tier.name, version.number, meter)
                await self._price(key, {"product": product, **params}, version.id, meter)
        for each in add_ons:
            add_on = AddOn.model_validate(each.document)
            product = await self._product(f"tailcut_add_on_{add_on.name}", f"Tailcut {add_on.title}", add_on.summary)
            params = {
                "product": product, "currency": each.currency, "unit_amount": add_on.price_minor,
                "recurring": {"interval": "month"}, "nickname": add_on.title,
            }  # fmt: skip
            await self._price(add_on_price_key(add_on.name, each.number), params, each.id, "add-on")

    async def _meter(self, meter: Meter) -> str:
        name = event_name(meter)
        if name in self._known:
            return self._known[name]
        found = next((each for each in await self._client.list_meters() if each["event_name"] == name), None)
        if found is None:
            found = await self._client.create_meter(
                {
                    "display_name": f"Tailcut {_METER_TITLES[meter]}",
                    "event_name": name,
                    "default_aggregation": {"formula": "sum"},
                    "customer_mapping": {"type": "by_id", "event_payload_key": "stripe_customer_id"},
                    "value_settings": {"event_payload_key": "value"},
                }
            )
        return await self._keep(name, "meter", found)

    async def _product(self, name: str, title: str, summary: str) -> str:
        if name in self._known:
            return self._known[name]
        try:
            found = await self._client.create_product({"id": name, "name": title, "description": summary})
        except StripeRefused as error:
            if not error.duplicate:
                raise
            found = await self._client.retrieve_product(name)
        return await self._keep(name, "product", found)

    async def _price(self, key: str, params: dict[str, Any], version_id: str, role: str) -> None:
        if key in self._known:
            return
        found = await self._client.find_price(key)
        if found is None:
            found = await self._client.create_price({"lookup_key": key, **params}, f"price {key}")
        await self._keep(key, "price", found, version_id, role)

    async def _keep(
        self, name: str, kind: str, found: Object, version_id: str | None = None, role: str | None = None
    ) -> str:
        async with self._context.writing() as session:
            await _replace(session, name, kind, str(found["id"]), version_id, role)
        self._known[name] = str(found["id"])
        self.made += 1
        return self._known[name]


async def _replace(
    session: AsyncSession, name: str, kind: str, stripe_id: str, version_id: str | None, role: str | None
) -> None:
    row = await session.get(StripeObject, name)
    if row is None:
        row = StripeObject(name=name, created_at=now())
        session.add(row)
    row.kind, row.stripe_id, row.version_id, row.role = kind, stripe_id, version_id, role


def _metered(tier: Tier, meter: Meter, meter_id: str, currency: str) -> dict[str, Any]:
    if tier.overage is None:
        raise AssertionError("only a tier with overage has metered prices")
    unit = Decimal(tier.overage.per_million(meter)) / _MILLION
    included = tier.month.included(meter)
    below = [{"up_to": included, "unit_amount": 0}] if included else []
    return {
        "currency": currency,
        "recurring": {"interval": "month", "usage_type": "metered", "meter": meter_id},
        "billing_scheme": "tiered",
        "tiers_mode": "graduated",
        "tiers": [*below, {"up_to": "inf", "unit_amount_decimal": unit}],
        "nickname": _METER_TITLES[meter],
    }
