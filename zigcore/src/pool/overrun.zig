//! The answer to an invocation that ran over one of its limits: which, how much was allowed, how much it was.
//!
//! Called by answer (the function's own word: a MemoryError, output that is too large) and reap (a worker that was killed
//! for it). An owner whose tenant could buy more of just that gets 402 with the tier's name and where to get it; everybody
//! else gets the limit's own type, without figures of the tenant's. Traceback and message are the owner's, too.
const std = @import("std");
const problem = @import("../http/problem.zig");
const Table = @import("../route/table.zig");
const Invocation = @import("invocation.zig");
const Pool = @import("pool.zig");
const Worker = @import("worker.zig");
const answer = @import("answer.zig");

pub const Limit = enum {
    timeout,
    cpu,
    memory,
    output,

    fn about(limit: Limit) struct { problem.Type, []const u8 } {
        return switch (limit) {
            .timeout => .{ .timeout, "wall-clock" },
            .cpu => .{ .cpu_limit, "cpu" },
            .memory => .{ .memory_limit, "memory" },
            .output => .{ .output_limit, "output" },
        };
    }

    fn upgrade(limit: Limit, version: *const Table.Version) []const u8 {
        return switch (limit) {
            .timeout => version.upgrade.timeout,
            .cpu => version.upgrade.cpu,
            .memory => version.upgrade.memory,
            .output => version.upgrade.output,
        };
    }
};

pub const Amount = union(enum) { ms: [2]u64, bytes: [2]u64 };

pub const Overrun = struct {
    limit: Limit,
    detail: []const u8,
    /// Allowed, used.
    amount: Amount,
    cpu_us: u64 = 0,
    /// What the handler raised, where it was: empty where it had no say.
    type: []const u8 = "",
    message: []const u8 = "",
    traceback: []const u8 = "",
};

/// Answers the invocation that runs on a worker; the caller settles it.
pub fn tell(p: *Pool, w: *Worker, overrun: Overrun) void {
    const invocation = &p.invocations.items[w.invocation];
    const kind, const name = overrun.limit.about();
    var members: [10]answer.Member = undefined;
    var count: usize = 0;
    const put = struct {
        fn put(list: []answer.Member, at: *usize, member: answer.Member) void {
            list[at.*] = member;
            at.* += 1;
        }
    }.put;
    put(&members, &count, .{ .text = .{ "limit", name } });
    if (!invocation.owner) return answer.problemOf(p, w, kind, overrun.detail, overrun.cpu_us, members[0..count]);
    switch (overrun.amount) {
        inline else => |amount, unit| {
            put(&members, &count, .{ .integer = .{ "allowed_" ++ @tagName(unit), std.math.lossyCast(i64, amount[0]) } });
            put(&members, &count, .{ .integer = .{ "used_" ++ @tagName(unit), std.math.lossyCast(i64, amount[1]) } });
        },
    }
    if (overrun.type.len > 0) put(&members, &count, .{ .failure = .{ overrun.type, overrun.message } });
    if (overrun.traceback.len > 0) put(&members, &count, .{ .text_tail = .{ "traceback", overrun.traceback } });
    const offer = offerOf(p, invocation, overrun.limit) orelse
        return answer.problemOf(p, w, kind, overrun.detail, overrun.cpu_us, members[0..count]);
    put(&members, &count, .{ .text = .{ "tier", offer.tier } });
    put(&members, &count, .{ .text = .{ "next_tier", offer.next_tier } });
    if (offer.upgrade_url.len > 0) put(&members, &count, .{ .text = .{ "upgrade_url", offer.upgrade_url } });
    answer.problemPaid(p, w, overrun.detail, overrun.cpu_us, members[0..count], offer.upgrade_url);
}

const Offer = struct { tier: []const u8, next_tier: []const u8, upgrade_url: []const u8 };

/// What the table in use says; a version that has left it meanwhile offers nothing.
fn offerOf(p: *const Pool, invocation: *const Invocation, limit: Limit) ?Offer {
    const table = p.table orelse return null;
    const version = table.versionFind(invocation.version) orelse return null;
    const next_tier = limit.upgrade(version);
    if (next_tier.len == 0) return null;
    const tenant = &table.tenants[version.tenant];
    return .{ .tier = tenant.tier, .next_tier = next_tier, .upgrade_url = tenant.upgrade_url };
}
