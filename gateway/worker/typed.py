"""The typed style: a JSON object (or a query) becomes the arguments, validated against the annotations.

Called by ``adapter``. The arguments are a msgspec.Struct made from the signature, so a good call costs one C decode;
only a bad one is taken apart again, to name every argument that is wrong. What always holds: what is wrong with the
caller's input raises ``InvalidArguments``; the handler sees only values of the annotated types.
"""

import inspect
import typing
from collections.abc import Callable
from types import UnionType
from typing import Any, Union, get_args, get_origin

import msgspec

from gateway.worker import convert, defaults, head
from gateway.worker.failure import InvalidArguments
from gateway.worker.loader import StartError
from gateway.worker.signature import Argument, Handler

_SHOWN_MAX = 12
_PLAIN = (str, int, float, bool, bytes, type(None))
_JSON_HINTS = frozenset({*_PLAIN, list, dict, tuple, set, frozenset})
"""What JSON fills for sure: nobody needs to be asked."""


def make_struct(handler: Handler) -> type[msgspec.Struct]:
    """Raises StartError for an annotation that JSON cannot fill."""
    fields: list[Any] = []
    for argument in handler.arguments:
        _check(argument)
        if argument.default is inspect.Parameter.empty:
            fields.append((argument.name, argument.hint))
        else:
            fields.append((argument.name, argument.hint, _default(argument.default)))
    try:
        return msgspec.defstruct("Arguments", fields, kw_only=True, forbid_unknown_fields=True)
    except (TypeError, ValueError) as error:
        raise StartError("AnnotationInvalid", f"the handler's parameters cannot be validated: {error}") from error


def _default(value: Any) -> Any:
    # The same object each time, as in a call of Python: mutable ones go through a factory, which msgspec does not copy.
    if isinstance(value, _PLAIN):
        return value
    return msgspec.field(default_factory=lambda: value)


def _check(argument: Argument) -> None:
    if argument.hint is Any or (type(argument.hint) is type and argument.hint in _JSON_HINTS):
        return
    try:
        convert.schemas([argument.hint])
    except Exception as error:  # a bundle's own classes describe themselves here
        raise StartError(
            "AnnotationInvalid",
            f"parameter {argument.name!r}: JSON cannot become {_name(argument.hint)} ({error}); use str, int, float,"
            " bool, list, dict, Literal, an Enum, datetime, UUID, Decimal, a dataclass, a TypedDict or a model",
        ) from error


class Arguments:
    """Decodes the arguments of one function."""

    def __init__(self, handler: Handler) -> None:
        self.struct = make_struct(handler)
        self._hints = {argument.name: argument.hint for argument in handler.arguments}
        self._many = {name for name, hint in self._hints.items() if _takes_many(hint)}
        self._required = [each.name for each in handler.arguments if each.default is inspect.Parameter.empty]
        self._decode = msgspec.json.Decoder(self.struct, dec_hook=convert.decode).decode
        self.fill: Callable[[Any], None] | None = (
            defaults.fill if any(defaults.needed(each) for each in self._hints.values()) else None
        )

    def from_body(self, body: bytes) -> Any:
        try:
            return self._decode(body or b"{}")
        except msgspec.MsgspecError:
            raise self._explain(body or b"{}") from None
        except (UnicodeDecodeError, RecursionError) as error:
            raise _not_json(body, error) from None

    def from_query(self, query: str) -> Any:
        if not query and not self._required:
            return self.struct()
        try:
            pairs = head.query_arguments(query)
        except ValueError:
            raise InvalidArguments(f"the query has more than {head.QUERY_ARGUMENTS_MAX} arguments", []) from None
        values: dict[str, Any] = {}
        for name, value in pairs:
            if name in self._many:
                values.setdefault(name, []).append(value)
            else:
                values[name] = value
        try:
            return msgspec.convert(values, self.struct, strict=False, dec_hook=convert.decode)
        except msgspec.MsgspecError:
            raise self._invalid(values, strict=False) from None

    def _explain(self, body: bytes) -> InvalidArguments:
        try:
            values = msgspec.json.decode(body)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            return _not_json(body, error)
        if not isinstance(values, dict):
            return InvalidArguments(
                f"the body is a JSON {_json_name(values)}, needed is an object with the arguments"
                f" {_listing(list(self._hints))}",
                [],
            )
        return self._invalid(values, strict=True)

    def _invalid(self, values: dict[str, Any], *, strict: bool) -> InvalidArguments:
        """Names each bad argument: the missing, the wrong, the unknown."""
        wrong: list[tuple[str, str]] = []
        for name, hint in self._hints.items():
            if name not in values:
                if name in self._required:
                    wrong.append((name, f"missing; needed is {_name(hint)}"))
                continue
            try:
                msgspec.convert(values[name], hint, strict=strict, dec_hook=convert.decode)
            except (msgspec.MsgspecError, TypeError, ValueError) as error:
                wrong.append((name, str(error)))
        known = _listing(list(self._hints))
        wrong.extend((name, f"unknown; the function takes {known}") for name in values if name not in self._hints)
        names = _listing([name for name, _ in wrong])
        return InvalidArguments(f"{len(wrong)} bad argument{'s' if len(wrong) != 1 else ''}: {names}", wrong)


def _not_json(body: bytes, error: Exception) -> InvalidArguments:
    shown = body[:32].decode(errors="replace")
    return InvalidArguments(
        f"the body ({len(body)} bytes, it starts with {shown!r}) is not JSON: {error}; needed is a JSON object", []
    )


def _takes_many(hint: Any) -> bool:
    """Whether a repeated query argument fills it."""
    origin = get_origin(hint)
    if origin is typing.Annotated:
        return _takes_many(get_args(hint)[0])
    if origin in (Union, UnionType):
        return any(_takes_many(each) for each in get_args(hint))
    return (origin or hint) in (list, tuple, set, frozenset)


def _json_name(value: Any) -> str:
    if isinstance(value, bool):
        return "boolean"
    names = {list: "array", str: "string", int: "number", float: "number", type(None): "null"}
    return names.get(type(value), type(value).__name__)


def _listing(names: list[str]) -> str:
    if not names:
        return "no arguments"
    return ", ".join(names[:_SHOWN_MAX]) + (", …" if len(names) > _SHOWN_MAX else "")


def _name(hint: Any) -> str:
    if hint is Any:
        return "any JSON value"
    return hint.__qualname__ if isinstance(hint, type) else str(hint).replace("typing.", "")
