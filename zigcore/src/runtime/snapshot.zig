//! What a checkpoint copies, and where to: the process's memory, sorted into areas, and one memory file with their content.
//!
//! Called by runtime/checkpoint: `take` once, `settle` once, then or later. Which pages the process has of its own one
//! PAGEMAP_SCAN tells for all of it. Of the zygote's memory (base.zig) only what was written to is copied.
//! What always holds: the file is sealed before an invocation runs; an area's content in the file is complete, so that it
//! can be mapped at any time; nothing here allocates.
const std = @import("std");
const limits = @import("../limits.zig");
const self = @import("../io/self.zig");
const base = @import("base.zig");
const Checkpoint = @import("checkpoint.zig");
const Layout = @import("layout.zig");

const Error = Checkpoint.Error;

/// A mapping, or a part of one, whose pages the process may own.
pub const Area = struct {
    start: usize,
    end: usize,
    /// In the memory file.
    offset: usize = 0,
    /// Where its content can be read: known once the memory file is mapped; of `base` from the start.
    source: usize = 0,
    prot: u8 = 0,
    /// `base`: the zygote's, and not written to before the checkpoint.
    kind: Kind,
};

pub const Kind = enum { snapshot, base, sealed, stack, ignored };

/// `c.baseline` has been read. Nothing but the stack and `c` is written to from here to the end.
pub fn take(c: *Checkpoint) Error!void {
    const owned = try scan(c);
    try find(c, owned);
    if (c.total_bytes > try self.sizeOf(c.belongings.memory)) return error.TooLarge;
    if (c.total_bytes > 0) try copyOut(c, owned);
    try self.sealWrites(c.belongings.memory);
    try window(c);
    for (c.areas[0..c.areas_count]) |*area| switch (area.kind) {
        .snapshot, .sealed => area.source = c.source + area.offset,
        .base, .stack, .ignored => {},
    };
}

/// Maps the file over all that was copied into it: the process is in the checkpoint's state, and owns none of its pages.
pub fn settle(c: *Checkpoint) Error!void {
    // From the first of these on there is no way but forward.
    for (c.areas[0..c.areas_count]) |area| switch (area.kind) {
        .snapshot, .sealed => _ = try self.mapPrivate(c.belongings.memory, area.start, area.end - area.start, area.prot, area.offset),
        .base, .stack, .ignored => {},
    };
    c.settled = true;
    c.due = false;
    c.hot_count = 0;
    c.hot_bytes = 0;
    // What is dirty now, outside of what was copied, is to be found anew.
    c.faults = 0;
    try c.baselineRead();
}

/// The process's own pages, all of them.
fn scan(c: *Checkpoint) Error![]const self.PageRange {
    var next: usize = 0;
    const count = try self.pagesOwn(c.belongings.pagemap, 0, self.address_end, &c.ranges, &next);
    return if (count == c.ranges.len) error.TooMany else c.ranges[0..count];
}

/// The part of them that lies in one stretch of memory.
const Within = struct {
    ranges: []const self.PageRange,
    start: usize,
    end: usize,

    fn init(owned: []const self.PageRange, start: usize, end: usize) Within {
        var low: usize = 0;
        var high = owned.len;
        // The first that ends behind the start.
        while (low < high) {
            const middle = (low + high) / 2;
            if (owned[middle].end <= start) low = middle + 1 else high = middle;
        }
        return .{ .ranges = owned[low..], .start = start, .end = end };
    }

    fn next(within: *Within) ?struct { start: usize, end: usize } {
        if (within.ranges.len == 0 or within.ranges[0].start >= within.end) return null;
        defer within.ranges = within.ranges[1..];
        return .{ .start = @max(within.start, within.ranges[0].start), .end = @min(within.end, within.ranges[0].end) };
    }
};

// -- Sorting ------------------------------------------------------------------------------------------------------

/// What is copied, and what may have pages of the process's own without being looked at.
fn find(c: *Checkpoint, owned: []const self.PageRange) Error!void {
    c.total_bytes = 0;
    for (c.baseline.all()) |mapping| {
        const area: Area = .{ .start = mapping.start, .end = mapping.end, .prot = mapping.prot, .kind = switch (mapping.kind) {
            .kernel => .ignored,
            .stack => .stack,
            .shared => if (mapping.prot & self.Prot.write != 0 and !isOurs(c, mapping)) return error.Shared else continue,
            .private => if (isOwn(c, mapping)) .ignored else if (mapping.prot & self.Prot.write != 0) .snapshot else if (hasPages(owned, mapping)) .sealed else continue,
        } };
        if (area.kind == .snapshot and base.has(mapping)) try ofBase(c, owned, mapping, area) else try add(c, area);
    }
}

fn add(c: *Checkpoint, area: Area) Error!void {
    if (c.areas_count == c.areas.len) return error.TooMany;
    const slot = &c.areas[c.areas_count];
    slot.* = area;
    c.areas_count += 1;
    if (area.kind == .stack or area.kind == .ignored or area.kind == .base) return;
    // Unreadable, yet it has pages: nothing that is known does so.
    if (area.prot & self.Prot.read == 0) return error.Other;
    slot.offset = c.total_bytes;
    c.total_bytes += area.end - area.start;
    if (c.total_bytes > limits.checkpoint_bytes_max) return error.TooLarge;
}

/// Of the zygote's memory only what this process has written to is copied, and what lies in small gaps between.
fn ofBase(c: *Checkpoint, owned: []const self.PageRange, mapping: Layout.Mapping, whole: Area) Error!void {
    var done = mapping.start;
    var within: Within = .init(owned, mapping.start, mapping.end);
    var written = within.next() orelse return addBase(c, mapping, whole, done, mapping.end);
    while (within.next()) |range| {
        if (range.start - written.end <= limits.base_gap_bytes) {
            written.end = range.end;
            continue;
        }
        try addBase(c, mapping, whole, done, written.start);
        try addWritten(c, whole, written.start, written.end);
        done = written.end;
        written = range;
    }
    try addBase(c, mapping, whole, done, written.start);
    try addWritten(c, whole, written.start, written.end);
    try addBase(c, mapping, whole, written.end, mapping.end);
}

fn addBase(c: *Checkpoint, mapping: Layout.Mapping, whole: Area, start: usize, end: usize) Error!void {
    if (start == end) return;
    var area = whole;
    area.start = start;
    area.end = end;
    area.kind = .base;
    area.source = base.contentOf(mapping) + (start - mapping.start);
    try add(c, area);
}

fn addWritten(c: *Checkpoint, whole: Area, start: usize, end: usize) Error!void {
    var area = whole;
    area.start = start;
    area.end = end;
    try add(c, area);
}

fn isOwn(c: *const Checkpoint, mapping: Layout.Mapping) bool {
    const heap = c.heap.bytes();
    for ([_][2]usize{ .{ @intFromPtr(c), @sizeOf(Checkpoint) }, .{ @intFromPtr(heap.ptr), heap.len } }) |own| {
        if (mapping.start < own[0] + own[1] and own[0] < mapping.end) return true;
    }
    return false;
}

/// The loop's own, which are not put back.
fn isOurs(c: *const Checkpoint, mapping: Layout.Mapping) bool {
    for (c.shared_own) |own| if (mapping.start <= own and own < mapping.end) return true;
    return false;
}

fn hasPages(owned: []const self.PageRange, mapping: Layout.Mapping) bool {
    var within: Within = .init(owned, mapping.start, mapping.end);
    return within.next() != null;
}

// -- Copying ------------------------------------------------------------------------------------------------------

/// Of anonymous memory and of the zygote's the pages that are there, of other private files all.
fn copyOut(c: *Checkpoint, owned: []const self.PageRange) Error!void {
    c.copied_bytes = 0;
    var writer: Writer = .{ .fd = c.belongings.memory };
    var limit: self.Limit = undefined;
    self.limitGet(self.limit_file_size, &limit);
    // The limit on the size of files is for tenants' own: what is larger is written to where it is mapped.
    if (c.total_bytes > limit[0]) writer.mapped = try self.mapShared(c.belongings.memory, c.total_bytes);
    defer if (writer.mapped) |mapped| self.release(@intFromPtr(mapped.ptr), mapped.len) catch {};
    var mappings = c.baseline.all();
    for (c.areas[0..c.areas_count]) |area| {
        if (area.kind == .stack or area.kind == .ignored or area.kind == .base) continue;
        while (mappings[0].end <= area.start) mappings = mappings[1..];
        if (mappings[0].inode != 0) {
            try writer.write(area.offset, area.start, area.end);
            c.copied_bytes += area.end - area.start;
            continue;
        }
        var within: Within = .init(owned, area.start, area.end);
        while (within.next()) |range| {
            try writer.write(area.offset + (range.start - area.start), range.start, range.end);
            c.copied_bytes += range.end - range.start;
        }
    }
    try writer.flush();
}

/// Many stretches of memory with one system call, where they follow each other in the file: without a page fault for
/// each page, and without clearing it first.
const Writer = struct {
    fd: self.Fd,
    mapped: ?[]u8 = null,
    parts: [64]self.Part = undefined,
    count: usize = 0,
    offset: usize = 0,
    bytes: usize = 0,

    fn write(writer: *Writer, offset: usize, start: usize, end: usize) Error!void {
        if (writer.mapped) |mapped| {
            @memcpy(mapped[offset..][0 .. end - start], @as([*]const u8, @ptrFromInt(start)));
            return;
        }
        if (writer.count == writer.parts.len or writer.offset + writer.bytes != offset) {
            try writer.flush();
            writer.offset = offset;
        }
        writer.parts[writer.count] = .{ .start = start, .bytes = end - start };
        writer.count += 1;
        writer.bytes += end - start;
    }

    fn flush(writer: *Writer) Error!void {
        if (writer.count == 0) return;
        try self.writeParts(writer.fd, writer.parts[0..writer.count], writer.offset, writer.bytes);
        writer.count = 0;
        writer.bytes = 0;
    }
};

/// Maps the file to be read, and notes that mapping among those that are to stay.
fn window(c: *Checkpoint) Error!void {
    if (c.total_bytes == 0) return;
    const bytes = std.mem.alignForward(usize, c.total_bytes, self.page_bytes);
    c.source = try self.mapPrivate(c.belongings.memory, 0, bytes, self.Prot.read, 0);
    const file = try self.about(c.belongings.memory);
    try c.baseline.insert(.{
        .start = c.source,
        .end = c.source + bytes,
        .device = Layout.deviceOf(file.device),
        .inode = file.inode,
        .prot = self.Prot.read,
    });
}
