"""Loads libzigcore.so and turns its status codes into exceptions."""

from enum import IntEnum
from functools import cache
from pathlib import Path
from typing import Any

from gateway.core._zigcore_abi import ffi  # type: ignore[import-not-found,unused-ignore]

ABI_VERSION = 4
LIBRARY_PATH = Path(__file__).with_name("libzigcore.so")


class Status(IntEnum):
    """``zc_status`` of zigcore.h."""

    OK = 0
    INVALID = 1
    NO_MEMORY = 2
    SYSTEM = 3
    STATE = 4
    TOO_LARGE = 5


class CoreError(Exception):
    """libzigcore refused: ``status`` says which kind, the text what and why."""

    def __init__(self, status: Status, text: str) -> None:
        super().__init__(f"{status.name.lower()}: {text}")
        self.status = status


@cache
def load() -> Any:
    """The library as cffi gives it, for the life of the process: cffi unmaps one that nobody refers to.

    Raises OSError when it is not built (run ``make setup``).
    """
    library = ffi.dlopen(str(LIBRARY_PATH))
    version = library.zc_abi_version()
    if version != ABI_VERSION:
        raise CoreError(
            Status.INVALID, f"{LIBRARY_PATH} has ABI {version}, this code needs {ABI_VERSION}: run make setup"
        )
    return library


def check(status: int, error: Any = None) -> None:
    """Raises CoreError unless ``status`` is OK; ``error`` is a ``zc_error *`` or None."""
    if status != Status.OK:
        text = ffi.string(error.text).decode(errors="replace") if error is not None else ""
        raise CoreError(Status(status), text)
