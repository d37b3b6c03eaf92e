"""Keeps the node's purses filled: leases slices of cluster-wide quotas from Redis, and tells Redis what was spent.

A quota (``contract.table.Quota``) belongs to the whole cluster; each node holds slices of it, big enough for what its
calls will use for a while, and spends them without asking. ``lease.lua`` does the arithmetic, atomically, one key per
quota and period. Started by ``node``; never raises but for cancellation.

What always holds:

- invocations: the nodes together never run more than the quota, plus at most ``CREDIT`` of each node that starts
  (what it lends before its first lease). CPU and memory are known only afterwards: what runs at the moment the last
  lease is spent may overdraw it, at most the tenant's concurrency times an invocation's own limits.
- Redis away: a node spends what it holds, for at most ``lease_ttl``; then calls with a quota are refused (503), for
  Redis may have leased the slice again.
"""

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib import resources

import redis.asyncio as redis
import structlog
from redis.commands.core import AsyncScript
from redis.exceptions import RedisError

from gateway.contract.table import Quota, RoutingTable, Spend, quota_key
from gateway.core.data_plane import DataPlane, PurseReason, PurseState
from gateway.settings import HostSettings

_log = structlog.get_logger("leases")

Amount = tuple[int, int, int]
"""Invocations, CPU µs, MiB·µs."""

CREDIT: Amount = (16, 1_000_000, 1024 * 1_000_000)
"""credit_*_max of limits.zig"""
LEASE_MIN: Amount = (65_536, 60_000_000, 60 * 1024 * 1_000_000)
"""A slice is never asked for smaller than this (the script gives no node more than its share of what is left), so that
quiet tenants do not ask at every call, and a burst finds its lease there: a second of the quickest calls, for this
loop may wait that long for a CPU which the burst keeps busy."""
_UNBOUNDED = 1 << 50
_TICK_S = 0.05
_REPORT_S = 1.0
_RETRY_S = 0.5
_PRIME_S = 3.0
"""How long the beginning waits for the first leases."""
_CALLS_MAX = 256
"""Quotas that are settled at once."""
_REASONS = {
    "": PurseReason.NONE,
    "invocations": PurseReason.INVOCATIONS,
    "cpu": PurseReason.CPU,
    "memory": PurseReason.MEMORY,
    "spend": PurseReason.SPEND,
}
_NO_SPEND = Spend(
    cap_micros=0,
    included_invocations=0,
    included_cpu_us=0,
    included_mib_us=0,
    micros_per_million_invocations=0,
    micros_per_cpu_s=0,
    micros_per_gib_s=0,
)


@dataclass
class _Lease:
    """One purse and the quota that fills it."""

    key: str
    quota: Quota
    left: Amount = CREDIT
    spent: Amount = (0, 0, 0)
    """By the data plane, since it began."""
    told: Amount = (0, 0, 0)
    """Of ``spent``, what Redis knows."""
    used_per_s: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0])
    met: bool = False
    """Redis has filled it once; before, it spends credit."""
    void: bool = True
    """Redis may have leased our slice again: the next answer sets the purse instead of adding to it."""
    refused: bool = False
    heard_s: float = 0.0
    asked_s: float = 0.0

    def target(self, ttl_s: float) -> Amount:
        """What to hold: enough for a while at the recent pace."""
        return _amount(max(low, int(pace * ttl_s)) for low, pace in zip(LEASE_MIN, self.used_per_s, strict=True))

    def is_due(self, now: float, ttl_s: float) -> bool:
        since = now - self.asked_s
        if not self.met:
            return since >= _RETRY_S or self.asked_s == 0.0
        low = any(left * 2 < target for left, target in zip(self.left, self.target(ttl_s), strict=True))
        if low and since >= (_RETRY_S if self.refused else _TICK_S):
            return True
        if self.spent != self.told:
            return since >= _REPORT_S
        return since >= ttl_s / 3 and any(left > 0 for left in self.left)


class Leases:
    """``node`` calls ``take_table`` after each revision that the data plane took, and keeps ``run`` running."""

    def __init__(self, settings: HostSettings, data_plane: DataPlane, node: str) -> None:
        self._settings = settings
        self._data_plane = data_plane
        self._node = node
        self._ttl_s = settings.lease_ttl.total_seconds()
        self._leases: dict[str, _Lease] = {}
        self.connected = False
        self._is_running = False

    def take_table(self, table: RoutingTable) -> None:
        """The quotas in force. One whose key (its tenant, function or period) is new starts from zero."""
        leases = {}
        for name, key, quota in _quotas(table):
            known = self._leases.get(name)
            if known is None:
                leases[name] = _Lease(key, quota)
            elif known.key != key:
                # What is in flight counts for the new period.
                leases[name] = _Lease(key, quota, spent=known.spent, told=known.told, met=True)
            else:
                known.quota = quota
                known.asked_s = min(known.asked_s, time.monotonic() - _RETRY_S)  # a bound may have been raised
                leases[name] = known
        self._leases = leases

    async def run(self) -> None:
        if self._settings.redis_url is None:
            await asyncio.Event().wait()  # the credit is all there is
            return
        timeout_s = self._settings.redis_timeout.total_seconds()
        client = redis.Redis.from_url(
            self._settings.redis_url, socket_timeout=timeout_s, socket_connect_timeout=timeout_s
        )
        script = client.register_script(resources.files(__package__).joinpath("lease.lua").read_text())
        self._is_running = True
        async with client:
            while True:
                await asyncio.sleep(_TICK_S)
                self._look()
                try:
                    await self._settle(script)
                    if not self.connected:
                        self.connected = True
                except (RedisError, OSError, TimeoutError) as error:
                    if self.connected:
                        _log.warning("Redis is away; quotas are spent from what was leased", error=str(error)[:300])
                    self.connected = False
                self._expire()

    async def prime(self) -> None:
        """Before the first connection is accepted: every purse gets its first lease, so that a reload refuses nobody.

        Redis away or slow: the gateway serves all the same, on credit.
        """
        if self._settings.redis_url is None or self._is_running:
            return  # while it runs, `run` asks within a tick, and two must not ask at once
        try:
            async with (
                asyncio.timeout(_PRIME_S),
                redis.Redis.from_url(self._settings.redis_url, socket_timeout=_PRIME_S) as client,
            ):
                script = client.register_script(resources.files(__package__).joinpath("lease.lua").read_text())
                for name, lease in self._leases.items():
                    await self._renew(script, name, lease, time.monotonic())
        except (RedisError, OSError, TimeoutError) as error:
            _log.warning("serving begins on credit: there are no leases yet", error=str(error)[:300])

    async def give_back(self) -> None:
        """At a drain: what is left goes back to the cluster at once instead of at the lease's end."""
        if self._settings.redis_url is None:
            return
        self._look()
        try:
            async with redis.Redis.from_url(self._settings.redis_url, socket_timeout=1.0) as client:
                script = client.register_script(resources.files(__package__).joinpath("lease.lua").read_text())
                for lease in self._leases.values():
                    if lease.met:
                        await self._call(script, lease, _amount(-max(left, 0) for left in lease.left))
        except (RedisError, OSError, TimeoutError) as error:
            _log.warning("leases were not given back; they end by themselves", error=str(error)[:300])

    # -- the steps -------------------------------------------------------------------------------------------------

    def _look(self) -> None:
        """Reads what the reactors spent."""
        while states := self._data_plane.purses():
            for state in states:
                lease = self._leases.get(state.name)
                if lease is not None:
                    self._note(lease, state)

    @staticmethod
    def _note(lease: _Lease, state: PurseState) -> None:
        lease.left = state.left
        lease.spent = state.spent

    async def _settle(self, script: AsyncScript) -> None:
        now = time.monotonic()
        due = [(name, one) for name, one in self._leases.items() if one.is_due(now, self._ttl_s)][:_CALLS_MAX]
        for name, lease in due:
            await self._renew(script, name, lease, now)

    async def _renew(self, script: AsyncScript, name: str, lease: _Lease, now: float) -> None:
        spent = lease.spent
        fresh = [total - told for total, told in zip(spent, lease.told, strict=True)]
        elapsed_s = max(now - lease.asked_s, _TICK_S) if lease.asked_s else _REPORT_S
        for meter, used in enumerate(fresh):
            # Follows a rise at once, a fall slowly: a lull must not make the next burst wait.
            lease.used_per_s[meter] = max(used / elapsed_s, lease.used_per_s[meter] * 0.9)
        target = lease.target(self._ttl_s)
        held = (0, 0, 0) if lease.void else lease.left
        wanted = _amount(_wanted(goal, left) for goal, left in zip(target, held, strict=True))
        lease.asked_s = now
        granted, totals, reason, micros = await self._call(script, lease, wanted)
        allowed, used_total = _figures(lease.quota, reason, totals, micros)
        if not lease.met:
            # Credit was lent: what was spent of it is told now, the rest is taken back.
            amount = _amount(g - c + s for g, c, s in zip(granted, CREDIT, spent, strict=True))
            set_to = False
        else:
            amount, set_to = granted, lease.void
        self._data_plane.fill_purse(name, amount, set_to=set_to, reason=reason, allowed=allowed, used=used_total)
        lease.left = granted if set_to else _amount(a + b for a, b in zip(lease.left, amount, strict=True))
        lease.met, lease.void = True, False
        lease.refused = reason is not PurseReason.NONE
        lease.heard_s = now

    async def _call(
        self, script: AsyncScript, lease: _Lease, wanted: Amount
    ) -> tuple[Amount, Amount, PurseReason, int]:
        quota, spend = lease.quota, lease.quota.spend or _NO_SPEND
        spent = lease.spent
        fresh = [total - told for total, told in zip(spent, lease.told, strict=True)]
        now_s = time.time()
        answer = await script(
            keys=[lease.key],
            args=[
                self._node,
                f"{now_s:.3f}",
                self._ttl_s * 2,  # our own clock stops us at half of it
                int(max(quota.resets_at_s - now_s, 0) + 7 * 86_400),
                *fresh,
                *wanted,
                *(
                    -1 if bound is None else bound
                    for bound in (quota.invocations_max, quota.cpu_us_max, quota.mib_us_max)
                ),
                -1 if quota.spend is None else spend.cap_micros,
                spend.included_invocations,
                spend.included_cpu_us,
                spend.included_mib_us,
                spend.micros_per_million_invocations,
                spend.micros_per_cpu_s,
                spend.micros_per_gib_s / 1024,
            ],
        )
        lease.told = spent
        numbers = [int(one) for one in answer[:6]]
        granted = (numbers[0], numbers[1], numbers[2])
        totals = (numbers[3], numbers[4], numbers[5])
        return granted, totals, _REASONS[answer[6].decode()], int(answer[7])

    def _expire(self) -> None:
        """Stops spending slices that Redis may give to others."""
        now = time.monotonic()
        for name, lease in self._leases.items():
            if lease.void or now - lease.heard_s < self._ttl_s:
                continue
            lease.void = True
            lease.left = (0, 0, 0)
            self._data_plane.fill_purse(name, lease.left, set_to=True, reason=PurseReason.UNKNOWN)
            _log.warning("a lease ended without an answer of Redis: calls are refused until it is back", purse=name)


def _quotas(table: RoutingTable) -> Iterator[tuple[str, str, Quota]]:
    """(name of the purse, Redis key, quota)"""
    names = {tenant.id: tenant.name for tenant in table.tenants}
    for tenant in table.tenants:
        if tenant.quota is not None and tenant.quota.is_bounded:
            yield tenant.name, quota_key(tenant.id, "", tenant.quota.period), tenant.quota
    for function in table.functions:
        if function.quota is not None and function.quota.is_bounded and function.tenant_id in names:
            key = quota_key(function.tenant_id, function.name, function.quota.period)
            yield f"{names[function.tenant_id]}/{function.name}", key, function.quota


def _wanted(target: int, left: int) -> int:
    """More when less than half is there; back, when it is far more than the pace needs."""
    if left * 2 < target:
        return target - left
    return target - left if left > 4 * target else 0


def _figures(quota: Quota, reason: PurseReason, totals: Amount, micros: int) -> tuple[int, int]:
    """(allowed, used) in the units of the answer: invocations, CPU ms, MiB·s, minor units of the currency."""
    match reason:
        case PurseReason.INVOCATIONS:
            return quota.invocations_max or 0, totals[0]
        case PurseReason.CPU:
            return (quota.cpu_us_max or 0) // 1000, totals[1] // 1000
        case PurseReason.MEMORY:
            return (quota.mib_us_max or 0) // 1_000_000, totals[2] // 1_000_000
        case PurseReason.SPEND:
            return (quota.spend.cap_micros if quota.spend else 0) // 1_000_000, micros // 1_000_000
        case _:
            return 0, 0


def _amount(values: Iterator[int]) -> Amount:
    invocations, cpu_us, mib_us = values
    return min(invocations, _UNBOUNDED), min(cpu_us, _UNBOUNDED), min(mib_us, _UNBOUNDED)
