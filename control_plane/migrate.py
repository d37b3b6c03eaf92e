"""Brings the schema and the tier catalogue in SQL up to date. Called by ``__main__``: ``migrate``, and before the rest.

Two processes that start at once take turns: on SQLite by a lock file beside the database, on PostgreSQL by an
advisory lock (``migrations/env.py``).
"""

import asyncio
import fcntl
from pathlib import Path

from alembic import command
from alembic.config import Config

from control_plane.database import Database
from control_plane.settings import Settings
from control_plane.tiers.catalog import Catalog, load_catalog
from control_plane.tiers.service import sync_catalog


def migrate(settings: Settings) -> None:
    """Raises CatalogError before anything is changed."""
    catalog = load_catalog(settings.tier_catalog)
    settings.prepare_data_dir()
    with (settings.private_dir / "migrate.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        command.upgrade(alembic_config(settings.effective_database_url), "head")
        asyncio.run(_sync_catalog(settings.effective_database_url, catalog))


async def _sync_catalog(database_url: str, catalog: Catalog) -> None:
    database = Database(database_url)
    try:
        async with database.writing() as session:
            await sync_catalog(session, catalog)
    finally:
        await database.close()


def alembic_config(database_url: str) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")))
    config.attributes["database_url"] = database_url
    return config
