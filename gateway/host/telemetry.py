"""The pages of the admin port: Prometheus metrics out of Zig's counters, health, readiness.

The counters are read when somebody asks (a custom collector), so they cost nothing in between. Names and units follow
Prometheus' conventions: seconds and bytes; counters end in ``_total``.
"""

import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from gateway.contract.egress import Counters
from gateway.contract.metrics import Histogram, Metrics, Reactor, ReservedCpu
from gateway.host import egress
from gateway.host.admin import AdminAnswer
from gateway.host.versions import Stage

if TYPE_CHECKING:
    from gateway.host.node import Node

_CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECOND_NS = 1e9
_WHOLE_PPM = 1e6
_BUCKETS_S = (
    1e-5, 2.5e-5, 5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2, 5e-2, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0,
    10.0, 30.0, 60.0, 300.0, 900.0,
)  # fmt: skip
_REACTOR_COUNTERS = {
    "connections_accepted_total": "Connections accepted",
    "connections_refused_total": "Connections answered 503 because the reactor had its most",
    "requests_total": "Complete requests received, those for /-/ included",
    "received_bytes_total": "Bytes received from clients",
    "sent_bytes_total": "Bytes sent to clients",
    "workers_started_total": "Workers that became ready",
    "worker_starts_failed_total": "Workers that did not become ready",
    "workers_crashed_total": "Workers that ended without being asked to",
    "forbidden_calls_total": "Workers that were ended for a system call that only a break-out needs",
    "events_dropped_total": "Lines of function output that were lost",
    "usage_records_total": "Usage records: one for each admitted invocation",
    "usage_executed_total": "Invocations that a worker has run",
    "usage_cpu_ns_total": "CPU time of executed invocations, ns",
    "usage_wall_ns_total": "From their dispatch to their end, ns",
    "usage_request_bytes_total": "Bodies of their requests",
    "usage_response_bytes_total": "Bodies of their answers",
    "usage_log_bytes_total": "Their output",
    "reservations_admitted_total": "Workers whose CPU reservation the kernel admitted",
    "reservations_refused_total": "Workers whose CPU reservation could not be had",
    "demotions_total": "Invocations that burned a shared CPU and were put behind short ones",
}
_REACTOR_GAUGES = {
    "connections_open": "Open connections",
    "workers_deadline": "Workers that run under a CPU reservation",
    "queue_length": "Invocations that wait for a worker",
    "body_buffers_used": "Large buffers in use",
    "receive_buffers_held": "Receive buffers full of what clients pipeline behind requests that are being served",
}
_HISTOGRAMS = {
    "queue": "From the complete request to its dispatch",
    "start": "From the spawn request to the worker being ready",
    "run": "From the dispatch to the answer",
}


class Telemetry(Collector):
    """What a node tells about itself."""

    def __init__(self, node: "Node") -> None:
        self._node = node
        self._registry = CollectorRegistry()
        self._registry.register(self)

    def pages(self) -> dict[str, Callable[[], AdminAnswer]]:
        return {"/-/metrics": self._metrics, "/-/healthz": self._healthz, "/-/readyz": self._readyz}

    def describe(self) -> list[Metric]:
        """Nothing in advance: prometheus-client would read the counters to find the names."""
        return []

    def collect(self) -> Iterator[Metric]:
        document = self._node.data_plane.metrics()
        yield from self._own(document)
        yield from _reactors(document["reactors"])
        yield from _reserved(document["reserved_cpus"])
        yield from _invocations(document)
        yield from _egress(egress.counters(self._node.settings.egress_path))
        for name, help_text in _HISTOGRAMS.items():
            yield _histogram(f"tailcut_invocation_{name}_seconds", help_text, document[name])  # type: ignore[literal-required]

    def _metrics(self) -> AdminAnswer:
        return AdminAnswer(200, generate_latest(self._registry), _CONTENT_TYPE)

    def _healthz(self) -> AdminAnswer:
        return AdminAnswer(200, b"ok\n")

    def _readyz(self) -> AdminAnswer:
        node = self._node
        document = {
            "ready": node.is_ready,
            "revision": node.applied.revision if node.applied else None,
            "redis_connected": node.feed.connected,
            "table_age_s": round(node.table_age.age_s, 1),
            "table_max_age_s": node.table_age.max_s,
            "table_expired": node.table_age.is_over,
            "draining": node.draining,
            "jail": node.settings.jail,
        }
        return AdminAnswer(200 if node.is_ready else 503, json.dumps(document).encode() + b"\n", "application/json")

    def _own(self, document: Metrics) -> Iterator[Metric]:
        node = self._node
        lag = node.shipping.lag
        gauges = {
            "tailcut_revision": ("Revision of the table that is served", document["revision"]),
            "tailcut_redis_connected": ("1 while Redis is connected", int(node.feed.connected)),
            "tailcut_table_age_seconds": (
                "Since the table was last confirmed to be the newest",
                node.table_age.age_s,
            ),
            "tailcut_table_max_age_seconds": ("At which calls are refused; 0: at none", node.table_age.max_s),
            "tailcut_reports_waiting": ("Reports that wait for Redis", node.reports.waiting),
            "tailcut_memory_reserved_bytes": ("Address space taken at start", document["reserved_bytes"]),
            "tailcut_memory_resident_bytes": ("Resident memory of the gateway process", _resident_bytes()),
            "tailcut_usage_unbooked_bytes": ("In the journal, not yet booked in SQL", lag.unbooked_bytes),
            "tailcut_usage_oldest_unbooked_seconds": (
                "Age of the oldest usage record that is not booked",
                0 if lag.oldest_unix_s is None else max(0.0, time.time() - lag.oldest_unix_s),
            ),
            "tailcut_usage_journal_bytes": ("The journal's files", lag.journal_bytes),
            "tailcut_usage_journal_full": ("1 while the disk has no room for the journal", int(lag.full)),
            "tailcut_usage_dead_letters": ("Records of any node that could not be booked", node.shipping.dead_letters),
            "tailcut_workers_memory_bytes": ("Proportional memory of all workers", node.workers.memory_bytes()),
        }
        for name, (help_text, value) in gauges.items():
            yield GaugeMetricFamily(name, help_text, value=value)
        yield CounterMetricFamily("tailcut_revisions_refused", "Revisions not applied", value=node.apply_failures)
        lost = node.events.lost + node.function_log.lost_lines
        yield CounterMetricFamily("tailcut_function_log_lines_lost", "Lines of output not stored", value=lost)
        stages = GaugeMetricFamily("tailcut_versions", "Versions on this node by stage", labels=["stage"])
        for stage in Stage:
            count = sum(state.stage is stage for state in node.versions.states.values())
            stages.add_metric([stage.value], count)
        yield stages


def _reactors(reactors: list[Reactor]) -> Iterator[Metric]:
    for name, help_text in _REACTOR_COUNTERS.items():
        counter = CounterMetricFamily(f"tailcut_{name.removesuffix('_total')}", help_text, labels=["cpu"])
        for reactor in reactors:
            counter.add_metric([str(reactor["cpu"])], reactor[name])  # type: ignore[literal-required]
        yield counter
    for name, help_text in _REACTOR_GAUGES.items():
        gauge = GaugeMetricFamily(f"tailcut_{name}", help_text, labels=["cpu"])
        for reactor in reactors:
            gauge.add_metric([str(reactor["cpu"])], reactor[name])  # type: ignore[literal-required]
        yield gauge
    workers = GaugeMetricFamily("tailcut_workers", "Workers by state", labels=["cpu", "state"])
    for reactor in reactors:
        for state, count in reactor["workers"].items():
            workers.add_metric([str(reactor["cpu"]), state], float(str(count)))
    yield workers


def _reserved(cpus: list[ReservedCpu]) -> Iterator[Metric]:
    for name, help_text in (("sellable", "Of a reserved CPU, what can be sold"), ("sold", "Of it, what is sold")):
        gauge = GaugeMetricFamily(f"tailcut_reserved_cpu_{name}_ratio", help_text, labels=["cpu"])
        for each in cpus:
            gauge.add_metric([str(each["cpu"])], each[f"{name}_ppm"] / _WHOLE_PPM)  # type: ignore[literal-required]
        yield gauge


def _invocations(document: Metrics) -> Iterator[Metric]:
    labels = ["tenant", "function", "version", "outcome"]
    counter = CounterMetricFamily("tailcut_invocations", "Invocations by what became of them", labels=labels)
    for version in document["versions"]:
        for outcome, count in version["outcomes"].items():
            names = [version["tenant"], version["function"], version["version"], outcome]
            counter.add_metric(names, float(str(count)))
    yield counter
    answers = CounterMetricFamily("tailcut_answers", "Answers sent by HTTP status", labels=["status"])
    for status, count in document["answers"].items():
        answers.add_metric([status], count)
    yield answers
    in_flight = GaugeMetricFamily("tailcut_tenant_in_flight", "Invocations running or queued", labels=["tenant"])
    allowed = GaugeMetricFamily("tailcut_tenant_concurrency_max", "The most of them at once", labels=["tenant"])
    for tenant in document["tenants"]:
        in_flight.add_metric([tenant["tenant"]], tenant["in_flight"])
        allowed.add_metric([tenant["tenant"]], tenant["concurrency_max"])
    yield in_flight
    yield allowed


def _egress(tenants: list[Counters]) -> Iterator[Metric]:
    moved = CounterMetricFamily("tailcut_egress_bytes", "Bytes to and from outside", labels=["tenant", "direction"])
    made = CounterMetricFamily("tailcut_egress_connections", "Connections of workers to the egress", labels=["tenant"])
    refused = CounterMetricFamily("tailcut_egress_refused", "Of them, refused, by rule", labels=["tenant", "rule"])
    open_ = GaugeMetricFamily("tailcut_egress_connections_open", "Of them, open", labels=["tenant"])
    for tenant in tenants:
        moved.add_metric([tenant["tenant"], "sent"], tenant["bytes_sent_total"])
        moved.add_metric([tenant["tenant"], "received"], tenant["bytes_received_total"])
        made.add_metric([tenant["tenant"]], tenant["connections_total"])
        open_.add_metric([tenant["tenant"]], tenant["connections_open"])
        for rule, count in tenant["refused_total"].items():
            refused.add_metric([tenant["tenant"], rule], count)
    yield from (moved, made, refused, open_)


def _histogram(name: str, help_text: str, histogram: Histogram) -> HistogramMetricFamily:
    """Zig's fine buckets gathered into Prometheus' cumulative ones: a bucket counts where all of it fits."""
    buckets: list[tuple[str, float]] = []
    for bound_s in _BUCKETS_S:
        inside = sum(count for value_max_ns, count in histogram["buckets"] if value_max_ns <= bound_s * _SECOND_NS)
        buckets.append((f"{bound_s:g}", inside))
    buckets.append(("+Inf", histogram["count"]))
    family = HistogramMetricFamily(name, help_text)
    family.add_metric([], buckets, histogram["sum_ns"] / _SECOND_NS)
    return family


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
