//! Memory of one reactor: one mapping, handed out in pieces at start, never given back. Pages are touched on first use.
//!
//! Not std.heap: its allocators fill what they hand out in safe builds, which would make every reserved page resident.
//! Called by reactor.zig. What always holds: pieces are zeroed, aligned to a cache line at least, and never overlap.
const std = @import("std");
const assert = std.debug.assert;
const sys = @import("sys.zig");

const Arena = @This();

memory: []align(4096) u8,
used: usize = 0,

pub fn init(size: usize) sys.Error!Arena {
    return .{ .memory = try sys.mapAnonymous(std.mem.alignForward(usize, size, 4096)) };
}

/// A piece of `count` things, all bytes zero.
pub fn take(arena: *Arena, comptime T: type, count: usize) sys.Error![]T {
    const piece = try arena.bytes(count * @sizeOf(T), @max(64, @alignOf(T)));
    return @as([*]T, @ptrCast(@alignCast(piece.ptr)))[0..count];
}

pub fn takePages(arena: *Arena, count: usize) sys.Error![]align(4096) u8 {
    return @alignCast(try arena.bytes(count, 4096));
}

fn bytes(arena: *Arena, count: usize, alignment: usize) sys.Error![]u8 {
    const at = std.mem.alignForward(usize, arena.used, alignment);
    if (at + count > arena.memory.len) return error.NoMemory;
    arena.used = at + count;
    return arena.memory[at..][0..count];
}

test "pieces are aligned, zeroed and bounded" {
    var arena: Arena = try .init(3 * 4096);
    const a = try arena.take(u64, 3);
    const b = try arena.takePages(4096);
    try std.testing.expectEqual(0, a[2]);
    try std.testing.expectEqual(0, @intFromPtr(b.ptr) % 4096);
    try std.testing.expectError(error.NoMemory, arena.takePages(4097));
    _ = try arena.takePages(4096);
}
