"""Gateways → control plane: what functions print, through one Redis stream. For people to read: best effort, bounded
everywhere, and what is lost on the way is said in a line of its own (``NOTICE``).

An entry holds a batch of lines as a JSON array of ``Line`` (``LINES_FIELD``). The whole output is also in the files of
the node (gateway/host/function_log.py).
"""

from typing import Final

import msgspec

OUTPUT_STREAM: Final = "tailcut:output"
LINES_FIELD: Final = b"lines"
STREAM_ENTRIES_MAX: Final = 20_000
"""Batches that wait while no control plane reads; the oldest go first."""
BATCH_LINES_MAX: Final = 500
BATCH_BYTES_MAX: Final = 256 * 1024
NOTICE: Final = "notice"
"""``stream`` of a line that is not the function's."""


class Line(msgspec.Struct, frozen=True, omit_defaults=True):
    time_ns: int
    tenant_id: str
    function: str
    version_id: str
    request_id: str
    stream: str
    text: str


encoder = msgspec.json.Encoder()
decoder = msgspec.json.Decoder(list[Line])
