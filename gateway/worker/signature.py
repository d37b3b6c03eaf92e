"""Which of the three styles a function has, read from its signature (docs: the HTTP contract).

- request: one parameter annotated ``tailcut.Request``
- event: two parameters, ``(event, context)``
- typed: anything else that a JSON object can fill: positional-or-keyword and keyword-only parameters, annotated or not;
  one annotated ``tailcut.Context`` receives the invocation's context and is no argument

Called by ``main`` and, once, by the zygote's warm-up. What always holds: a signature that is none of them raises
``StartError`` with the likely fix; nothing is guessed.
"""

import inspect
import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NoReturn

from tailcut._handler import Context, Request

from gateway.worker.loader import StartError

Style = Literal["typed", "request", "event"]

_EVENT_NAMES = frozenset({"event", "_event", "evt"})
_CONTEXT_NAMES = frozenset({"context", "_context", "ctx", "_ctx", "_"})


@dataclass(frozen=True, slots=True)
class Argument:
    name: str
    hint: Any
    """``Any`` when not annotated."""
    default: Any
    """``inspect.Parameter.empty`` when there is none."""


@dataclass(frozen=True, slots=True)
class Handler:
    function: Callable[..., Any]
    style: Style
    is_async: bool
    arguments: tuple[Argument, ...] = ()
    """Of the typed style, without the context."""
    positional: bool = True
    """All arguments may be passed by position, in this order."""
    context: str | None = None
    """The parameter that receives the context (typed style)."""
    returns: Any = Any

    @property
    def head_always(self) -> bool:
        """Whether method, path, query and headers matter for a POST, too."""
        return self.style != "typed" or self.context is not None


def recognise(function: Callable[..., Any]) -> Handler:
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError) as error:
        raise StartError(
            "SignatureUnclear", f"the handler's signature cannot be read ({error}): wrap it in a `def` with parameters"
        ) from error
    hints = _hints(function)
    is_async = inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(type(function), "__call__", None)  # noqa: B004 (an object with an async __call__)
    )
    for parameter in parameters:
        _check_kind(parameter)
    requests = [each.name for each in parameters if hints.get(each.name) is Request]
    if requests:
        if len(parameters) > 1:
            _unclear(
                f"parameter {requests[0]!r} is tailcut.Request, and there are {len(parameters) - 1} more",
                "take the Request alone (its query and json() have the arguments), or only plain arguments",
            )
        return Handler(function, "request", is_async)
    if _is_event(parameters):
        return Handler(function, "event", is_async)
    contexts = [each.name for each in parameters if hints.get(each.name) is Context]
    if len(contexts) > 1:
        _unclear(f"parameters {', '.join(contexts)} are all tailcut.Context", "keep one of them")
    plain = [each for each in parameters if each.name not in contexts]
    return Handler(
        function,
        "typed",
        is_async,
        tuple(Argument(each.name, hints.get(each.name, Any), each.default) for each in plain),
        positional=not contexts and all(each.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD for each in plain),
        context=contexts[0] if contexts else None,
        returns=hints.get("return", Any),
    )


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    # Annotations are the wrapped function's, and of an object with __call__ that method's.
    target: Any = inspect.unwrap(function)
    while hasattr(target, "func") and not inspect.isroutine(target):
        target = target.func
    if not inspect.isroutine(target):
        target = type(target).__call__
    try:
        return typing.get_type_hints(target, include_extras=True)
    except NameError as error:
        raise StartError(
            "AnnotationUnknown",
            f"an annotation of the handler names {error.name!r}, which its module does not define: import it there,"
            " not only under TYPE_CHECKING",
        ) from error
    except TypeError as error:
        raise StartError("AnnotationInvalid", f"an annotation of the handler is not a type: {error}") from error


def _is_event(parameters: list[inspect.Parameter]) -> bool:
    return (
        len(parameters) == 2
        and parameters[0].name in _EVENT_NAMES
        and parameters[1].name in _CONTEXT_NAMES
        and parameters[0].kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
        and parameters[1].kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
    )


def _check_kind(parameter: inspect.Parameter) -> None:
    name = parameter.name
    match parameter.kind:
        case inspect.Parameter.POSITIONAL_ONLY:
            _unclear(
                f"parameter {name!r} is positional-only, but arguments come by name",
                "remove the `/` from the signature",
            )
        case inspect.Parameter.VAR_POSITIONAL:
            _unclear(
                f"`*{name}` takes arguments without names",
                f"take a list, `{name}: list[…]`; if a decorator put it there, let it use functools.wraps",
            )
        case inspect.Parameter.VAR_KEYWORD:
            _unclear(
                f"`**{name}` takes arguments of any name, which nothing could validate",
                f"name the parameters, or take `{name}: dict[str, Any]`; if a decorator put it there, let it use"
                " functools.wraps",
            )


def _unclear(what: str, fix: str) -> NoReturn:
    raise StartError("SignatureUnclear", f"{what}: {fix}")
