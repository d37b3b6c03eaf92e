"""A data plane and its leases in one process: what a gateway is, as far as quotas go.

Run as a program: ``python node_process.py OPTIONS_JSON``; the listening socket is inherited. Reads routing tables
(one JSON line each) from stdin and says "ready" after each has been applied.
"""

import asyncio
import dataclasses
import json
import sys
from datetime import timedelta
from pathlib import Path

from gateway.contract.revision import KeyRow, Revision, RouteRow, TenantRow, VersionRow
from gateway.contract.table import RoutingTable
from gateway.core.data_plane import DataPlane, DataPlaneConfig
from gateway.host.leases import Leases
from gateway.settings import HostSettings

SECONDS = timedelta(seconds=30)


def revision(table: RoutingTable) -> Revision:
    """Every function of the table is served by version 0, 1, … of the fake zygote's worker."""
    positions = {tenant.id: position for position, tenant in enumerate(table.tenants)}
    versions, routes = [], []
    for index, function in enumerate(table.functions):
        row = VersionRow(
            index=index,
            id=f"ver_{index}",
            tenant=positions[function.tenant_id],
            function=function.name,
            spawn="{}",
            timeout_ms=10_000,
            concurrency_max=16,
            workers_min=0,
            request_bytes_max=1024,
            output_bytes_max=1024 * 1024,
            log_bytes_max=1024,
            probe=False,
            leased=function.quota is not None,
        )
        versions.append(row)
        routes.append(RouteRow(row.tenant, function.name, "live", index, public=True))
    tenants = [
        TenantRow(
            name=tenant.name,
            concurrency_max=tenant.concurrency_max,
            openapi_public="{}",
            openapi_all="{}",
            id=tenant.id,
            tier=tenant.tier,
            status=tenant.status,
            rate_per_s=tenant.rate_per_s,
            burst=tenant.burst,
            leased=tenant.quota is not None,
            resets_at_s=tenant.quota.resets_at_s if tenant.quota else 0,
            upgrade_url=tenant.upgrade_url,
            upgrade_rate=tenant.upgrade.get("rate", ""),
            upgrade_concurrency=tenant.upgrade.get("concurrency", ""),
            upgrade_quota=tenant.upgrade.get("quota", ""),
        )
        for tenant in table.tenants
    ]
    keys = [KeyRow(key.sha256, positions[key.tenant_id], invoke=True, expires_at_s=0, id=key.id) for key in table.keys]
    return Revision(table.revision, tenants, keys, versions, routes)


async def main() -> None:
    options = json.loads(sys.argv[1])
    settings = HostSettings(
        listen_fds=(),
        reactor_cpus=(),
        zygote_path="",
        data_dir=Path(options["folder"]),
        redis_url=options["redis_url"],
        lease_ttl=timedelta(seconds=options["lease_ttl_s"]),
        redis_timeout=timedelta(seconds=1),
    )
    plane = DataPlane(
        DataPlaneConfig(
            reactor_cpus=(options["cpu"],),
            listen_fds=(options["listen_fd"],),
            zygote_path=options["zygote_path"],
            problem_base_url="https://docs.example/errors/",
            base_domain="",
            node=options["node"],
            connections_max=256,
            body_bytes_max=1024,
            header_timeout=SECONDS,
            body_timeout=SECONDS,
            idle_timeout=SECONDS,
            write_timeout=SECONDS,
            queue_timeout=SECONDS,
            worker_idle_timeout=SECONDS,
        )
    )
    plane.start()
    plane.listen()
    leases = Leases(settings, plane, f"node-{options['node']}")
    task = asyncio.create_task(leases.run())
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        table = RoutingTable.model_validate_json(line)
        await asyncio.to_thread(plane.apply, json.dumps(dataclasses.asdict(revision(table))).encode())
        leases.take_table(table)
        print("ready", flush=True)
    task.cancel()
    await leases.give_back()
    plane.stop()


if __name__ == "__main__":
    asyncio.run(main())
