"""The archive of one version: a zip file, named by its SHA-256.

The same files give the same bytes (sorted names, fixed times and modes), so the same code is one version.

    tailcut.json      the manifest below
    _packages/…       dependencies, installed for the server's Python
    …                 the function's own code
"""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from gateway.contract.table import Limits

MANIFEST_NAME = "tailcut.json"
PACKAGES_FOLDER = "_packages"

ARCHIVE_BYTES_MAX = 64 * 2**20
UNPACKED_BYTES_MAX = 256 * 2**20
FILES_MAX = 20_000
RATIO_MAX = 100
"""Unpacked ÷ packed bytes of one file (files under 1 MiB unpacked are exempt)."""
DEPTH_MAX = 32
PATH_BYTES_MAX = 512
NAME_BYTES_MAX = 200


class Manifest(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    schema_version: int = Field(default=1, ge=1, le=1)
    handler: str = Field(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")
    python: str = Field(pattern=r"^3\.\d{1,2}$")
    limits: Limits = Limits()
    env: dict[str, str] = {}
    lock: list[str] = []
    """Resolved requirements, ``name==version``, for people."""
    tool: dict[str, Any] = {}


def object_name(sha256: str) -> str:
    """Where the archive lies in the bundle store (``TAILCUT_BUNDLE_STORE_URL``); the same bytes are stored once."""
    return f"{sha256}.zip"
