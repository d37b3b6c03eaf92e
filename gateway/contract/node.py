"""Gateways → control plane: how a node is doing, one JSON document in Redis that each node writes every few seconds.

A node's document lies under ``node_key`` for ``NODE_KEPT_S`` after it was last written; the key's own time to live is
what tells how long ago that was, so that no two clocks have to agree. A document older than ``NODE_GONE_S`` means that
the node is gone. ``NODES_KEY`` is the set of names, from which readers drop those whose document has gone.
"""

from typing import Literal

from pydantic import BaseModel, ConfigDict

NODES_KEY = "tailcut:nodes"
NODE_KEPT_S = 3600
NODE_GONE_S = 15
TENANTS_MAX = 1000
"""Of the tenants that call, those with the most calls per second."""


def node_key(name: str) -> str:
    return f"tailcut:node:{name}"


class NodeCpu(BaseModel):
    """A shared CPU and its reactor."""

    model_config = ConfigDict(frozen=True, extra="ignore")
    cpu: int
    connections: int
    queue_length: int
    workers: dict[Literal["starting", "idle", "busy", "stopping"], int]
    calls_per_s: float


class ReservedCpu(BaseModel):
    """A CPU whose time is sold, in millionths of it."""

    model_config = ConfigDict(frozen=True, extra="ignore")
    cpu: int
    sellable_ppm: int
    sold_ppm: int


class NodeJournal(BaseModel):
    """What is written and not yet booked, and the disk under it."""

    model_config = ConfigDict(frozen=True, extra="ignore")
    unbooked_bytes: int
    full: bool
    """The next segment cannot be made: calls are refused once the last one is full."""


class DoctorLine(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")
    part: str
    state: str
    """``active``, ``missing`` or ``off``"""
    refused: str = ""
    costs: str = ""
    remedy: str = ""


class Doctor(BaseModel):
    """What ``tailcut-server doctor --json`` says; gateway/doctor.py explains the fields."""

    model_config = ConfigDict(frozen=True, extra="ignore")
    kernel: str
    rights: str
    setting: str
    whole: bool
    bounded: bool
    workers_are: str
    lines: list[DoctorLine]
    features: list[DoctorLine]
    groups: list[DoctorLine]
    scheduling: list[DoctorLine]
    leftover_groups: int = 0


class NodeState(BaseModel):
    """``…_per_s`` are over the time since the document before."""

    model_config = ConfigDict(frozen=True, extra="ignore")
    node: str
    epoch: int
    host: str
    version: str
    """Of the distribution tailcut-server."""
    kernel: str
    python: str
    at_unix_s: float
    """By the node's clock, for people only."""
    uptime_s: float
    draining: bool = False
    jail: str
    revision: int
    """The last one applied; -1: none yet."""
    table_age_s: float | None = None
    """Since it was last confirmed to be the newest; None: a gateway that does not say."""
    table_max_age_s: float = 0.0
    """At which the node refuses calls; 0: at none."""
    cpus: list[NodeCpu] = []
    reserved: list[ReservedCpu] = []
    workers_deadline: int = 0
    """Under a reservation now."""
    reservations_admitted: int = 0
    reservations_refused: int = 0
    versions: dict[str, int] = {}
    """By stage."""
    calls_total: int = 0
    calls_per_s: float = 0.0
    refused_per_s: float = 0.0
    failed_per_s: float = 0.0
    """Answers 5xx, the functions' own included."""
    cold_starts_per_s: float = 0.0
    queue_p99_ms: float | None = None
    run_p99_ms: float | None = None
    """Of the calls in between; None: there was none."""
    refusals: dict[str, int] = {}
    """By outcome, since the gateway's start."""
    answers: dict[str, int] = {}
    """By status, likewise."""
    memory_resident_bytes: int = 0
    """Of the gateway process."""
    workers_memory_bytes: int = 0
    machine_memory_bytes: int = 0
    machine_free_bytes: int = 0
    disk_bytes: int = 0
    disk_free_bytes: int = 0
    """Of the file system that holds the node's folder."""
    journal: NodeJournal | None = None
    log_lines_lost: int = 0
    revisions_refused: int = 0
    tenants: dict[str, float] = {}
    """Tenant → calls per second, of those that called."""
    doctor: Doctor | None = None
    """None until it was asked, some seconds after the start."""
