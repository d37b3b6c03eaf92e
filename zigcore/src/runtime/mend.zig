//! A rewound process's mappings: those made since the checkpoint go, those removed, moved or protected otherwise come back.
//!
//! Called by runtime/checkpoint when a size, a call or a page where none should be says that they may differ; comparing
//! all of them costs some microseconds for each. What always holds: what cannot be put back is an error, and ends the
//! process.
const self = @import("../io/self.zig");
const snapshot = @import("snapshot.zig");
const base = @import("base.zig");
const Checkpoint = @import("checkpoint.zig");
const Layout = @import("layout.zig");

const Error = Checkpoint.Error;

pub fn mend(c: *Checkpoint) Error!void {
    c.mends += 1;
    try c.current.read(c.belongings.maps, &c.text);
    var first: usize = 0;
    var changed = false;
    const baseline = c.baseline.all();
    for (c.current.all()) |mapping| {
        if (mapping.kind == .stack or mapping.kind == .kernel) continue;
        while (first < baseline.len and baseline[first].end <= mapping.start) first += 1;
        var at = mapping.start;
        for (baseline[first..]) |kept| {
            if (kept.start >= mapping.end) break;
            if (kept.start > at) {
                try self.release(at, kept.start - at);
                changed = true;
            }
            at = @max(at, kept.end);
        }
        if (at < mapping.end) {
            try self.release(at, mapping.end - at);
            changed = true;
        }
    }
    var index: usize = 0;
    const current = c.current.all();
    for (baseline) |kept| {
        if (kept.kind == .stack or kept.kind == .kernel) continue;
        while (index < current.len and current[index].end <= kept.start) index += 1;
        if (index < current.len and current[index].same(kept)) continue;
        try remake(c, kept, if (index < current.len) current[index] else null);
        changed = true;
    }
    // Reading the list again takes as long as all of this.
    if (changed) try c.baselineRead() else try c.sizeNote();
}

fn remake(c: *Checkpoint, mapping: Layout.Mapping, found: ?Layout.Mapping) Error!void {
    for (c.areas[0..c.areas_count]) |area| {
        if (area.start >= mapping.end or area.end <= mapping.start) continue;
        if (area.kind == .base) {
            try baseBack(c, area);
            continue;
        }
        if (area.kind != .snapshot and area.kind != .sealed) return error.Other;
        _ = try self.mapPrivate(c.belongings.memory, area.start, area.end - area.start, area.prot, area.offset);
    }
    for (c.areas[0..c.areas_count]) |area| if (area.start < mapping.end and area.end > mapping.start) return;
    // A private file that nothing was ever written to: only its protection can be put back.
    const there = found orelse return error.Missing;
    if (there.start > mapping.start or mapping.kind != .private) return error.Missing;
    try self.protect(mapping.start, mapping.bytes(), mapping.prot);
    self.drop(mapping.start, mapping.bytes());
}

/// The zygote's file cannot be mapped anew from in here: only the protection can be put back.
fn baseBack(c: *Checkpoint, area: snapshot.Area) Error!void {
    var at = area.start;
    for (c.current.all()) |mapping| {
        if (mapping.end <= at) continue;
        if (at >= area.end) break;
        if (mapping.start > at or !base.has(mapping)) return error.Missing;
        if (base.contentOf(mapping) + (at - mapping.start) != area.source + (at - area.start)) return error.Missing;
        at = mapping.end;
    }
    if (at < area.end) return error.Missing;
    try self.protect(area.start, area.end - area.start, area.prot);
}
