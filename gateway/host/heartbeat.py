"""Says how this node is, every few seconds: one document in Redis that lives a while (gateway/contract/node.py).

A task of ``node`` with a connection of its own. It reads the data plane's counters once per beat, and what Linux knows
about memory and disk; nothing on the path of a call waits for it. With Redis away nothing is kept: the next document
says all. A gateway that drains says nothing any more: the one that takes its place does.

What the machine gives the jail is asked of ``gateway.doctor`` in a process of its own, once, some seconds after the
start and at the lowest priority.
"""

import asyncio
import contextlib
import os
import platform
import sys
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Final

import redis.asyncio as redis
import structlog
from redis.exceptions import RedisError

from gateway.contract.metrics import Histogram, Metrics
from gateway.contract.node import (
    NODE_KEPT_S,
    NODES_KEY,
    TENANTS_MAX,
    Doctor,
    NodeCpu,
    NodeJournal,
    NodeState,
    ReservedCpu,
    node_key,
)
from gateway.host.versions import Stage

if TYPE_CHECKING:
    from gateway.host.node import Node

_log = structlog.get_logger("heartbeat")
_DOCTOR_TIMEOUT_S: Final = 60.0
_DOCTOR_BYTES_MAX: Final = 256 * 1024
_NICEST: Final = 19
_MEMORY_BEATS: Final = 6
"""The memory of the workers is looked up every so many beats: one file of /proc for each worker."""
_REFUSED: Final = "refused_"


class Heartbeat:
    def __init__(self, node: "Node") -> None:
        self._node = node
        self._before: tuple[float, Metrics] | None = None
        self._began_s = time.monotonic()
        self._doctor: Doctor | None = None
        self._workers_memory_bytes = 0
        self._beats = 0

    async def run(self) -> None:
        """Until cancelled, or until the node drains."""
        settings = self._node.settings
        if settings.redis_url is None:
            return
        doctor = asyncio.create_task(self._ask_doctor())
        timeout_s = settings.redis_timeout.total_seconds()
        client = redis.Redis.from_url(settings.redis_url, socket_timeout=timeout_s, socket_connect_timeout=timeout_s)
        try:
            async with client:
                while not self._node.draining:
                    await self._try(client)
                    await asyncio.sleep(settings.heartbeat_interval.total_seconds())
        finally:
            doctor.cancel()

    async def _try(self, client: "redis.Redis") -> None:
        try:
            await self._beat(client)
        except (RedisError, OSError, TimeoutError):
            pass  # the table's feed says that Redis is away
        except Exception:  # noqa: BLE001 (a defect of ours; a gateway does not end because nobody hears how it is)
            _log.exception("the node's state could not be told")

    async def _beat(self, client: "redis.Redis") -> None:
        state = await self.state()
        pipeline = client.pipeline(transaction=False)
        pipeline.set(node_key(state.node), state.model_dump_json(), ex=NODE_KEPT_S)
        pipeline.sadd(NODES_KEY, state.node)
        await pipeline.execute()

    async def state(self) -> NodeState:
        """What is so now; rates are over the time since the last call."""
        node = self._node
        document, at_s = node.data_plane.metrics(), time.monotonic()
        if self._beats % _MEMORY_BEATS == 0:
            self._workers_memory_bytes = await asyncio.to_thread(node.workers.memory_bytes)
        self._beats += 1
        machine = await asyncio.to_thread(_machine, node.settings.gateway_dir)
        began_s, before = self._before or (at_s, document)
        self._before = at_s, document
        rates = _Rates(before, document, at_s - began_s)
        reactors = document["reactors"]
        return NodeState(
            node=node.identity.name,
            epoch=node.identity.epoch,
            host=platform.node(),
            version=_version(),
            kernel=platform.release(),
            python=platform.python_version(),
            at_unix_s=time.time(),
            uptime_s=at_s - self._began_s,
            draining=node.draining,
            jail=node.settings.jail,
            revision=node.applied.revision if node.applied else -1,
            table_age_s=node.table_age.age_s,
            table_max_age_s=node.table_age.max_s,
            cpus=[
                NodeCpu(
                    cpu=each["cpu"],
                    connections=each["connections_open"],
                    queue_length=each["queue_length"],
                    workers={**each["workers"]},
                    calls_per_s=rates.of_reactor(index, "usage_records_total"),
                )
                for index, each in enumerate(reactors)
            ],
            reserved=[ReservedCpu(**each) for each in document["reserved_cpus"]],
            workers_deadline=sum(each["workers_deadline"] for each in reactors),
            reservations_admitted=sum(each["reservations_admitted_total"] for each in reactors),
            reservations_refused=sum(each["reservations_refused_total"] for each in reactors),
            versions={stage.value: sum(one.stage is stage for one in node.versions.states.values()) for stage in Stage},
            calls_total=sum(each["usage_records_total"] for each in reactors),
            calls_per_s=sum(rates.of_reactor(index, "usage_records_total") for index in range(len(reactors))),
            refused_per_s=rates.of_outcomes(lambda outcome: outcome.startswith(_REFUSED)),
            failed_per_s=rates.of_answers(lambda status: status.startswith("5")),
            cold_starts_per_s=sum(rates.of_reactor(index, "workers_started_total") for index in range(len(reactors))),
            queue_p99_ms=rates.p99_ms("queue"),
            run_p99_ms=rates.p99_ms("run"),
            refusals=_outcomes(document),
            answers=document["answers"],
            workers_memory_bytes=self._workers_memory_bytes,
            journal=NodeJournal(unbooked_bytes=node.shipping.lag.unbooked_bytes, full=node.journal.full),
            log_lines_lost=node.events.lost + node.function_log.lost_lines,
            revisions_refused=node.apply_failures,
            tenants=rates.tenants(),
            doctor=self._doctor,
            **machine,
        )

    async def _ask_doctor(self) -> None:
        await asyncio.sleep(self._node.settings.doctor_delay.total_seconds())
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-P", "-m", "gateway.doctor", "--json", "--beside",
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        try:
            with contextlib.suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, process.pid, _NICEST)
            out, _ = await asyncio.wait_for(process.communicate(), _DOCTOR_TIMEOUT_S)
            self._doctor = Doctor.model_validate_json(out[:_DOCTOR_BYTES_MAX])
        except (TimeoutError, OSError, ValueError) as error:
            _log.warning("the doctor gave no answer; operators see none of this node", error=str(error)[:300])
        finally:
            if process.returncode is None:
                process.kill()


class _Rates:
    """Counters of two moments → per second. A version that leaves the table takes its counters along: never below 0."""

    def __init__(self, before: Metrics, after: Metrics, seconds: float) -> None:
        self._before = before
        self._after = after
        self._seconds = seconds

    def of_reactor(self, index: int, name: str) -> float:
        after, before = self._after["reactors"][index], self._before["reactors"][index]
        return self._per_s(after[name] - before[name])  # type: ignore[literal-required]

    def of_outcomes(self, wanted: Callable[[str], bool]) -> float:
        after, before = _outcomes(self._after, all_of_them=True), _outcomes(self._before, all_of_them=True)
        return self._per_s(sum(max(after[one] - before.get(one, 0), 0) for one in after if wanted(one)))

    def of_answers(self, wanted: Callable[[str], bool]) -> float:
        after, before = self._after["answers"], self._before["answers"]
        return self._per_s(sum(after[one] - before.get(one, 0) for one in after if wanted(one)))

    def tenants(self) -> dict[str, float]:
        """Those that called; refused calls count: who floods shall be seen."""
        before = _calls(self._before)
        found: dict[str, int] = {}
        for (tenant, index), count in _calls(self._after).items():
            new = count - before.get((tenant, index), 0)
            if new > 0:
                found[tenant] = found.get(tenant, 0) + new
        most = sorted(found.items(), key=lambda each: each[1], reverse=True)[:TENANTS_MAX]
        return {tenant: round(self._per_s(count), 3) for tenant, count in most}

    def p99_ms(self, name: str) -> float | None:
        """Of the values in between, as the upper bound of their bucket."""
        after: Histogram = self._after[name]  # type: ignore[literal-required]
        before: dict[int, int] = dict(self._before[name]["buckets"])  # type: ignore[literal-required]
        new = [(bound_ns, count - before.get(bound_ns, 0)) for bound_ns, count in after["buckets"]]
        total, seen = sum(count for _, count in new), 0
        for bound_ns, count in new:
            seen += count
            if count and seen * 100 >= total * 99:
                return bound_ns / 1e6
        return None

    def _per_s(self, count: int) -> float:
        return round(count / self._seconds, 3) if self._seconds > 0 else 0.0


def _outcomes(document: Metrics, *, all_of_them: bool = False) -> dict[str, int]:
    """Outcome → count over all versions; only refusals unless all are asked for."""
    found: dict[str, int] = {}
    for each in document["versions"]:
        for outcome, count in each["outcomes"].items():
            if all_of_them or outcome.startswith(_REFUSED):
                found[outcome] = found.get(outcome, 0) + int(str(count))
    return found


def _calls(document: Metrics) -> dict[tuple[str, int], int]:
    return {
        (each["tenant"], each["index"]): sum(int(str(count)) for count in each["outcomes"].values())
        for each in document["versions"]
    }


def _machine(folder: Path) -> dict[str, int]:
    page_bytes = os.sysconf("SC_PAGE_SIZE")
    memory = dict.fromkeys(("MemTotal", "MemAvailable"), 0)
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in Path("/proc/meminfo").read_text().splitlines():
            name, _, rest = line.partition(":")
            if name in memory:
                memory[name] = int(rest.split()[0]) * 1024
    disk = os.statvfs(folder)
    return {
        "memory_resident_bytes": int(Path("/proc/self/statm").read_text().split()[1]) * page_bytes,
        "machine_memory_bytes": memory["MemTotal"],
        "machine_free_bytes": memory["MemAvailable"],
        "disk_bytes": disk.f_blocks * disk.f_frsize,
        "disk_free_bytes": disk.f_bavail * disk.f_frsize,
    }


def _version() -> str:
    try:
        return version("tailcut-server")
    except PackageNotFoundError:
        return "from a source tree"
