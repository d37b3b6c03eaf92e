"""Imports ``module:attribute`` from the bundle.

Called by ``main``, once. What always holds: what is wrong with the bundle raises ``StartError`` with the likely fix, or
the import's own exception, unchanged; a result is callable and not a class.
"""

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

NAMES_SHOWN_MAX = 12


class StartError(Exception):
    """The function cannot be served as it is written; ``kind`` is a stable name for programs."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


def load(handler: str, code_path: str) -> Callable[..., Any]:
    module_name, separator, attribute = handler.partition(":")
    if not (separator and module_name and attribute.isidentifier()):
        raise StartError("HandlerInvalid", f"handler {handler!r} is not of the form module:function, e.g. main:hello")
    module = _import(module_name, code_path)
    try:
        function = getattr(module, attribute)
    except AttributeError:
        found = sorted(
            name
            for name, value in vars(module).items()
            if callable(value) and getattr(value, "__module__", None) == module_name and not name.startswith("_")
        )
        raise StartError(
            "HandlerMissing", f"module {module_name!r} has no {attribute!r}; {_listing('functions in it', found)}"
        ) from None
    if isinstance(function, type) or not callable(function):
        raise StartError(
            "HandlerNotCallable",
            f"{handler} is {'a class' if isinstance(function, type) else f'of type {type(function).__name__}'},"
            " a handler is a function",
        )
    return function  # type: ignore[no-any-return]


def _import(name: str, code_path: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        # Only when the handler's own module is missing; one that it imports in vain is shown as it is.
        if error.name is None or not (name == error.name or name.startswith(f"{error.name}.")):
            raise
        found = sorted(path.stem for path in Path(code_path).glob("*.py"))
        raise StartError(
            "HandlerMissing", f"the bundle has no module {name!r}; {_listing('modules at its top', found)}"
        ) from None


def _listing(what: str, names: list[str]) -> str:
    shown = ", ".join(names[:NAMES_SHOWN_MAX]) or "none"
    return f"{what}: {shown}{', …' if len(names) > NAMES_SHOWN_MAX else ''}"
