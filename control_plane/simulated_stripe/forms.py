"""Reads Stripe's form encoding (``items[0][price]=…``) and checks it against what a route takes.

Called by ``server`` before a route runs. What always holds afterwards: every value has the declared type, every
required one is there, and nothing is there that was not declared.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import parse_qsl

from control_plane.simulated_stripe.problems import ApiError

_FIELDS_MAX: Final = 2000
_DEPTH_MAX: Final = 8


@dataclass(frozen=True, slots=True)
class Kind:
    """How one parameter is read: ``text``, ``number``, ``decimal``, ``flag``, ``texts`` (a mapping), ``list`` …"""

    name: str
    required: bool = False
    inner: "Mapping[str, Kind]" = field(default_factory=dict)
    choices: tuple[str, ...] = ()


def text(*choices: str, required: bool = False) -> Kind:
    return Kind("text", required, choices=choices)


def number(*, required: bool = False) -> Kind:
    return Kind("number", required)


def decimal(*, required: bool = False) -> Kind:
    return Kind("decimal", required)


FLAG: Final = Kind("flag")
TEXTS: Final = Kind("texts")
TEXT_LIST: Final = Kind("text-list")


def group(*, required: bool = False, **inner: Kind) -> Kind:
    return Kind("group", required, inner)


def groups(*, required: bool = False, **inner: Kind) -> Kind:
    return Kind("list", required, inner)


def decode(encoded: str) -> dict[str, Any]:
    """Nested dictionaries; lists are still dictionaries with numbers as keys."""
    found: dict[str, Any] = {}
    try:
        pairs = parse_qsl(encoded, keep_blank_values=True, strict_parsing=bool(encoded), max_num_fields=_FIELDS_MAX)
    except ValueError:
        raise ApiError("Invalid request: the form cannot be read.") from None
    for name, value in pairs:
        path = name.replace("]", "").split("[")
        if len(path) > _DEPTH_MAX:
            raise ApiError(f"Invalid request: {name} is nested too deeply.", param=name)
        place = found
        for part in path[:-1]:
            place = place.setdefault(part, {})
            if not isinstance(place, dict):
                raise ApiError(f"Invalid request: {name} is a value and a group at once.", param=name)
        place[path[-1]] = value
    return found


def check(given: Mapping[str, Any], allowed: Mapping[str, Kind], where: str = "") -> dict[str, Any]:
    for name in given:
        if name not in allowed:
            raise ApiError(
                f"Received unknown parameter: {_path(where, name)}",
                code="parameter_unknown",
                param=_path(where, name),
            )
    for name, kind in allowed.items():
        if kind.required and given.get(name) in (None, ""):
            raise ApiError(
                f"Missing required param: {_path(where, name)}.", code="parameter_missing", param=_path(where, name)
            )
    return {name: _read(value, allowed[name], _path(where, name)) for name, value in given.items()}


def _read(value: Any, kind: Kind, where: str) -> Any:
    match kind.name:
        case "group" if isinstance(value, dict):
            return check(value, kind.inner, where)
        case "list" if isinstance(value, dict):
            return [
                check(each, kind.inner, f"{where}[{index}]") if isinstance(each, dict) else _invalid(where, each)
                for index, each in value.items()
            ]
        case "texts" if isinstance(value, dict) and all(isinstance(each, str) for each in value.values()):
            return dict(value)
        case "text-list" if isinstance(value, dict) and all(isinstance(each, str) for each in value.values()):
            return list(value.values())
    if not isinstance(value, str):
        return _invalid(where, value)
    match kind.name:
        case "text" if not kind.choices or value in kind.choices:
            return value
        case "number" if value.removeprefix("-").isdecimal() and len(value) < 19:
            return int(value)
        case "decimal" if _is_decimal(value):
            return value
        case "flag" if value in ("true", "false"):
            return value == "true"
    return _invalid(where, value)


def _is_decimal(value: str) -> bool:
    """At most twelve places, as Stripe's."""
    whole, _, places = value.partition(".")
    return whole.isdecimal() and (not places or places.isdecimal()) and len(places) <= 12


def _invalid(where: str, value: object) -> Any:
    shown = value if isinstance(value, str) else "a group"
    raise ApiError(f"Invalid value for {where}: {shown}", code="parameter_invalid", param=where)


def _path(where: str, name: str) -> str:
    return f"{where}[{name}]" if where else name
