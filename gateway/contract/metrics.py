"""Zig → host: the counters, one JSON document (``zc_gateway_metrics``).

Written by ``zigcore/src/meter/counters.zig``. Counters only grow while the gateway lives; those of a version that has
left the revision are gone from the document (its Prometheus series ends; the ``version`` label keeps it from being
continued by another). Numbers of one document may be of slightly different moments.
"""

from typing import Literal, TypedDict

Outcome = Literal[
    "ok",
    "function_error",
    "invalid_arguments",
    "crashed",
    "timeout",
    "cpu_limit",
    "memory_limit",
    "output_limit",
    "refused_concurrency",
    "refused_rate",
    "refused_quota",
    "refused_status",
    "refused_queue",
    "refused_not_ready",
    "cancelled",
    "internal",
]
"""What became of an invocation whose route was found; each is counted once. ``ok``: the function answered, with
whatever status."""

WorkerState = Literal["starting", "idle", "busy", "stopping"]

METRICS_BYTES_START = 256 * 1024
"""A first buffer; ``zc_gateway_metrics`` says when it needs more (then add some: the next document may be longer)."""


class Histogram(TypedDict):
    count: int
    sum_ns: int
    buckets: list[tuple[int, int]]
    """(largest value in ns that belongs to the bucket, values in it): ascending, not cumulative, without empty ones."""


class Workers(TypedDict):
    starting: int
    idle: int
    busy: int
    stopping: int


class Reactor(TypedDict):
    """One reactor. Names ending in ``_total`` are counters, the others gauges."""

    cpu: int
    connections_open: int
    connections_accepted_total: int
    connections_refused_total: int
    """Over ``connections_max``: answered 503 and closed."""
    requests_total: int
    """Complete requests, those for ``/-/`` included."""
    received_bytes_total: int
    sent_bytes_total: int
    queue_length: int
    body_buffers_used: int
    receive_buffers_held: int
    """Full of what clients pipeline behind requests that are being served."""
    workers_started_total: int
    worker_starts_failed_total: int
    workers_crashed_total: int
    """Ended without being asked to."""
    forbidden_calls_total: int
    """Of them, ended for a system call that only a break-out needs."""
    events_dropped_total: int
    """Log lines that found the ring of events full."""
    workers_deadline: int
    """Workers that run under a CPU reservation."""
    reservations_admitted_total: int
    reservations_refused_total: int
    """By the kernel, or because the CPU's partition could not be made; the worker went elsewhere."""
    demotions_total: int
    """Invocations that burned CPU on a shared CPU and run when nobody else wants it."""
    usage_records_total: int
    """Usage records made, one for each admitted invocation. ``usage_*`` below: of those that a worker has run."""
    usage_executed_total: int
    usage_cpu_ns_total: int
    usage_wall_ns_total: int
    usage_request_bytes_total: int
    usage_response_bytes_total: int
    usage_log_bytes_total: int
    workers: Workers


class Outcomes(TypedDict, total=False):
    """Outcomes that never happened are left out."""

    ok: int
    function_error: int
    invalid_arguments: int
    crashed: int
    timeout: int
    cpu_limit: int
    memory_limit: int
    output_limit: int
    refused_concurrency: int
    refused_rate: int
    refused_quota: int
    refused_status: int
    refused_queue: int
    refused_not_ready: int
    cancelled: int
    internal: int


class Version(TypedDict):
    """A version that was called at least once."""

    index: int
    tenant: str
    function: str
    version: str
    outcomes: Outcomes


class Tenant(TypedDict):
    tenant: str
    in_flight: int
    concurrency_max: int


class ReservedCpu(TypedDict):
    """A CPU whose time is sold, in millionths of it."""

    cpu: int
    sellable_ppm: int
    sold_ppm: int


class Metrics(TypedDict):
    revision: int
    """0: none was applied yet; then ``versions`` and ``tenants`` are empty."""
    reserved_bytes: int
    """Address space taken at start; what is resident is less."""
    reactors: list[Reactor]
    reserved_cpus: list[ReservedCpu]
    """Empty: this node sells none."""
    versions: list[Version]
    tenants: list[Tenant]
    answers: dict[str, int]
    """Answers sent, by HTTP status, those of functions included; statuses that never happened are left out."""
    queue: Histogram
    """From the complete request to its dispatch."""
    start: Histogram
    """From the spawn request to the worker being ready."""
    run: Histogram
    """From the dispatch to the answer."""
