"""Host → zygote → worker (the spawn document) and worker → host (ready, start failure). All JSON.

Dataclasses and not pydantic: the zygote and the worker import this, and they import little.
"""

from dataclasses import dataclass, field
from typing import Any, Literal

JAIL_FAILED = "JailFailed"
"""``type`` of a start failure that is the node's fault and not the function's."""

FRESH_UNAVAILABLE = "FreshStateUnavailable"
"""``type`` of a start failure that says: this function, on this node, cannot be rewound; the message says why."""


State = Literal["warm", "fresh", "forked"]
"""What an invocation finds. ``warm``: what the one before it left. ``fresh``, ``forked``: what the import left, because
the worker goes back to it, or because each invocation gets a process of its own."""


@dataclass(frozen=True, slots=True)
class SpawnSpec:
    """All that a worker needs to become one version of one tenant."""

    tenant: str
    function: str
    version_id: str
    code_path: str
    """The unpacked bundle, read-only. ``code_path`` and ``code_path/_packages`` lead ``sys.path``."""
    handler: str
    """``module:attribute``"""
    env: dict[str, str] = field(default_factory=dict)
    memory_bytes: int = 256 * 2**20
    """Until the gateway sets the worker's bound, which it does for each invocation."""
    tmp_bytes: int = 64 * 2**20
    """``tmp_bytes`` and below: ceilings that are set once, when the worker starts (``Limits`` in table.py)."""
    open_files_max: int = 128
    processes_max: int = 32
    processes: bool = False
    network: bool = False
    """Through the egress alone."""
    network_connections_max: int = 0
    network_bytes_per_minute: int = 0
    state: State = "warm"
    describe: bool = False
    """Whether ``Ready`` is to carry the OpenAPI description: only of the worker that proves a version it is read."""


@dataclass(frozen=True, slots=True)
class Ready:
    style: str
    """``typed``, ``request`` or ``event``"""
    is_async: bool
    python: str
    import_us: int
    operation: dict[str, Any] | None = None
    schemas: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StartFailed:
    type: str
    message: str
    traceback: str
