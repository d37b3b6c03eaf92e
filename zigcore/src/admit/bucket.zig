//! A tenant's rate: a token bucket as one atomic number, shared by all reactors (GCRA, ITU-T I.371: the virtual
//! scheduling form of the leaky bucket).
//!
//! Called by admit.zig. `full_ns` is when the bucket will be full again if nobody takes more; every taken token moves it
//! by one interval. Nothing refills and nobody counts down, so an idle tenant costs nothing. Rate and burst are the
//! caller's current ones: a changed tier holds from the next invocation on.
const std = @import("std");
const assert = std.debug.assert;
const limits = @import("../limits.zig");

const Bucket = @This();

/// Monotonic, ns; in the past: the bucket is full.
full_ns: std.atomic.Value(u64) = .init(0),
/// What `full_ns` was counted with. Debts of one rate mean nothing under another: a new rate starts with a full bucket.
rate_per_s: std.atomic.Value(u32) = .init(0),

pub const Taken = union(enum) {
    /// Tokens that are left.
    left: u32,
    /// Nothing was taken; a token is there after so long.
    wait_ns: u64,
};

/// `rate_per_s` tokens come back each second, up to `burst` of them (1 at least).
pub fn take(bucket: *Bucket, now_ns: u64, rate_per_s: u32, burst: u32) Taken {
    assert(rate_per_s > 0 and rate_per_s <= limits.rate_per_s_max and burst <= limits.burst_max);
    const interval_ns = limits.s_ns / @as(u64, rate_per_s);
    const room_ns = interval_ns * @max(burst, 1);
    if (bucket.rate_per_s.load(.monotonic) != rate_per_s and bucket.rate_per_s.swap(rate_per_s, .monotonic) != rate_per_s) {
        bucket.full_ns.store(0, .monotonic);
    }
    var seen = bucket.full_ns.load(.monotonic);
    while (true) {
        const full_ns = @max(seen, now_ns) + interval_ns;
        if (full_ns - now_ns > room_ns) return .{ .wait_ns = full_ns - now_ns - room_ns };
        // A failed exchange means that another reactor took one: the loop ends.
        seen = bucket.full_ns.cmpxchgWeak(seen, full_ns, .monotonic, .monotonic) orelse
            return .{ .left = @intCast((room_ns - (full_ns - now_ns)) / interval_ns) };
    }
}

/// What was taken is put back: the invocation was refused for another reason.
pub fn giveBack(bucket: *Bucket, rate_per_s: u32) void {
    _ = bucket.full_ns.fetchSub(limits.s_ns / @as(u64, rate_per_s), .monotonic);
}

test "a burst is served at once, then the rate holds, and an idle second fills the bucket" {
    var bucket: Bucket = .{};
    var now_ns: u64 = 1_000 * limits.s_ns;
    for (0..5) |i| try std.testing.expectEqual(@as(u32, @intCast(4 - i)), bucket.take(now_ns, 10, 5).left);
    try std.testing.expectEqual(100 * limits.ms_ns, bucket.take(now_ns, 10, 5).wait_ns);
    try std.testing.expectEqual(100 * limits.ms_ns, bucket.take(now_ns, 10, 5).wait_ns);
    now_ns += 100 * limits.ms_ns;
    try std.testing.expectEqual(0, bucket.take(now_ns, 10, 5).left);
    try std.testing.expectEqual(100 * limits.ms_ns, bucket.take(now_ns, 10, 5).wait_ns);
    bucket.giveBack(10);
    try std.testing.expectEqual(0, bucket.take(now_ns, 10, 5).left);
    now_ns += 3600 * limits.s_ns;
    try std.testing.expectEqual(4, bucket.take(now_ns, 10, 5).left);
}

test "a burst of nothing is one, and a new rate starts with a full bucket" {
    var bucket: Bucket = .{};
    try std.testing.expectEqual(0, bucket.take(0, 1, 0).left);
    try std.testing.expectEqual(limits.s_ns, bucket.take(0, 1, 0).wait_ns);
    try std.testing.expectEqual(999_999, bucket.take(0, 1_000_000, 1_000_000).left);
    try std.testing.expectEqual(0, bucket.take(0, 1, 1).left);
    try std.testing.expect(bucket.take(0, 1, 1) == .wait_ns);
}

test "reactors together take no more than the burst" {
    var bucket: Bucket = .{};
    const Racer = struct {
        fn run(shared: *Bucket, taken: *std.atomic.Value(u32)) void {
            for (0..10_000) |_| {
                if (shared.take(limits.s_ns, 1000, 777) == .left) _ = taken.fetchAdd(1, .monotonic);
            }
        }
    };
    var taken: std.atomic.Value(u32) = .init(0);
    var threads: [4]std.Thread = undefined;
    for (&threads) |*thread| thread.* = try std.Thread.spawn(.{}, Racer.run, .{ &bucket, &taken });
    for (threads) |thread| thread.join();
    try std.testing.expectEqual(777, taken.load(.monotonic));
}
