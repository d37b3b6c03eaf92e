"""Table + what is ready here → the revision that Zig serves.

``choose`` decides which version each alias serves on this node: the wanted one once it is ready, until then the one
that served before. ``build`` writes the document. Both are pure, but for the rows that are remembered from one build to
the next; ``node`` calls them after every change.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec

from gateway.contract.revision import KeyRow, Revision, RouteRow, TenantRow, VersionRow
from gateway.contract.table import Function, Key, RoutingTable, Tenant, Version
from gateway.contract.worker import SpawnSpec, State
from gateway.host.bundles import Bundles
from gateway.host.indexes import Indexes
from gateway.host.memory import AliasKey
from gateway.host.openapi import Documents, TypedFunction
from gateway.host.versions import Stage, VersionState

SPAWN_BYTES_MAX = 48 * 1024
"""spawn_bytes_max of limits.zig"""
ERROR_CHARACTERS_MAX = 8_000
"""Of a traceback in a route; the end of it is what tells."""

States = Mapping[str, VersionState]


class _Of(NamedTuple):
    """All that the row of a version is made of."""

    version: Version
    run_state: State
    stage: Stage
    tenant: int
    tenant_name: str
    leased: bool
    number: int


@dataclass(slots=True)
class VersionRows:
    """Of the last build: of some thousand versions few have changed since."""

    _known: dict[str, tuple[_Of, VersionRow]] = field(default_factory=dict)

    def of(self, wanted: list[_Of], bundles: Bundles) -> list[VersionRow]:
        before = self._known
        self._known = {}
        for of in wanted:
            known = before.get(of.version.id)
            same = known is not None and known[0] == of
            self._known[of.version.id] = known if known is not None and same else (of, _version_row(of, bundles))
        return [row for _of, row in self._known.values()]


def choose(table: RoutingTable, states: States, served: Mapping[AliasKey, str]) -> dict[AliasKey, str]:
    """The version that each alias serves here; an alias that has none yet is left out."""
    chosen: dict[AliasKey, str] = {}
    for function in table.functions:
        for alias, wanted in function.aliases.items():
            key = (function.tenant_id, function.name, alias)
            for candidate in (wanted, served.get(key)):
                if candidate is not None and _is_ready(states, candidate):
                    chosen[key] = candidate
                    break
            else:
                if key in served and served[key] in states:
                    chosen[key] = served[key]  # its files are being fetched again
    return chosen


def build(
    table: RoutingTable,
    states: States,
    served: Mapping[AliasKey, str],
    indexes: Indexes,
    bundles: Bundles,
    gateway_url: str,
    now: float,
    rows: VersionRows,
    documents: Documents,
) -> Revision:
    """The complete effective state. What refers to nothing (a key of no tenant, …) is left out."""
    tenants = {tenant.id: position for position, tenant in enumerate(table.tenants)}
    names = {tenant.id: tenant.name for tenant in table.tenants}
    live = {
        version_id: state
        for version_id, state in states.items()
        if state.stage in (Stage.READY, Stage.PROBING) and state.version.tenant_id in tenants and state.wanted_s == now
    }
    capped = {
        (function.tenant_id, function.name)
        for function in table.functions
        if function.quota and function.quota.is_bounded
    }
    parts = [
        _Of(
            version=(version := state.version),
            run_state=state.run_state,
            stage=state.stage,
            tenant=tenants[version.tenant_id],
            tenant_name=names[version.tenant_id],
            leased=(version.tenant_id, version.function) in capped,
            number=indexes.of(version_id, now),
        )
        for version_id, state in live.items()
    ]
    functions = [function for function in table.functions if function.tenant_id in tenants]
    routes = [
        row for function in functions for row in _alias_routes(function, tenants, states, live, served, indexes, now)
    ]
    known = {(function.tenant_id, function.name): function for function in functions}
    for version in table.versions:
        owner = known.get((version.tenant_id, version.function))
        if owner is not None:
            routes.append(_route(owner, version.id, version.id, tenants, states, live, indexes, now))
    return Revision(
        revision=table.revision,
        tenants=_tenant_rows(table, functions, states, served, gateway_url, documents),
        keys=[_key_row(key, tenants) for key in table.keys if key.tenant_id in tenants],
        versions=rows.of(parts, bundles),
        routes=routes,
    )


def encode(revision: Revision) -> bytes:
    return msgspec.json.encode(revision)


def spawn_document(version: Version, tenant_name: str, bundles: Bundles, state: State, *, describe: bool = True) -> str:
    """SpawnSpec as JSON text. ``state``: what its workers do on this node."""
    spec = SpawnSpec(
        tenant=tenant_name,
        function=version.function,
        version_id=version.id,
        code_path=str(bundles.path(version.bundle_sha256)),
        handler=version.handler,
        env=dict(version.env),
        memory_bytes=version.limits.memory_bytes,
        tmp_bytes=version.limits.tmp_bytes,
        open_files_max=version.limits.open_files_max,
        processes_max=version.limits.processes_max,
        processes=version.limits.processes,
        network=version.limits.network,
        network_connections_max=version.limits.network_connections_max,
        network_bytes_per_minute=version.limits.network_bytes_per_minute,
        state=state,
        describe=describe,
    )
    return msgspec.json.encode(spec).decode()


def _is_ready(states: States, version_id: str) -> bool:
    state = states.get(version_id)
    return state is not None and state.stage is Stage.READY


def _alias_routes(
    function: Function,
    tenants: Mapping[str, int],
    states: States,
    live: States,
    served: Mapping[AliasKey, str],
    indexes: Indexes,
    now: float,
) -> list[RouteRow]:
    rows = []
    for alias, wanted in function.aliases.items():
        version_id = served.get((function.tenant_id, function.name, alias), wanted)
        rows.append(_route(function, alias, version_id, tenants, states, live, indexes, now))
    return rows


def _route(
    function: Function,
    qualifier: str,
    version_id: str,
    tenants: Mapping[str, int],
    states: States,
    live: States,
    indexes: Indexes,
    now: float,
) -> RouteRow:
    state = states.get(version_id)
    ready = version_id in live and _is_ready(states, version_id)
    error = ""
    if not ready and state is not None and state.error is not None:
        text = state.error.traceback or f"{state.error.type}: {state.error.message}"
        error = text[-ERROR_CHARACTERS_MAX:]
    return RouteRow(
        tenant=tenants[function.tenant_id],
        function=function.name,
        qualifier=qualifier,
        version=indexes.of(version_id, now) if ready else -1,
        public=function.public,
        error=error,
    )


def _version_row(of: _Of, bundles: Bundles) -> VersionRow:
    version, limits, probing = of.version, of.version.limits, of.stage is Stage.PROBING
    return VersionRow(
        index=of.number,
        id=version.id,
        tenant=of.tenant,
        function=version.function,
        spawn=spawn_document(version, of.tenant_name, bundles, of.run_state, describe=probing),
        timeout_ms=limits.timeout_ms,
        concurrency_max=limits.concurrency_max,
        workers_min=limits.workers_min if of.stage is Stage.READY else 0,
        request_bytes_max=limits.request_bytes_max,
        output_bytes_max=limits.output_bytes_max,
        log_bytes_max=limits.log_bytes_max,
        probe=probing,
        cpu_ms=limits.cpu_ms,
        memory_bytes=limits.memory_bytes,
        leased=of.leased,
        open_files_max=limits.open_files_max,
        processes_max=limits.processes_max,
        children=limits.processes or of.run_state == "forked",
        upgrade_timeout=version.upgrade.get("timeout_ms", ""),
        upgrade_cpu=version.upgrade.get("cpu_ms", ""),
        upgrade_memory=version.upgrade.get("memory_bytes", ""),
        upgrade_output=version.upgrade.get("output_bytes_max", ""),
    )


def _key_row(key: Key, tenants: Mapping[str, int]) -> KeyRow:
    return KeyRow(
        sha256=key.sha256,
        tenant=tenants[key.tenant_id],
        invoke="invoke" in key.scopes or "admin" in key.scopes,
        expires_at_s=key.expires_at_s or 0,
    )


def _tenant_rows(
    table: RoutingTable,
    functions: list[Function],
    states: States,
    served: Mapping[AliasKey, str],
    gateway_url: str,
    documents: Documents,
) -> list[TenantRow]:
    typed: dict[str, list[TypedFunction]] = {tenant.id: [] for tenant in table.tenants}
    for function in functions:
        version_id = served.get((function.tenant_id, function.name, "live"))
        ready = states[version_id].ready if version_id is not None and version_id in states else None
        if version_id is not None and ready is not None and ready.style == "typed":
            typed[function.tenant_id].append(
                TypedFunction(
                    function.name,
                    function.public,
                    version_id,
                    msgspec.json.encode(ready.operation or {}),
                    msgspec.json.encode(ready.schemas),
                )
            )
    texts = documents.of(gateway_url, {tenant.name: typed[tenant.id] for tenant in table.tenants})
    return [_tenant_row(tenant, *texts[tenant.name]) for tenant in table.tenants]


def _tenant_row(tenant: Tenant, openapi_public: str, openapi_all: str) -> TenantRow:
    reservation = tenant.reservation
    return TenantRow(
        name=tenant.name,
        concurrency_max=tenant.concurrency_max,
        openapi_public=openapi_public,
        openapi_all=openapi_all,
        id=tenant.id,
        tier=tenant.tier,
        status=tenant.status,
        rate_per_s=tenant.rate_per_s,
        burst=tenant.burst,
        leased=tenant.quota is not None and tenant.quota.is_bounded,
        resets_at_s=tenant.quota.resets_at_s if tenant.quota else 0,
        cpu_weight=tenant.cpu_weight,
        reserved_runtime_us=reservation.runtime_us if reservation else 0,
        reserved_deadline_us=reservation.deadline_us if reservation else 0,
        reserved_period_us=reservation.period_us if reservation else 0,
        reserved_workers_max=reservation.workers_max if reservation else 0,
        reserved_fallback=reservation.fallback if reservation else True,
        upgrade_url=tenant.upgrade_url,
        upgrade_rate=tenant.upgrade.get("rate", ""),
        upgrade_concurrency=tenant.upgrade.get("concurrency", ""),
        upgrade_quota=tenant.upgrade.get("quota", ""),
    )
