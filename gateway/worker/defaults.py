"""Makes the defaults of decoded dataclasses their own attributes.

Called by ``typed``. msgspec leaves a default of a dataclass without slots on the class when it decodes, and encodes
only what the object itself holds: a dataclass that goes through a function would lose its defaults. What always holds:
``needed`` is asked once per function, and only functions that take such a dataclass pay for ``fill``.
"""

import dataclasses
import typing
from typing import Any


def needed(hint: Any, seen: set[int] | None = None) -> bool:
    """Whether a value of ``hint`` may hold a dataclass with defaults."""
    seen = set() if seen is None else seen
    if id(hint) in seen:
        return False
    seen.add(id(hint))
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        if any(field.default is not dataclasses.MISSING for field in dataclasses.fields(hint)):
            return True
        return any(needed(each, seen) for each in typing.get_type_hints(hint).values())
    if isinstance(hint, type) and hasattr(hint, "__annotations__") and issubclass(hint, dict | tuple):
        return any(needed(each, seen) for each in typing.get_type_hints(hint).values())
    return any(needed(each, seen) for each in typing.get_args(hint))


def fill(value: Any) -> None:
    """Walks what was decoded: trees, since JSON is one."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        held = getattr(value, "__dict__", None)
        for field in dataclasses.fields(value):
            if held is not None and field.default is not dataclasses.MISSING:
                held.setdefault(field.name, field.default)
            fill(getattr(value, field.name, None))
    elif isinstance(value, dict):
        for each in value.values():
            fill(each)
    elif isinstance(value, list | tuple | set | frozenset):
        for each in value:
            fill(each)
