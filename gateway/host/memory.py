"""What a node must remember over a restart, with Redis and the control plane away: four kinds of small files.

    var/gateway/node.json            who this node is, and how often it has started (the epoch)
    var/gateway/table.json           the last good routing table, as Redis gave it
    var/gateway/serving.json         which version each alias really serves (the wanted one may not be ready)
    var/gateway/ready/<version>.json a version of which a worker was ready here, and what that worker said

Every file is replaced as a whole. One that cannot be read is treated as absent and said in the log: all of it can be
made again, at worst by probing versions once more.
"""

import fcntl
import json
import os
import platform
import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import structlog
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gateway.contract.table import RoutingTable, Version
from gateway.host.files import write_atomically

_log = structlog.get_logger("memory")
_VERSION_ID = re.compile(r"[A-Za-z0-9_-]{1,80}")


class WorkerReadyDocument(BaseModel):
    """gateway.contract.worker.Ready, checked: the worker had run tenant code when it wrote this."""

    model_config = ConfigDict(frozen=True, extra="ignore")
    style: Literal["typed", "request", "event"]
    is_async: bool = False
    python: str = Field(default="", max_length=64)
    import_us: int = Field(default=0, ge=0)
    operation: dict[str, Any] | None = None
    schemas: dict[str, Any] = {}


class ReadyRecord(BaseModel):
    """A version that was ready on this node under this Python."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    python: str
    version: Version
    ready: WorkerReadyDocument
    start_us: int | None = None
    forked_because: str = ""
    """Why its workers fork although it asked for fresh state."""


@dataclass(frozen=True, slots=True)
class NodeIdentity:
    node: int
    """32 bits, chosen once."""
    epoch: int
    """32 bits, one more at each start."""

    @property
    def name(self) -> str:
        return f"node-{self.node:08x}"

    @property
    def number(self) -> int:
        """First half of every invocation id."""
        return self.node << 32 | self.epoch


AliasKey = tuple[str, str, str]
"""tenant id, function, alias"""


class Memory:
    """The files under ``folder``, which is created."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ready = folder / "ready"
        self._ready.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._serving_written: bytes | None = None

    def begin_epoch(self) -> NodeIdentity:
        """The node's identity with an epoch that no gateway had before, two at once (reload) included."""
        path = self._folder / "node.json"
        lock = os.open(self._folder / "node.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            known = self._read_json(path)
            node, epoch = known.get("node"), known.get("epoch")
            if not (isinstance(node, int) and isinstance(epoch, int) and 0 < node < 2**32 and 0 <= epoch < 2**32 - 1):
                node, epoch = secrets.randbelow(2**32 - 1) + 1, 0
            identity = NodeIdentity(node, epoch + 1)
            write_atomically(path, json.dumps({"node": identity.node, "epoch": identity.epoch}).encode())
        finally:
            os.close(lock)
        return identity

    def load_table(self) -> RoutingTable | None:
        path = self._folder / "table.json"
        if not path.exists():
            return None
        try:
            return RoutingTable.model_validate_json(path.read_bytes())
        except (OSError, ValidationError) as error:
            _log.error("the stored table cannot be read; waiting for Redis", path=str(path), error=str(error)[:500])
            return None

    def save_table(self, document: bytes) -> None:
        write_atomically(self._folder / "table.json", document)

    def load_serving(self) -> dict[AliasKey, str]:
        rows = self._read_json(self._folder / "serving.json").get("aliases", [])
        try:
            return {(str(tenant), str(function), str(alias)): str(version) for tenant, function, alias, version in rows}
        except (TypeError, ValueError):
            _log.error("the list of served versions cannot be read", path=str(self._folder / "serving.json"))
            return {}

    def save_serving(self, serving: dict[AliasKey, str]) -> None:
        """Writes only when it changed."""
        rows = [[*key, version] for key, version in sorted(serving.items())]
        document = json.dumps({"aliases": rows}).encode()
        if document != self._serving_written:
            write_atomically(self._folder / "serving.json", document)
            self._serving_written = document

    def load_ready(self) -> Iterator[ReadyRecord]:
        """All versions known ready under this Python."""
        for path in self._ready.glob("*.json"):
            try:
                record = ReadyRecord.model_validate_json(path.read_bytes())
            except (OSError, ValidationError) as error:
                _log.warning("a ready record cannot be read", path=str(path), error=str(error)[:500])
                continue
            if record.python == platform.python_version() and path.stem == record.version.id:
                yield record

    def save_ready(
        self, version: Version, ready: WorkerReadyDocument, start_us: int | None, forked_because: str = ""
    ) -> None:
        record = ReadyRecord(
            python=platform.python_version(),
            version=version,
            ready=ready,
            start_us=start_us,
            forked_because=forked_because,
        )
        write_atomically(self._ready / f"{version.id}.json", record.model_dump_json().encode())

    def forget_ready(self, version_id: str) -> None:
        if is_version_id(version_id):
            (self._ready / f"{version_id}.json").unlink(missing_ok=True)

    @staticmethod
    def _read_json(path: Path) -> dict[str, Any]:
        try:
            document = json.loads(path.read_bytes())
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            _log.error("a file of the node's memory cannot be read", path=str(path), error=str(error))
            return {}
        return document if isinstance(document, dict) else {}


def is_version_id(text: str) -> bool:
    """Whether it can name a file."""
    return _VERSION_ID.fullmatch(text) is not None
