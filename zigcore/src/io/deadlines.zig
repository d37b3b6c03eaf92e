//! Deadlines of a fixed set of things (connections, workers), each with at most one: set, clear, take what has passed.
//!
//! Why a flat array: setting one on the hot path is a store and a comparison, and the scan that finds the passed ones
//! (4,096 words, a few microseconds) runs only when the earliest may have passed, at most once per `granularity_ns`.
//! Called by http/listener and pool/. What always holds: `earliest` is never later than any deadline that is set.
const std = @import("std");
const assert = std.debug.assert;

const Deadlines = @This();

at: []u64,
earliest: u64 = never,
granularity_ns: u64,

pub const never: u64 = std.math.maxInt(u64);

pub fn init(at: []u64, granularity_ns: u64) Deadlines {
    @memset(at, never);
    return .{ .at = at, .granularity_ns = granularity_ns };
}

pub fn set(d: *Deadlines, index: usize, at_ns: u64) void {
    d.at[index] = at_ns;
    if (at_ns < d.earliest) d.earliest = at_ns;
}

pub fn clear(d: *Deadlines, index: usize) void {
    // `earliest` stays: at worst one scan finds nothing.
    d.at[index] = never;
}

/// Whether a scan may find something.
pub fn due(d: *const Deadlines, now_ns: u64) bool {
    return d.earliest <= now_ns;
}

/// Walks over the deadlines that have passed, clearing them; handlers may set and clear any while it walks.
pub const Expired = struct {
    deadlines: *Deadlines,
    now_ns: u64,
    index: usize = 0,

    pub fn next(e: *Expired) ?usize {
        const at = e.deadlines.at;
        while (e.index < at.len) {
            const index = e.index;
            e.index += 1;
            if (at[index] <= e.now_ns) {
                at[index] = never;
                return index;
            }
        }
        // Everything earlier than now is gone: the next scan is due with the earliest of the rest, but not at once.
        var earliest = never;
        for (at) |at_ns| earliest = @min(earliest, at_ns);
        e.deadlines.earliest = if (earliest == never) never else @max(earliest, e.now_ns + e.deadlines.granularity_ns);
        return null;
    }
};

pub fn expire(d: *Deadlines, now_ns: u64) Expired {
    return .{ .deadlines = d, .now_ns = now_ns };
}

test "passed ones are found once, and setting one while walking is not lost" {
    var at: [4]u64 = undefined;
    var d: Deadlines = .init(&at, 10);
    d.set(1, 100);
    d.set(3, 50);
    d.set(2, 500);
    try std.testing.expect(!d.due(49));
    try std.testing.expect(d.due(120));
    var expired = d.expire(120);
    try std.testing.expectEqual(1, expired.next());
    d.set(0, 119);
    try std.testing.expectEqual(3, expired.next());
    try std.testing.expectEqual(null, expired.next());
    try std.testing.expectEqual(130, d.earliest);
    var again = d.expire(130);
    try std.testing.expectEqual(0, again.next());
    try std.testing.expectEqual(null, again.next());
    try std.testing.expectEqual(500, d.earliest);
    d.clear(2);
    try std.testing.expect(d.due(500));
    var last = d.expire(500);
    try std.testing.expectEqual(null, last.next());
    try std.testing.expectEqual(Deadlines.never, d.earliest);
}
