"""Brings the schema up to date. Called by ``__main__``: ``migrate``, and before ``serve`` and ``create-tenant``.

Two processes that start at once take turns: on SQLite by a lock file beside the database, on PostgreSQL by an
advisory lock (``migrations/env.py``).
"""

import fcntl
from pathlib import Path

from alembic import command
from alembic.config import Config

from control_plane.settings import Settings


def migrate(settings: Settings) -> None:
    settings.prepare_data_dir()
    with (settings.private_dir / "migrate.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        command.upgrade(alembic_config(settings.effective_database_url), "head")


def alembic_config(database_url: str) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")))
    config.attributes["database_url"] = database_url
    return config
