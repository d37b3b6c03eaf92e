"""Gateways → control plane, through the Redis stream ``REPORT_STREAM``: what became of a version on a node, and which
keys its callers came with. An entry has one field, which says what it holds.

Delivery is at least once; a report is idempotent (the last word per node and version counts, the latest use of a key).
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from gateway.contract.worker import State

REPORT_STREAM = "tailcut:reports"
REPORT_FIELD = "report"
REPORT_ENTRIES_MAX = 100_000
"""Older ones go: nobody has consumed them for long."""
KEY_USES_FIELD = "key_uses"
REPORT_GROUP = "control-plane"
KEY_USES_MAX = 1_000
"""In one entry."""


class StartFailure(BaseModel):
    """Why a function could not be imported; ``traceback`` is for its owner."""

    model_config = ConfigDict(frozen=True)
    type: str
    message: str
    traceback: str = ""


class VersionReport(BaseModel):
    model_config = ConfigDict(frozen=True)
    node: str
    version_id: str
    attempt: int = 0
    """Of the version in the table that this is the outcome of; an earlier one's failure is no news."""
    outcome: Literal["ready", "failed"]
    style: Literal["typed", "request", "event"] | None = None
    operation: dict[str, Any] | None = None
    """OpenAPI operation object of a typed function (parameters, requestBody, responses)."""
    schemas: dict[str, Any] = {}
    """OpenAPI component schemas that ``operation`` refers to."""
    start_us: int | None = None
    """From the spawn request to ready."""
    state: State | None = None
    """What its workers on the node really do; what was asked for is in its limits."""
    state_reason: str = ""
    """Why that is something else than was asked for."""
    error: StartFailure | None = None


class KeyUses(BaseModel):
    """Key id → Unix time, in seconds, of the last request that came with it, of those used since the last report."""

    model_config = ConfigDict(frozen=True)
    node: str
    used_s: Annotated[
        dict[Annotated[str, Field(max_length=40)], Annotated[int, Field(ge=1, lt=2**32)]],
        Field(max_length=KEY_USES_MAX),
    ]
