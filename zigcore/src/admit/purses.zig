//! The purses for the host's eyes: those that were touched since it looked, as a JSON array.
//!
//! Called by abi/gateway.zig on the host's thread. `at` remembers where the last call ended, so that a buffer that is too
//! small delays rows and loses none. Names are DNS labels with at most one slash: nothing needs escaping.
const std = @import("std");
const assert = std.debug.assert;
const Slots = @import("slots.zig").Slots;
pub const Purse = @import("purse.zig");

const row_bytes_max = 384;

/// `[{"name":"acme","left":[i,c,m],"spent":[i,c,m]},…]`; returns its bytes.
pub fn write(slots: *Slots, at: *u32, buffer: []u8) usize {
    if (buffer.len < 2 + row_bytes_max) return 0;
    buffer[0] = '[';
    var end: usize = 1;
    while (end + row_bytes_max < buffer.len) {
        const found = slots.touchedNext(at) orelse {
            at.* = 0;
            break;
        };
        const purse = found.purse;
        const row = std.fmt.bufPrint(buffer[end..][0..row_bytes_max], "{s}{{\"name\":\"{s}\",\"left\":[{d},{d},{d}],\"spent\":[{d},{d},{d}]}}", .{
            if (end > 1) "," else "",            found.name,
            purse.invocations.load(.monotonic),  purse.cpu_us.load(.monotonic),
            purse.mib_us.load(.monotonic),       purse.spent_invocations.load(.monotonic),
            purse.spent_cpu_us.load(.monotonic), purse.spent_mib_us.load(.monotonic),
        }) catch unreachable; // Two names and six numbers.
        end += row.len;
    }
    buffer[end] = ']';
    assert(end < buffer.len);
    return end + 1;
}

test "touched purses are told once, and a small buffer delays some" {
    const slots = try Slots.create();
    defer slots.destroy();
    const Tenant = @import("../route/table.zig").Tenant;
    var tenants: [3]Tenant = undefined;
    for (&tenants, [_][]const u8{ "a", "b", "c" }) |*tenant, name| {
        tenant.* = .{ .name = name, .concurrency_max = 1, .slot = 0, .openapi_public = "", .openapi_all = "" };
    }
    try slots.assign(&tenants, &.{});
    slots.commit();
    for (tenants) |tenant| try std.testing.expectEqual(null, slots.purse(tenant.slot).take());
    slots.purse(tenants[1].slot).spend(5, 6);
    var buffer: [2 + row_bytes_max + 100]u8 = undefined;
    var at: u32 = 0;
    var told: [3]bool = @splat(false);
    for (0..4) |_| {
        const parsed = try std.json.parseFromSlice(std.json.Value, std.testing.allocator, buffer[0..write(slots, &at, &buffer)], .{});
        defer parsed.deinit();
        for (parsed.value.array.items) |row| {
            const name = row.object.get("name").?.string;
            try std.testing.expect(!told[name[0] - 'a']);
            told[name[0] - 'a'] = true;
            if (name[0] == 'b') try std.testing.expectEqual(6, row.object.get("spent").?.array.items[2].integer);
        }
    }
    try std.testing.expectEqual([3]bool{ true, true, true }, told);
}
