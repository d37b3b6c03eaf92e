//! The process's mappings as /proc/self/maps lists them, and whether two lists say the same.
//!
//! Called by runtime/checkpoint, once to know what there is and again whenever something may have changed.
//! What always holds: entries ascend and do not overlap; neighbours that continue each other are one entry, because the
//! kernel merges and splits them as it likes. The text is the kernel's, yet a name in it is the tenant's: never trusted.
const std = @import("std");
const assert = std.debug.assert;
const limits = @import("../limits.zig");
const self = @import("../io/self.zig");

const Layout = @This();

pub const Kind = enum(u8) {
    /// The process's own.
    private,
    shared,
    stack,
    /// The kernel's: vdso, vvar, vsyscall.
    kernel,
};

pub const Mapping = struct {
    start: usize,
    end: usize,
    /// Of the file, at `start`.
    offset: usize = 0,
    device: u64 = 0,
    inode: u64 = 0,
    prot: u8 = 0,
    kind: Kind = .private,

    pub fn bytes(mapping: Mapping) usize {
        return mapping.end - mapping.start;
    }

    pub fn same(a: Mapping, b: Mapping) bool {
        return a.start == b.start and a.end == b.end and a.alike(b) and (a.inode == 0 or a.offset == b.offset);
    }

    fn alike(a: Mapping, b: Mapping) bool {
        return a.prot == b.prot and a.kind == b.kind and a.device == b.device and a.inode == b.inode;
    }

    fn continues(b: Mapping, a: Mapping) bool {
        return a.end == b.start and a.alike(b) and (a.inode == 0 or a.offset + a.bytes() == b.offset);
    }
};

pub const Error = self.Error || error{TooMany};

mappings: [limits.mappings_max]Mapping,
count: usize,

pub fn all(layout: *const Layout) []const Mapping {
    return layout.mappings[0..layout.count];
}

/// Reads the list anew. `text` is scratch.
pub fn read(layout: *Layout, maps: self.Fd, text: []u8) Error!void {
    var offset: usize = 0;
    var kept: usize = 0;
    layout.count = 0;
    while (true) {
        const got = try self.readFresh(maps, text[kept..], offset);
        offset += got.len;
        const filled = text[0 .. kept + got.len];
        const end = if (std.mem.findScalarLast(u8, filled, '\n')) |last| last + 1 else 0;
        var lines = std.mem.splitScalar(u8, filled[0..end], '\n');
        while (lines.next()) |line| if (line.len > 0) try layout.add(parse(line) orelse return error.Other);
        kept = filled.len - end;
        std.mem.copyForwards(u8, text[0..kept], filled[end..]);
        if (got.len == 0) return if (kept == 0) {} else error.Other;
    }
}

fn add(layout: *Layout, mapping: Mapping) Error!void {
    if (layout.count > 0 and mapping.continues(layout.mappings[layout.count - 1])) {
        layout.mappings[layout.count - 1].end = mapping.end;
        return;
    }
    if (layout.count == layout.mappings.len) return error.TooMany;
    layout.mappings[layout.count] = mapping;
    layout.count += 1;
}

/// One that has been made since.
pub fn insert(layout: *Layout, mapping: Mapping) Error!void {
    if (layout.count == layout.mappings.len) return error.TooMany;
    var at = layout.count;
    while (at > 0 and layout.mappings[at - 1].start > mapping.start) : (at -= 1) layout.mappings[at] = layout.mappings[at - 1];
    layout.mappings[at] = mapping;
    layout.count += 1;
}

/// A device as fstat(2) tells it, the way that the list of mappings does: major and minor.
pub fn deviceOf(number: u64) u64 {
    const major = ((number >> 8) & 0xfff) | ((number >> 32) & 0xffff_f000);
    const minor = (number & 0xff) | ((number >> 12) & 0xffff_ff00);
    return (major << 32) | minor;
}

/// START-END PERMISSIONS OFFSET MAJOR:MINOR INODE [NAME]
fn parse(line: []const u8) ?Mapping {
    var words = std.mem.tokenizeScalar(u8, line, ' ');
    const range = words.next() orelse return null;
    const permissions = words.next() orelse return null;
    const offset = words.next() orelse return null;
    const device = words.next() orelse return null;
    const inode = words.next() orelse return null;
    const name = words.next() orelse "";
    const dash = std.mem.findScalar(u8, range, '-') orelse return null;
    const colon = std.mem.findScalar(u8, device, ':') orelse return null;
    if (permissions.len != 4) return null;
    var prot: u8 = 0;
    if (permissions[0] == 'r') prot |= self.Prot.read;
    if (permissions[1] == 'w') prot |= self.Prot.write;
    if (permissions[2] == 'x') prot |= self.Prot.exec;
    const node = std.fmt.parseInt(u64, inode, 10) catch return null;
    const mapping: Mapping = .{
        .start = std.fmt.parseInt(usize, range[0..dash], 16) catch return null,
        .end = std.fmt.parseInt(usize, range[dash + 1 ..], 16) catch return null,
        .offset = if (node == 0) 0 else std.fmt.parseInt(usize, offset, 16) catch return null,
        .device = (std.fmt.parseInt(u64, device[0..colon], 16) catch return null) << 32 |
            (std.fmt.parseInt(u64, device[colon + 1 ..], 16) catch return null),
        .inode = node,
        .prot = prot,
        // A file may be called "[stack]": such a one has an inode.
        .kind = if (node == 0 and std.mem.eql(u8, name, "[stack]")) .stack else if (node == 0 and std.mem.startsWith(u8, name, "[v")) .kernel else if (permissions[3] == 's') .shared else .private,
    };
    return if (mapping.start < mapping.end) mapping else null;
}

const testing = std.testing;

test "lines are understood, and what is none is refused" {
    const heap = parse("55d0c8a4d000-55d0c8a6e000 rw-p 00000000 00:00 0                          [heap]").?;
    try testing.expectEqual(0x21000, heap.bytes());
    try testing.expectEqual(self.Prot.read | self.Prot.write, heap.prot);
    try testing.expectEqual(Kind.private, heap.kind);
    const text = parse("7f1f2c000000-7f1f2c021000 r-xp 00001000 fe:01 1234 /lib/[stack] x").?;
    try testing.expectEqual(Kind.private, text.kind);
    try testing.expectEqual(0x1000, text.offset);
    try testing.expectEqual(0xfe_0000_0001, text.device);
    try testing.expectEqual(Kind.stack, parse("7ffe0000-7fff0000 rw-p 00000000 00:00 0 [stack]").?.kind);
    try testing.expectEqual(Kind.kernel, parse("7ffe0000-7fff0000 r-xp 00000000 00:00 0 [vdso]").?.kind);
    try testing.expectEqual(Kind.shared, parse("7ffe0000-7fff0000 rw-s 00000000 00:01 7 /memfd:x (deleted)").?.kind);
    for ([_][]const u8{ "", "x", "10-20 rw-p 0 0:0", "20-10 rw-p 0 0:0 0", "10-20 rw 0 0:0 0", "10-z rw-p 0 0:0 0" }) |line| {
        try testing.expectEqual(null, parse(line));
    }
}

test "one that is inserted finds its place" {
    const layout = try testing.allocator.create(Layout);
    defer testing.allocator.destroy(layout);
    layout.count = 0;
    for ([_]usize{ 0x3000, 0x1000, 0x5000, 0x2000 }) |start| try layout.insert(.{ .start = start, .end = start + 0x1000 });
    for (layout.all(), [_]usize{ 0x1000, 0x2000, 0x3000, 0x5000 }) |mapping, start| try testing.expectEqual(start, mapping.start);
    try testing.expectEqual(0xfe_0000_0001, deviceOf(0xfe01));
    try testing.expectEqual(1, deviceOf(1));
}

test "neighbours that continue each other are one" {
    const layout = try testing.allocator.create(Layout);
    defer testing.allocator.destroy(layout);
    layout.count = 0;
    try layout.add(.{ .start = 0x1000, .end = 0x2000, .prot = 3 });
    try layout.add(.{ .start = 0x2000, .end = 0x3000, .prot = 3 });
    try layout.add(.{ .start = 0x3000, .end = 0x4000, .prot = 1 });
    try layout.add(.{ .start = 0x5000, .end = 0x6000, .prot = 1, .inode = 5, .offset = 0 });
    try layout.add(.{ .start = 0x6000, .end = 0x7000, .prot = 1, .inode = 5, .offset = 0x1000 });
    try layout.add(.{ .start = 0x7000, .end = 0x8000, .prot = 1, .inode = 5, .offset = 0 });
    try testing.expectEqual(4, layout.count);
    try testing.expectEqual(0x3000, layout.all()[0].end);
    try testing.expectEqual(0x7000, layout.all()[2].end);
}
