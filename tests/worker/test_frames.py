"""The Python mirrors of the wire format against the Zig that defines it."""

import re
import struct
from pathlib import Path

import pytest

from gateway.worker import answer, failure, head, output
from gateway.zygote import protocol
from tests.support import frames

SOURCE = Path(__file__).resolve().parents[2] / "zigcore" / "src"
FRAME = (SOURCE / "pool" / "frame.zig").read_text()
LIMITS = (SOURCE / "limits.zig").read_text()
LETTERS = {"u8": "B", "u16": "H", "u32": "I", "u64": "Q", "i32": "i", "Kind": "B", "ZygoteKind": "B", "Method": "B"}


def layout(name: str) -> str:
    """The struct format of an extern struct of frame.zig, reserved members as padding."""
    body = re.search(rf"pub const {name} = extern struct \{{\n(.*?)\n\}};", FRAME, re.DOTALL)
    assert body is not None
    parts = ["<"]
    for line in body[1].splitlines():
        member = re.match(r"\s+(\w+): (?:\[(\d+)\])?(\w+)", line)
        if member is None or line.strip().startswith("//"):
            continue
        field, count, kind = member[1], member[2], member[3]
        size = struct.calcsize(LETTERS[kind]) * int(count or 1)
        if re.fullmatch(r"reserved\d", field):
            parts.append(f"{size}x")
        else:
            parts.append(f"{count}s" if count else LETTERS[kind])
    return "".join(parts)


def limit(name: str) -> int:
    text = re.search(rf"pub const {name} = (.*?);", LIMITS)
    assert text is not None
    product = 1
    for factor in map(str.strip, text[1].split("*")):
        product *= {"kib": 1024, "mib": 2**20}.get(factor) or (int(factor) if factor.isdigit() else limit(factor))
    return product


@pytest.mark.parametrize(
    ("name", "mirror"),
    [
        ("Request", frames.REQUEST),
        ("Request", head.REQUEST),
        ("Answer", frames.ANSWER),
        ("Spawn", protocol.SPAWN),
        ("ZygoteReply", protocol.REPLY),
    ],
)
def test_layouts_agree(name, mirror):
    wanted = layout(name)
    sample = bytes(range(1, struct.calcsize(wanted) + 1))
    assert mirror.size == len(sample)
    names = iter(mirror.unpack(sample))
    assert all(value == next(names) for value in struct.unpack(wanted, sample))


def test_numbers_agree():
    magic = int(re.search(r"magic: u32 = (0x[0-9a-f_]+)", FRAME)[1].replace("_", ""), 16)
    assert magic == protocol.MAGIC == frames.MAGIC
    assert limit("body_bytes_max") == frames.BODY_BYTES_MAX
    assert limit("shared_bytes") == frames.SHARED_BYTES
    assert limit("body_inline_bytes_max") == frames.BODY_INLINE_BYTES_MAX
    assert limit("frame_bytes_max") == frames.FRAME_BYTES_MAX
    assert limit("answer_header_bytes_max") == answer.HEADER_BYTES_MAX
    assert limit("answer_headers_max") == answer.HEADERS_MAX
    assert limit("failure_entries_max") >= failure.ARGUMENTS_MAX + 4
    loop = (SOURCE / "runtime" / "loop.zig").read_text()
    assert f"log_line_bytes_max = {output.LINE_BYTES_MAX // 1024} * limits.kib" in loop
