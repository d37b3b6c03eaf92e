"""The tier catalogue: its shape, its rules, and the reader of ``catalog.toml``.

Called at every start by ``service.sync_catalog`` (through ``migrate``) and by tests. What always holds of a catalogue
that loads: names are unique, ranks rise, a higher tier that is sold allows no less than a lower one in anything, the
tiers that are named elsewhere exist, and what a tenant falls back to costs nothing. Money is integer minor units.
"""

import hashlib
import json
import tomllib
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from gateway.contract.table import Limits, Name, Reservation

DEFAULT_PATH: Final = Path(__file__).with_name("catalog.toml")
MIB_PER_GIB: Final = 1024
_COUNT_MAX: Final = 10**12
"""Far from the end of 64 bits also in microseconds."""
_MINOR_MAX: Final = 10**9

Count = Annotated[int, Field(ge=0, le=_COUNT_MAX)]
Minor = Annotated[int, Field(ge=0, le=_MINOR_MAX)]
Meter = Literal["invocations", "cpu-ms", "mib-s"]
METERS: Final[tuple[Meter, ...]] = ("invocations", "cpu-ms", "mib-s")


class CatalogError(Exception):
    """The file cannot be used; each line of the message says where, what and why."""


class _Document(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


def _bounds(name: str, *, required: bool = True) -> Any:
    """As the contract bounds the limit of this name, so that no tier promises what a gateway would refuse."""
    lowest, highest = bounds_of(Limits, name)
    default = ... if required else Limits.model_fields[name].default
    return Field(default=default, ge=lowest, le=highest)


def bounds_of(model: type[BaseModel], name: str) -> tuple[int, int]:
    metadata = model.model_fields[name].metadata
    lowest = next(bound.ge for bound in metadata if hasattr(bound, "ge"))
    highest = next(bound.le for bound in metadata if hasattr(bound, "le"))
    return lowest, highest


class InvocationLimits(_Document):
    """The most that one invocation may use; names and bounds are those of the contract's ``Limits``."""

    timeout_ms: int = _bounds("timeout_ms")
    cpu_ms: int = _bounds("cpu_ms")
    memory_bytes: int = _bounds("memory_bytes")
    tmp_bytes: int = _bounds("tmp_bytes")
    request_bytes_max: int = _bounds("request_bytes_max")
    output_bytes_max: int = _bounds("output_bytes_max")
    log_bytes_max: int = _bounds("log_bytes_max")
    processes_max: int = _bounds("processes_max")
    open_files_max: int = _bounds("open_files_max")
    # With defaults: tiers that were bought before there was a network.
    network_connections_max: int = _bounds("network_connections_max", required=False)
    network_bytes_per_minute: int = _bounds("network_bytes_per_minute", required=False)


class Admission(_Document):
    """Bounds of the whole tenant."""

    rate_per_s: int = Field(ge=1, le=1_000_000)
    burst: int = Field(ge=1, le=1_000_000)
    concurrency_max: int = Field(ge=1, le=65_536)
    functions_max: int = Field(ge=1, le=100_000)
    cpu_weight: int = Field(ge=1, le=10_000)
    log_retention_days: int = Field(ge=1, le=3650)


class Month(_Document):
    """What a month includes."""

    invocations: Count
    cpu_seconds: Count
    gib_seconds: Count

    def included(self, meter: Meter) -> int:
        """In the meter's own unit."""
        match meter:
            case "invocations":
                return self.invocations
            case "cpu-ms":
                return self.cpu_seconds * 1000
            case "mib-s":
                return self.gib_seconds * MIB_PER_GIB


class Overage(_Document):
    """What usage over the included costs. A tier without it stops there."""

    million_invocations_minor: Minor
    thousand_cpu_seconds_minor: Minor
    million_mib_seconds_minor: Minor

    def per_million(self, meter: Meter) -> int:
        """Minor units for a million of the meter's units (a thousand CPU-seconds are a million CPU-ms)."""
        match meter:
            case "invocations":
                return self.million_invocations_minor
            case "cpu-ms":
                return self.thousand_cpu_seconds_minor
            case "mib-s":
                return self.million_mib_seconds_minor


class TierReservation(Reservation):
    """CPU bandwidth that the kernel guarantees to each of the tenant's reserved workers (sched(7), SCHED_DEADLINE)."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.runtime_us <= self.deadline_us <= self.period_us:
            raise ValueError(
                f"runtime_us ≤ deadline_us ≤ period_us must hold (sched_setattr(2)); it is {self.runtime_us}, "
                f"{self.deadline_us}, {self.period_us}"
            )
        return self


class Tier(_Document):
    name: Name
    title: str = Field(min_length=1, max_length=60)
    summary: str = Field(max_length=300)
    rank: int = Field(ge=0, le=1000)
    """Where it stands among the others: an upgrade leads to a higher one."""
    sold: bool
    """Whether tenants may choose it themselves."""
    price_minor: Minor
    """Per month."""
    invocation: InvocationLimits
    admission: Admission
    month: Month
    overage: Overage | None = None
    reservation: TierReservation | None = None

    @model_validator(mode="after")
    def _payable(self) -> Self:
        if self.price_minor == 0 and self.overage is not None:
            raise ValueError("a tier that costs nothing has no [overage]: nobody has given a way to pay")
        return self


class Grants(_Document):
    """What one piece of an add-on adds."""

    concurrency: int = Field(default=0, ge=0, le=65_536)
    reserved_workers: int = Field(default=0, ge=0, le=1024)

    @model_validator(mode="after")
    def _something(self) -> Self:
        if not (self.concurrency or self.reserved_workers):
            raise ValueError("an add-on grants something: concurrency or reserved_workers")
        return self


class AddOn(_Document):
    name: Name
    title: str = Field(min_length=1, max_length=60)
    summary: str = Field(max_length=300)
    tiers: tuple[Name, ...] = Field(min_length=1)
    """That it can be bought with."""
    price_minor: int = Field(ge=1, le=_MINOR_MAX)
    """Per month and piece."""
    quantity_max: int = Field(ge=1, le=1000)
    grants: Grants


class Catalog(_Document):
    schema_version: Literal[1]
    currency: str = Field(pattern="^[a-z]{3}$")
    default_tier: Name
    fallback_tier: Name
    development_tier: Name
    tiers: tuple[Tier, ...] = Field(min_length=1, max_length=100)
    add_ons: tuple[AddOn, ...] = Field(default=(), max_length=100)

    def tier(self, name: str) -> Tier | None:
        return next((tier for tier in self.tiers if tier.name == name), None)

    def add_on(self, name: str) -> AddOn | None:
        return next((add_on for add_on in self.add_ons if add_on.name == name), None)

    @model_validator(mode="after")
    def _coherent(self) -> Self:
        problems = [*_names_problems(self), *_order_problems(self)]
        if problems:
            raise ValueError("; ".join(problems))
        return self


def load_catalog(path: Path = DEFAULT_PATH) -> Catalog:
    """Raises CatalogError."""
    try:
        return Catalog.model_validate(tomllib.loads(path.read_text()))
    except OSError as error:
        raise CatalogError(f"{path} cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise CatalogError(f"{path} is not TOML: {error}") from None
    except ValidationError as error:
        raise CatalogError("\n".join(f"{path}: {line}" for line in _lines(error))) from None


def content_hash(document: BaseModel) -> str:
    """Of what a tier says, not of how the file is written."""
    text = json.dumps(document.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _lines(error: ValidationError) -> list[str]:
    lines = []
    for each in error.errors(include_url=False):
        where = ".".join(str(part) for part in each["loc"]) or "the catalogue"
        value: Any = each["input"]
        shown = "" if isinstance(value, dict | list | tuple | BaseModel) else f" is {value!r}"
        lines.append(f"{where}{shown}: {each['msg'].removeprefix('Value error, ')}")
    return lines


def _names_problems(catalog: Catalog) -> list[str]:
    names = [tier.name for tier in catalog.tiers]
    add_ons = [add_on.name for add_on in catalog.add_ons]
    problems = [f"the tier {name!r} is there twice" for name in sorted({n for n in names if names.count(n) > 1})]
    problems += [f"the add-on {name!r} is there twice" for name in sorted({n for n in add_ons if add_ons.count(n) > 1})]
    for role in ("default_tier", "fallback_tier", "development_tier"):
        tier = catalog.tier(getattr(catalog, role))
        if tier is None:
            problems.append(f"{role} is {getattr(catalog, role)!r}; the tiers are {', '.join(names)}")
        elif tier.price_minor:
            problems.append(f"{role} is {tier.name!r}, which costs {tier.price_minor} a month; it must cost nothing")
    for add_on in catalog.add_ons:
        problems += [
            f"the add-on {add_on.name!r} names the tier {name!r}; the tiers are {', '.join(names)}"
            for name in add_on.tiers
            if name not in names
        ]
        if add_on.grants.reserved_workers:
            problems += [
                f"the add-on {add_on.name!r} reserves CPU on {name!r}, which has no [reservation]"
                for name in add_on.tiers
                if (tier := catalog.tier(name)) is not None and tier.reservation is None
            ]
    return problems


def _order_problems(catalog: Catalog) -> list[str]:
    ranks = [tier.rank for tier in catalog.tiers]
    if ranks != sorted(set(ranks)):
        return [f"ranks must rise from tier to tier; they are {ranks}"]
    problems = []
    sold = [tier for tier in catalog.tiers if tier.sold]
    for lower, higher in pairwise(sold):
        for part in ("invocation", "admission", "month"):
            below, above = getattr(lower, part).model_dump(), getattr(higher, part).model_dump()
            problems += [
                f"{higher.name!r} allows {above[name]} {part}.{name}, less than the lower tier {lower.name!r} with "
                f"{below[name]}"
                for name in below
                if above[name] < below[name]
            ]
        if higher.price_minor < lower.price_minor:
            problems.append(f"{higher.name!r} costs less than the lower tier {lower.name!r}")
    return problems
