"""Tailcut: deploy Python functions to a Tailcut gateway and call them.

What is promised is in ``__all__``; every other module is private. The clients are imported when they are first used:
functions import this package in a worker, where an HTTP library would only cost memory and time.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tailcut._async_client import AsyncClient as AsyncClient
    from tailcut._client import Client as Client
    from tailcut._deploy import Progress as Progress
    from tailcut._errors import AnswerInvalid as AnswerInvalid
    from tailcut._errors import AnswerMissing as AnswerMissing
    from tailcut._errors import ApiError as ApiError
    from tailcut._errors import BadRequest as BadRequest
    from tailcut._errors import ConfigurationError as ConfigurationError
    from tailcut._errors import Conflict as Conflict
    from tailcut._errors import ConnectionFailed as ConnectionFailed
    from tailcut._errors import DependencyError as DependencyError
    from tailcut._errors import Forbidden as Forbidden
    from tailcut._errors import FunctionCrashed as FunctionCrashed
    from tailcut._errors import FunctionError as FunctionError
    from tailcut._errors import FunctionLimitExceeded as FunctionLimitExceeded
    from tailcut._errors import FunctionTimeout as FunctionTimeout
    from tailcut._errors import InvalidArguments as InvalidArguments
    from tailcut._errors import NotFound as NotFound
    from tailcut._errors import Overloaded as Overloaded
    from tailcut._errors import ProjectError as ProjectError
    from tailcut._errors import QuotaExceeded as QuotaExceeded
    from tailcut._errors import StartFailed as StartFailed
    from tailcut._errors import StartTimeout as StartTimeout
    from tailcut._errors import TailcutError as TailcutError
    from tailcut._errors import TierLimit as TierLimit
    from tailcut._errors import Unauthorized as Unauthorized
    from tailcut._handler import Context as Context
    from tailcut._handler import Request as Request
    from tailcut._handler import Response as Response
    from tailcut._limits import CpuLimitExceeded as CpuLimitExceeded
    from tailcut._limits import TimeLimitExceeded as TimeLimitExceeded
    from tailcut._models import Alias as Alias
    from tailcut._models import Deployment as Deployment
    from tailcut._models import Function as Function
    from tailcut._models import Invocation as Invocation
    from tailcut._models import Key as Key
    from tailcut._models import NewKey as NewKey
    from tailcut._models import Page as Page
    from tailcut._models import Runtime as Runtime
    from tailcut._models import StartError as StartError
    from tailcut._models import Tenant as Tenant
    from tailcut._models import Version as Version
    from tailcut._warmup import warmup as warmup

__version__ = "0.1.0"

_LAZY = {
    "_async_client": ("AsyncClient",),
    "_client": ("Client",),
    "_deploy": ("Progress",),
    "_errors": (
        "AnswerInvalid",
        "AnswerMissing",
        "ApiError",
        "BadRequest",
        "ConfigurationError",
        "Conflict",
        "ConnectionFailed",
        "DependencyError",
        "Forbidden",
        "FunctionCrashed",
        "FunctionError",
        "FunctionLimitExceeded",
        "FunctionTimeout",
        "InvalidArguments",
        "NotFound",
        "Overloaded",
        "ProjectError",
        "QuotaExceeded",
        "StartFailed",
        "StartTimeout",
        "TailcutError",
        "TierLimit",
        "Unauthorized",
    ),
    "_handler": ("Context", "Request", "Response"),
    "_limits": ("CpuLimitExceeded", "TimeLimitExceeded"),
    "_models": (
        "Alias",
        "Deployment",
        "Function",
        "Invocation",
        "Key",
        "NewKey",
        "Page",
        "Runtime",
        "StartError",
        "Tenant",
        "Version",
    ),
    "_warmup": ("warmup",),
}
_HOME = {name: module for module, names in _LAZY.items() for name in names}

__all__ = [
    "Alias",
    "AnswerInvalid",
    "AnswerMissing",
    "ApiError",
    "AsyncClient",
    "BadRequest",
    "Client",
    "ConfigurationError",
    "Conflict",
    "ConnectionFailed",
    "Context",
    "CpuLimitExceeded",
    "DependencyError",
    "Deployment",
    "Forbidden",
    "Function",
    "FunctionCrashed",
    "FunctionError",
    "FunctionLimitExceeded",
    "FunctionTimeout",
    "InvalidArguments",
    "Invocation",
    "Key",
    "NewKey",
    "NotFound",
    "Overloaded",
    "Page",
    "Progress",
    "ProjectError",
    "QuotaExceeded",
    "Request",
    "Response",
    "Runtime",
    "StartError",
    "StartFailed",
    "StartTimeout",
    "TailcutError",
    "Tenant",
    "TierLimit",
    "TimeLimitExceeded",
    "Unauthorized",
    "Version",
    "warmup",
]


def __getattr__(name: str) -> Any:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module 'tailcut' has no attribute {name!r}")
    value = getattr(import_module(f"tailcut.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
