"""The runtime and health, as JSON."""

from pydantic import BaseModel

from gateway.contract.table import Limits


class BundleBounds(BaseModel):
    archive_bytes_max: int
    unpacked_bytes_max: int
    files_max: int
    depth_max: int
    path_bytes_max: int
    name_bytes_max: int
    ratio_max: int
    manifest_bytes_max: int
    environment_bytes_max: int


class LimitBounds(BaseModel):
    """Defaults and largest values of a function's limits."""

    default: Limits
    largest: Limits


class Runtime(BaseModel):
    python: str
    """The Python that functions run on, e.g. ``3.13``."""
    python_full: str
    platform: str
    """What ``uv --python-platform`` calls it."""
    gateway_url: str
    bundle: BundleBounds
    limits: LimitBounds


class Health(BaseModel):
    status: str


class Readiness(BaseModel):
    ready: bool
    checks: dict[str, str]
    """What was looked at → ``ok``, or what is wrong."""
    outbox_pending: int
    """Changes that Redis does not have yet."""
