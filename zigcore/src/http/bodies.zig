//! Buffers for bodies that do not fit a connection's own: a fixed number, the last one given back is the next one taken.
//!
//! Called by http/listener and pool/answer. What always holds: a buffer belongs to one connection or is free; when all
//! are taken a request is answered 503, and an answer waits.
const std = @import("std");
const assert = std.debug.assert;
const limits = @import("../limits.zig");

const Bodies = @This();

memory: []u8,
free: [limits.body_buffers_count]u16,
free_count: u16,

pub const memory_bytes = @as(usize, limits.body_buffers_count) * limits.body_bytes_max;

pub fn init(memory: []u8) Bodies {
    assert(memory.len == memory_bytes);
    var bodies: Bodies = .{ .memory = memory, .free = undefined, .free_count = limits.body_buffers_count };
    for (&bodies.free, 0..) |*number, index| number.* = @intCast(limits.body_buffers_count - 1 - index);
    return bodies;
}

/// For a request: leaves some to answers, so that no crowd of uploads keeps those of functions that have run.
pub fn takeForRequest(bodies: *Bodies) ?u16 {
    return if (bodies.free_count > limits.body_buffers_answers_count) bodies.take() else null;
}

pub fn take(bodies: *Bodies) ?u16 {
    if (bodies.free_count == 0) return null;
    bodies.free_count -= 1;
    return bodies.free[bodies.free_count];
}

pub fn giveBack(bodies: *Bodies, number: u16) void {
    assert(number < limits.body_buffers_count and bodies.free_count < limits.body_buffers_count);
    bodies.free[bodies.free_count] = number;
    bodies.free_count += 1;
}

pub fn bytes(bodies: *const Bodies, number: u16) []u8 {
    assert(number < limits.body_buffers_count);
    return bodies.memory[@as(usize, number) * limits.body_bytes_max ..][0..limits.body_bytes_max];
}

test "all can be taken, and the last given back comes first" {
    const memory = try std.testing.allocator.alloc(u8, memory_bytes);
    defer std.testing.allocator.free(memory);
    var bodies: Bodies = .init(memory);
    for (0..limits.body_buffers_count) |number| try std.testing.expectEqual(@as(?u16, @intCast(number)), bodies.take());
    try std.testing.expectEqual(null, bodies.take());
    bodies.giveBack(7);
    try std.testing.expectEqual(null, bodies.takeForRequest());
    try std.testing.expectEqual(7, bodies.take());
    try std.testing.expectEqual(limits.body_bytes_max, bodies.bytes(63).len);
}
