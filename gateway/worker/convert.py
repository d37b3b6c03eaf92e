"""JSON in and out for types that msgspec does not know itself: those of the bundle, by duck typing.

Called by ``typed``, ``answer`` and ``openapi``. A bundle may bring a pydantic or a msgspec of its own: their classes
are recognised by their methods, never by import. What always holds: a type that cannot be converted raises TypeError.
"""

import importlib
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec

_OWN = {"msgspec": msgspec, "msgspec._core": importlib.import_module("msgspec._core")}


def decode(hint: Any, value: Any) -> Any:
    """``dec_hook``: makes a ``hint`` of what JSON held. ValueError and TypeError become a bad argument."""
    if (validate := getattr(hint, "model_validate", None)) is not None:
        return validate(value)
    if hasattr(hint, "__struct_fields__"):
        return sys.modules["msgspec"].convert(value, hint)
    raise TypeError(f"nothing makes {_name(hint)} from JSON")


def encode(value: Any) -> Any:
    """``enc_hook``: what JSON holds for ``value``."""
    if (dump := getattr(value, "model_dump", None)) is not None:
        return dump(mode="json")
    if hasattr(value, "__struct_fields__"):
        return sys.modules["msgspec"].to_builtins(value)
    # Arrays and scalars of numpy and its relatives.
    if (to_list := getattr(value, "tolist", None)) is not None and hasattr(value, "dtype"):
        return to_list()
    raise TypeError(f"{_name(type(value))} has no JSON form")


def schemas(hints: Sequence[Any], template: str = "{name}") -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """JSON schemas of ``hints`` and what they refer to. TypeError for a type that ``decode`` cannot make either."""
    theirs = {name: sys.modules.get(name) for name in _OWN}

    def hook(hint: Any) -> dict[str, Any]:
        with _modules(theirs):
            return _schema(hint)

    # msgspec imports itself while it does this, and is hidden from sys.modules by then.
    with _modules(_OWN):
        described, components = msgspec.json.schema_components(hints, schema_hook=hook, ref_template=template)
    return list(described), components


@contextmanager
def _modules(wanted: dict[str, Any]) -> Iterator[None]:
    before = {name: sys.modules.get(name) for name in wanted}
    _put(wanted)
    try:
        yield
    finally:
        _put(before)


def _put(modules: dict[str, Any]) -> None:
    for name, module in modules.items():
        if module is None:
            sys.modules.pop(name, None)
        else:
            sys.modules[name] = module


def _schema(hint: Any) -> dict[str, Any]:
    if (describe := getattr(hint, "model_json_schema", None)) is not None:
        return dict(describe())
    if hasattr(hint, "__struct_fields__"):
        return dict(sys.modules["msgspec"].json.schema(hint))
    raise TypeError(f"nothing makes {_name(hint)} from JSON")


def _name(hint: Any) -> str:
    return getattr(hint, "__qualname__", None) or str(hint)
