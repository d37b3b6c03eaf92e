"""``stripe-sync``, ``stripe-reconcile`` and ``stripe-replay``, for operators. Called by ``__main__``.

They work on SQL and Stripe directly, whether or not a server runs.
"""

import argparse
import asyncio
import json
import sys
from dataclasses import asdict

from control_plane.auth.sealing import Sealer
from control_plane.billing import repository
from control_plane.billing.background import make_client
from control_plane.billing.reconcile import reconcile
from control_plane.billing.stripe_client import StripeAway, StripeClient, StripeRefused
from control_plane.billing.stripe_sync import sync
from control_plane.bundles.store import BundleStore
from control_plane.context import Context
from control_plane.database import Database
from control_plane.models import now
from control_plane.settings import Settings

EXIT_DIFFERENCES = 3
NAMES = ("stripe-sync", "stripe-reconcile", "stripe-replay")


def add_parsers(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    commands.add_parser("stripe-sync", help="make products, prices and meters in Stripe from the tier catalogue")
    found = commands.add_parser("stripe-reconcile", help="compare with Stripe and name every difference (exit code 3)")
    found.add_argument("--json", action="store_true")
    found.add_argument("--repair", action="store_true", help="copy Stripe's state where it differs")
    replay = commands.add_parser(
        "stripe-replay", help="handle webhooks once more: those that failed, or the named ones"
    )
    replay.add_argument("event", nargs="*", help="evt_…")


def run(settings: Settings, arguments: argparse.Namespace) -> int:
    client = make_client(settings)
    if client is None:
        hint = "the simulated Stripe of `tailcut-server up` is compared on /admin, or by POST /v1/admin/reconciliations"
        print(f"stripe: STRIPE_API_KEY is not set; {hint}", file=sys.stderr)
        return 2
    try:
        return asyncio.run(_run(settings, client, arguments))
    except (StripeAway, StripeRefused) as error:
        print(f"stripe: {error}", file=sys.stderr)
        return 1


async def _run(settings: Settings, client: StripeClient, arguments: argparse.Namespace) -> int:
    database = Database(settings.effective_database_url)
    context = Context(
        settings=settings,
        database=database,
        bundles=BundleStore(settings.effective_bundle_store_url),
        operator_token="",
        sealer=Sealer(settings.load_sealing_key()),
        uploads=asyncio.Semaphore(1),
        stripe=client,
    )
    try:
        match arguments.command:
            case "stripe-sync":
                print(f"{await sync(context, client)} objects of Stripe were new here")
                return 0
            case "stripe-replay":
                async with context.writing() as session:
                    count = await repository.replay_events(session, arguments.event or None, now())
                print(f"{count} events will be handled again")
                return 0
        found = await reconcile(context, client, repair=arguments.repair)
        if arguments.json:
            print(json.dumps([asdict(each) for each in found], indent=2))
        else:
            for each in found:
                print(f"{each.tenant_id}  {each.what}: ours {each.ours}, Stripe {each.theirs}")
            print(f"{len(found)} differences")
        return EXIT_DIFFERENCES if found else 0
    finally:
        await database.close()
