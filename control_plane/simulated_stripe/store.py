"""Where the objects are: one SQLite file. Every request is one transaction, one after the other.

``Store`` is opened by ``server`` (with a lock around each request) and by the thread that delivers webhooks. The clock
can be moved forward by tests and by people who want to see a month end: ``now`` is the machine's time plus an offset.
"""

import json
import secrets
import sqlite3
import string
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from control_plane.simulated_stripe.objects import Object
from control_plane.simulated_stripe.problems import missing

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS objects (
    id TEXT PRIMARY KEY, kind TEXT NOT NULL, customer TEXT, number INTEGER NOT NULL, body TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS objects_kind ON objects (kind, customer, number);
CREATE TABLE IF NOT EXISTS answers (
    key TEXT PRIMARY KEY, request TEXT NOT NULL, status INTEGER NOT NULL, body TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS meter_events (
    identifier TEXT PRIMARY KEY, meter TEXT NOT NULL, customer TEXT NOT NULL, at INTEGER NOT NULL,
    value INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS meter_events_at ON meter_events (meter, customer, at);
CREATE TABLE IF NOT EXISTS deliveries (event TEXT PRIMARY KEY, attempts INTEGER NOT NULL, next_at REAL NOT NULL);
CREATE TABLE IF NOT EXISTS state (name TEXT PRIMARY KEY, value INTEGER NOT NULL);
"""
_ALPHABET: Final = string.ascii_letters + string.digits
HIDDEN: Final = "_"
"""Member of a body that is ours alone: never in an answer."""


class Store:
    def __init__(self, path: Path) -> None:
        self.connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None, timeout=30)
        self.connection.execute("PRAGMA journal_mode = WAL")
        self.connection.execute("PRAGMA synchronous = FULL")
        self.connection.executescript(_SCHEMA)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        self.connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self.connection.execute("ROLLBACK")
            raise
        self.connection.execute("COMMIT")

    # -- objects -----------------------------------------------------------------------------------------------------

    def save(self, body: Object) -> Object:
        """Insert or replace; the order is that of the first insert."""
        customer = body.get("customer")
        self.connection.execute(
            "INSERT INTO objects (id, kind, customer, number, body) "
            "VALUES (?, ?, ?, (SELECT coalesce(max(number), 0) + 1 FROM objects), ?) "
            "ON CONFLICT (id) DO UPDATE SET body = excluded.body, customer = excluded.customer",
            (body["id"], body["object"], customer, json.dumps(body)),
        )
        return body

    def find(self, kind: str, object_id: str) -> Object | None:
        row = self.connection.execute(
            "SELECT body FROM objects WHERE id = ? AND kind = ?", (object_id, kind)
        ).fetchone()
        return None if row is None else dict(json.loads(row[0]))

    def get(self, kind: str, object_id: str) -> Object:
        found = self.find(kind, object_id)
        if found is None:
            raise missing(kind, object_id)
        return found

    def all(self, kind: str, customer: str | None = None) -> list[Object]:
        """The newest first, as Stripe lists."""
        query, values = "SELECT body FROM objects WHERE kind = ?", [kind]
        if customer is not None:
            query, values = query + " AND customer = ?", [*values, customer]
        rows = self.connection.execute(query + " ORDER BY number DESC", values).fetchall()
        return [json.loads(row[0]) for row in rows]

    # -- time --------------------------------------------------------------------------------------------------------

    def now(self) -> int:
        return int(time.time()) + self.state("clock_offset_s")

    def state(self, name: str) -> int:
        row = self.connection.execute("SELECT value FROM state WHERE name = ?", (name,)).fetchone()
        return 0 if row is None else int(row[0])

    def set_state(self, name: str, value: int) -> None:
        self.connection.execute(
            "INSERT INTO state (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
            (name, value),
        )


def new_id(prefix: str) -> str:
    return f"{prefix}_" + "".join(secrets.choice(_ALPHABET) for _ in range(24))


def shown(body: Any) -> Any:
    """Without what is ours alone."""
    if isinstance(body, dict):
        return {name: shown(value) for name, value in body.items() if name != HIDDEN}
    if isinstance(body, list):
        return [shown(each) for each in body]
    return body


def listed(url: str, items: list[Object], limit: int = 10, after: str | None = None) -> Object:
    """A page of a list, after the item ``after``."""
    if after is not None:
        positions = [index for index, item in enumerate(items) if item["id"] == after]
        if not positions:
            raise missing("object", after)
        items = items[positions[0] + 1 :]
    return {"object": "list", "url": url, "has_more": len(items) > limit, "data": items[:limit]}
