"""Zygote → egress (a worker's socket), gateway → egress (a question for its counters). Datagrams of JSON on an AF_UNIX
SOCK_SEQPACKET socket; with a worker come two descriptors, the listening socket of its namespace and its pidfd.
"""

from dataclasses import dataclass
from typing import TypedDict

PATH_VARIABLE = "TAILCUT_EGRESS_PATH"
MESSAGE_BYTES_MAX = 64 * 1024
DESCRIPTORS = 2
PROXY_URL = "http://127.0.0.1:3128"
"""As the worker sees it: zigcore/src/jail/network.zig listens there."""


@dataclass(frozen=True, slots=True)
class Question:
    """A worker when it names one; else a question, answered by ``Counters`` in as many datagrams as it takes."""

    worker: int = 0
    """Its pid."""
    tenant: str = ""
    function: str = ""
    version_id: str = ""
    connections_max: int = 0
    bytes_per_minute: int = 0


class Counters(TypedDict):
    """Of one tenant since the egress started."""

    tenant: str
    connections_open: int
    connections_total: int
    bytes_sent_total: int
    bytes_received_total: int
    refused_total: dict[str, int]
    """By rule."""
