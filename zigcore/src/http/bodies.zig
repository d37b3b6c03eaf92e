//! Buffers for bodies that do not fit a connection's own: a fixed number, the last one given back is the next one taken.
//!
//! Called by http/intake and pool/answer. What always holds: a buffer belongs to one connection or is free; requests and
//! answers each leave a quarter to the other, so that no crowd of uploads keeps the answers of functions that have run, and
//! no crowd of readers keeps uploads out. None left: a request is answered 503, an answer waits.
const std = @import("std");
const assert = std.debug.assert;
const limits = @import("../limits.zig");

const Bodies = @This();

memory: []u8,
free: [limits.body_buffers_count]u16,
free_count: u16,
uses: [limits.body_buffers_count]Use,
held: std.enums.EnumArray(Use, u16),

pub const Use = enum { request, answer };

pub const memory_bytes = @as(usize, limits.body_buffers_count) * limits.body_bytes_max;

pub fn init(memory: []u8) Bodies {
    assert(memory.len == memory_bytes);
    var bodies: Bodies = .{ .memory = memory, .free = undefined, .free_count = limits.body_buffers_count, .uses = undefined, .held = .initFill(0) };
    for (&bodies.free, 0..) |*number, index| number.* = @intCast(limits.body_buffers_count - 1 - index);
    return bodies;
}

/// How many may still be taken for this use.
pub fn room(bodies: *const Bodies, use: Use) u16 {
    return @min(bodies.free_count, limits.body_buffers_share_count - bodies.held.get(use));
}

pub fn take(bodies: *Bodies, use: Use) ?u16 {
    if (bodies.room(use) == 0) return null;
    bodies.free_count -= 1;
    const number = bodies.free[bodies.free_count];
    bodies.uses[number] = use;
    bodies.held.getPtr(use).* += 1;
    return number;
}

pub fn giveBack(bodies: *Bodies, number: u16) void {
    assert(number < limits.body_buffers_count and bodies.free_count < limits.body_buffers_count);
    bodies.held.getPtr(bodies.uses[number]).* -= 1;
    bodies.free[bodies.free_count] = number;
    bodies.free_count += 1;
}

pub fn bytes(bodies: *const Bodies, number: u16) []u8 {
    assert(number < limits.body_buffers_count);
    return bodies.memory[@as(usize, number) * limits.body_bytes_max ..][0..limits.body_bytes_max];
}

test "one use leaves its share to the other, and the last given back comes first" {
    const memory = try std.testing.allocator.alloc(u8, memory_bytes);
    defer std.testing.allocator.free(memory);
    var bodies: Bodies = .init(memory);
    for (0..limits.body_buffers_share_count) |number| try std.testing.expectEqual(@as(?u16, @intCast(number)), bodies.take(.answer));
    try std.testing.expectEqual(null, bodies.take(.answer));
    for (limits.body_buffers_share_count..limits.body_buffers_count) |number| {
        try std.testing.expectEqual(@as(?u16, @intCast(number)), bodies.take(.request));
    }
    try std.testing.expectEqual(null, bodies.take(.request));
    bodies.giveBack(7);
    try std.testing.expectEqual(1, bodies.room(.answer));
    try std.testing.expectEqual(7, bodies.take(.request));
    try std.testing.expectEqual(0, bodies.room(.answer));
    try std.testing.expectEqual(limits.body_bytes_max, bodies.bytes(63).len);
}
