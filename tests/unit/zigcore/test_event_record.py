"""The record of an event is the same in zigcore.h (what the host reads) and in pool/events.zig (what is written)."""

import re
from pathlib import Path

from cffi import FFI  # type: ignore[import-untyped]

ZIGCORE = Path(__file__).parents[3] / "zigcore"
SIZES = {"u8": 1, "u16": 2, "u32": 4, "u64": 8, "i32": 4, "Kind": 2, "[16]u8": 16}


def header() -> FFI:
    ffi = FFI()
    ffi.cdef((ZIGCORE / "include" / "zigcore.h").read_text())
    return ffi


def zig_source() -> str:
    return (ZIGCORE / "src" / "pool" / "events.zig").read_text()


def test_fields_have_the_same_names_sizes_and_places() -> None:
    body = zig_source().split("pub const Event = extern struct {", 1)[1].split("};", 1)[0]
    place = 0
    zig_fields = []
    for name, zig_type in re.findall(r"^    (\w+): ([^,]+),$", body, flags=re.MULTILINE):
        zig_fields.append((name, place, SIZES[zig_type]))
        place += SIZES[zig_type]
    ffi = header()
    event = ffi.typeof("zc_event")
    assert [(name, field.offset, ffi.sizeof(field.type)) for name, field in event.fields] == zig_fields
    assert ffi.sizeof(event) == place == 48


def test_kinds_have_the_same_numbers() -> None:
    enum = zig_source().split("pub const Kind = enum(u16) {", 1)[1].split("}", 1)[0]
    zig_kinds = {name: int(value) for name, value in re.findall(r"(\w+) = (\d+)", enum)}
    kinds = header().typeof("zc_event_kind").relements
    assert {name.removeprefix("ZC_EVENT_").lower(): value for name, value in kinds.items()} == zig_kinds
