"""``python -m control_plane serve | migrate | openapi | create-tenant NAME [--if-missing] [--json] | operator …``, and
``stripe-…``"""

import argparse
import asyncio
import json
import signal
import socket
import sys
from typing import Any

import uvicorn
from pydantic import ValidationError

from control_plane.app import create_app
from control_plane.billing import commands as billing
from control_plane.database import Database
from control_plane.logs import configure_logs
from control_plane.migrate import migrate
from control_plane.operators import commands as operators
from control_plane.problems import Problem
from control_plane.settings import Settings
from control_plane.tenants import repository, service
from control_plane.tenants.schemas import TenantCreate
from control_plane.tiers.catalog import CatalogError


def main() -> int:
    arguments = make_parser().parse_args()
    settings = Settings()
    configure_logs(settings.log_level)
    try:
        return _run(settings, arguments)
    except CatalogError as error:
        print(f"control plane: the tier catalogue cannot be used\n{error}", file=sys.stderr)
        return 2


def _run(settings: Settings, arguments: argparse.Namespace) -> int:
    match arguments.command:
        case "migrate":
            migrate(settings)
        case "openapi":
            print(json.dumps(create_app(settings).openapi(), indent=2, sort_keys=True))
        case "create-tenant":
            return _create_tenant(settings, arguments)
        case operators.NAME:
            migrate(settings)
            return operators.run(settings, arguments)
        case name if name in billing.NAMES:
            migrate(settings)
            return billing.run(settings, arguments)
        case _:
            migrate(settings)
            _serve(settings)
    return 0


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m control_plane", description="Tailcut's control plane")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("serve", help="bring the schema up to date and serve the API and the dashboard")
    commands.add_parser("migrate", help="bring the schema up to date")
    commands.add_parser("openapi", help="print the OpenAPI document")
    create = commands.add_parser("create-tenant", help="create a tenant and its first key")
    create.add_argument("name")
    create.add_argument(
        "--if-missing", action="store_true", help="no error if it is there (its key is not shown again)"
    )
    create.add_argument("--json", action="store_true")
    operators.add_parsers(commands)
    billing.add_parsers(commands)
    return parser


def _serve(settings: Settings) -> None:
    """SIGTERM stops accepting, lets requests finish for ``shutdown_timeout``, and ends."""
    # uvicorn takes the signal while it serves and raises it again when it has ended; then this makes it exit 0.
    signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit(0))
    listener = socket.create_server((settings.host, settings.control_plane_port), backlog=1024)
    if settings.control_plane_port == 0:
        settings = settings.model_copy(update={"control_plane_port": listener.getsockname()[1]})
    config = uvicorn.Config(
        create_app(settings),
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=int(settings.shutdown_timeout.total_seconds()),
        h11_max_incomplete_event_size=32 * 1024,
        limit_concurrency=1000,
    )
    print(json.dumps({"event": "listening", "url": settings.public_url}), file=sys.stderr, flush=True)
    uvicorn.Server(config).run(sockets=[listener])


def _create_tenant(settings: Settings, arguments: argparse.Namespace) -> int:
    migrate(settings)
    try:
        result = asyncio.run(_create_in_sql(settings, arguments.name, if_missing=arguments.if_missing))
    except (Problem, ValidationError) as error:
        message = error.detail if isinstance(error, Problem) else f"{arguments.name!r} is not a valid tenant name"
        print(f"create-tenant: {message}", file=sys.stderr)
        return 1
    if arguments.json:
        print(json.dumps(result))
    else:
        print(f"tenant {result['tenant']} ({result['tenant_id']})")
        print(f"key    {result['key'] or 'exists already and is not shown again'}")
    return 0


async def _create_in_sql(settings: Settings, name: str, *, if_missing: bool) -> dict[str, Any]:
    """Straight into SQL: it works whether or not a server runs; the relay notices within ``relay_interval``."""
    database = Database(settings.effective_database_url)
    try:
        async with database.writing() as session:
            existing = await repository.find_tenant_by_name(session, name)
            if existing is not None and if_missing:
                return {"tenant": existing.name, "tenant_id": existing.id, "key": None}
            created = await service.create_tenant(session, TenantCreate(name=name))
            return {"tenant": created.name, "tenant_id": created.id, "key": created.key.token}
    finally:
        await database.close()


if __name__ == "__main__":
    sys.exit(main())
