//! Memory that is taken once, at start: zeroed pages for one large `T`, touched only where it is used.
//!
//! Called by every module that owns a table, a ring or counters, in its `create()`. Afterwards nothing allocates.
//! `Allocator.create` is not used because safe builds fill what it returns, which would make every reserved page resident.
const std = @import("std");
const assert = std.debug.assert;

/// The bytes are zero, as a fresh anonymous mapping's are.
pub fn create(comptime T: type) error{OutOfMemory}!*T {
    comptime assert(@sizeOf(T) > 0 and @alignOf(T) <= std.heap.page_size_min);
    const bytes = std.heap.page_allocator.rawAlloc(@sizeOf(T), .fromByteUnits(std.heap.page_size_min), @returnAddress());
    return @ptrCast(@alignCast(bytes orelse return error.OutOfMemory));
}

/// `object` came from `create`.
pub fn destroy(comptime T: type, object: *T) void {
    const bytes: [*]u8 = @ptrCast(object);
    std.heap.page_allocator.rawFree(bytes[0..@sizeOf(T)], .fromByteUnits(std.heap.page_size_min), @returnAddress());
}

test "pages are zeroed" {
    const Big = struct { bytes: [1 << 20]u8 };
    const big = try create(Big);
    defer destroy(Big, big);
    try std.testing.expect(std.mem.allEqual(u8, &big.bytes, 0));
    big.bytes[big.bytes.len - 1] = 1;
}
