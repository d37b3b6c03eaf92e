//! What a tenant, or one function of it, may still spend on this node: three meters, filled by leases of the host.
//!
//! Called by admit.zig (any reactor) and, through slots.zig, by the host's thread. A quota belongs to the cluster; a
//! node holds slices of it. An invocation takes one from `invocations` before it runs (exact: never more than was
//! leased); CPU and memory are known only afterwards, so they are taken when it is settled and may end below zero by
//! what was running then, at most the concurrency times the invocation's own limits.
//! A purse starts with a small credit, so that the first call of a tenant does not wait for Redis; the host takes it
//! out of the first lease.
const std = @import("std");
const assert = std.debug.assert;
const limits = @import("../limits.zig");

const Purse = @This();

/// Left of the leases; below zero: overdrawn.
invocations: std.atomic.Value(i64) = .init(limits.credit_invocations_max),
cpu_us: std.atomic.Value(i64) = .init(limits.credit_cpu_us_max),
mib_us: std.atomic.Value(i64) = .init(limits.credit_mib_us_max),
/// Spent since the process began; what the host tells Redis.
spent_invocations: std.atomic.Value(u64) = .init(0),
spent_cpu_us: std.atomic.Value(u64) = .init(0),
spent_mib_us: std.atomic.Value(u64) = .init(0),
/// Something was spent or refused since the host looked.
touched: std.atomic.Value(bool) = .init(false),
/// Why the host could not lease more; says which limit an empty purse means.
reason: std.atomic.Value(Reason) = .init(.none),
/// Of the meter in `reason`, over the whole cluster, for the owner's answer.
allowed: std.atomic.Value(i64) = .init(0),
used: std.atomic.Value(i64) = .init(0),

pub const Reason = enum(u8) {
    /// None was asked for yet, or there is more to come.
    none,
    invocations,
    cpu,
    memory,
    /// The cap that the tenant set on its spending.
    spend,
    /// Redis is away: nobody knows.
    unknown,
};

pub const Mode = enum(u32) { add = 0, set = 1, _ };
pub const Amount = struct { invocations: i64, cpu_us: i64, mib_us: i64 };

/// Takes one invocation. Null: done; otherwise which meter is empty.
pub fn take(purse: *Purse) ?Reason {
    purse.touched.store(true, .monotonic);
    if (purse.cpu_us.load(.monotonic) <= 0 or purse.mib_us.load(.monotonic) <= 0) return purse.why();
    if (purse.invocations.fetchSub(1, .monotonic) > 0) return null;
    _ = purse.invocations.fetchAdd(1, .monotonic);
    return purse.why();
}

/// A refused invocation has not run and costs nothing; neither does one that we broke.
pub fn giveBack(purse: *Purse) void {
    _ = purse.invocations.fetchAdd(1, .monotonic);
}

/// The invocation ran.
pub fn spend(purse: *Purse, cpu_us: u64, mib_us: u64) void {
    _ = purse.spent_invocations.fetchAdd(1, .monotonic);
    _ = purse.spent_cpu_us.fetchAdd(cpu_us, .monotonic);
    _ = purse.spent_mib_us.fetchAdd(mib_us, .monotonic);
    _ = purse.cpu_us.fetchSub(@intCast(cpu_us), .monotonic);
    _ = purse.mib_us.fetchSub(@intCast(mib_us), .monotonic);
    purse.touched.store(true, .monotonic);
}

/// The host's word after it asked for more.
pub fn fill(purse: *Purse, amount: Amount, mode: Mode, reason: Reason) void {
    switch (mode) {
        .add => {
            _ = purse.invocations.fetchAdd(amount.invocations, .monotonic);
            _ = purse.cpu_us.fetchAdd(amount.cpu_us, .monotonic);
            _ = purse.mib_us.fetchAdd(amount.mib_us, .monotonic);
        },
        .set, _ => {
            purse.invocations.store(amount.invocations, .monotonic);
            purse.cpu_us.store(amount.cpu_us, .monotonic);
            purse.mib_us.store(amount.mib_us, .monotonic);
        },
    }
    purse.reason.store(reason, .monotonic);
}

/// The keeper of the quota knows which bound it is. Without its word the lease is only late: nothing is used up.
fn why(purse: *const Purse) Reason {
    const reason = purse.reason.load(.monotonic);
    return if (reason == .none) .unknown else reason;
}

test "invocations are exact, and an empty purse says why" {
    var purse: Purse = .{};
    purse.fill(.{ .invocations = 2, .cpu_us = 10, .mib_us = 10 }, .set, .none);
    try std.testing.expectEqual(null, purse.take());
    try std.testing.expectEqual(null, purse.take());
    try std.testing.expectEqual(.unknown, purse.take().?);
    purse.giveBack();
    try std.testing.expectEqual(null, purse.take());
    purse.fill(.{ .invocations = 5, .cpu_us = 0, .mib_us = 0 }, .add, .none);
    purse.spend(10, 1);
    try std.testing.expectEqual(.unknown, purse.take().?);
    purse.fill(.{ .invocations = 0, .cpu_us = 0, .mib_us = 0 }, .add, .cpu);
    try std.testing.expectEqual(.cpu, purse.take().?);
    purse.fill(.{ .invocations = 0, .cpu_us = 1, .mib_us = -9 }, .add, .spend);
    try std.testing.expectEqual(.spend, purse.take().?);
    try std.testing.expectEqual(5, purse.invocations.load(.monotonic));
    try std.testing.expectEqual(1, purse.spent_invocations.load(.monotonic));
    try std.testing.expect(purse.touched.load(.monotonic));
}

test "reactors together spend no more than was leased" {
    var purse: Purse = .{};
    purse.fill(.{ .invocations = 1000, .cpu_us = 1, .mib_us = 1 }, .set, .none);
    const Racer = struct {
        fn run(shared: *Purse, taken: *std.atomic.Value(u32)) void {
            for (0..10_000) |_| {
                if (shared.take() == null) _ = taken.fetchAdd(1, .monotonic);
            }
        }
    };
    var taken: std.atomic.Value(u32) = .init(0);
    var threads: [4]std.Thread = undefined;
    for (&threads) |*thread| thread.* = try std.Thread.spawn(.{}, Racer.run, .{ &purse, &taken });
    for (threads) |thread| thread.join();
    // The failing ones take for a moment: fewer may be served, and the rest is still there.
    try std.testing.expect(taken.load(.monotonic) <= 1000);
    try std.testing.expectEqual(1000 - @as(i64, taken.load(.monotonic)), purse.invocations.load(.monotonic));
}
