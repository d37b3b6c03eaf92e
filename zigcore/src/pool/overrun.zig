//! The answer to an overrun: which limit, how much was allowed and used, where the handler was, what would allow more.
//!
//! Called by answer (the worker lives: it was interrupted, or its answer is too large) and reap (it was killed). The
//! owner of the function sees the figures, the traceback and, where a higher tier would really have allowed more, a 402
//! that names it; anybody else learns what kind of limit it was, and no more. What always holds: the numbers are the
//! gateway's, the traceback is the worker's word.
const std = @import("std");
const limits = @import("../limits.zig");
const clock = @import("../io/clock.zig");
const problem = @import("../http/problem.zig");
const Outcome = @import("../meter/counters.zig").Outcome;
const Pool = @import("pool.zig");
const Invocation = @import("invocation.zig");
const Worker = @import("worker.zig");
const answer = @import("answer.zig");

pub fn respond(p: *Pool, w: *Worker, over: Worker.Overrun) void {
    const invocation = &p.invocations.items[w.invocation];
    const traceback = w.frame[0..w.traceback_bytes];
    const facts = about(over.limit);
    tell(p, w, invocation, over, traceback);
    var members: [8]answer.Member = undefined;
    var count: usize = 0;
    const upgrade = if (invocation.owner) upgradeOf(p, invocation, over.limit) else null;
    if (upgrade) |up| {
        for ([_]answer.Member{
            .{ .text = .{ "tier", up.tier } },
            .{ .text = .{ "next_tier", up.next_tier } },
            .{ .text = .{ "upgrade_url", up.url } },
        }) |member| {
            members[count] = member;
            count += 1;
        }
    }
    if (invocation.owner) for ([_]answer.Member{
        .{ .text = .{ "limit", facts.name } },
        .{ .integer = .{ if (facts.is_time) "allowed_ms" else "allowed_bytes", std.math.lossyCast(i64, over.allowed) } },
        .{ .integer = .{ if (facts.is_time) "used_ms" else "used_bytes", std.math.lossyCast(i64, over.used) } },
    }) |member| {
        members[count] = member;
        count += 1;
    };
    if (invocation.owner and traceback.len > 0) {
        members[count] = .{ .text_tail = .{ "traceback", traceback } };
        count += 1;
    }
    answer.problemOfMore(p, w, if (upgrade != null) .tier_limit else facts.kind, facts.detail, members[0..count], .{
        .payment_url = if (upgrade) |up| up.url else "",
    });
}

/// Of an invocation that the soft signal was sent to, as it stands now.
pub fn ofTime(p: *const Pool, w: *const Worker, invocation: *const Invocation) Worker.Overrun {
    return switch (w.soft) {
        .none => unreachable,
        .wall_clock => .{
            .limit = .wall_clock,
            .allowed = invocation.timeout_ns / limits.ms_ns,
            .used = (p.now_ns - invocation.dispatched_ns) / limits.ms_ns,
        },
        .cpu => .{ .limit = .cpu, .allowed = invocation.cpu_ns_max / limits.ms_ns, .used = invocation.cpu_ns / limits.ms_ns },
    };
}

pub fn outcome(limit: Worker.Limit) Outcome {
    return switch (limit) {
        .wall_clock => .timeout,
        .cpu => .cpu_limit,
        .memory => .memory_limit,
        .output => .output_limit,
    };
}

const About = struct { kind: problem.Type, name: []const u8, is_time: bool, detail: []const u8 };

fn about(limit: Worker.Limit) About {
    return switch (limit) {
        .wall_clock => .{ .kind = .timeout, .name = "wall-clock", .is_time = true, .detail = "The function ran longer than its wall-clock limit; none of its code runs on." },
        .cpu => .{ .kind = .cpu_limit, .name = "cpu", .is_time = true, .detail = "The function used more CPU time than its limit; none of its code runs on." },
        .memory => .{ .kind = .memory_limit, .name = "memory", .is_time = false, .detail = "The function used more memory than its limit." },
        .output => .{ .kind = .output_limit, .name = "output", .is_time = false, .detail = "The function's answer is larger than allowed." },
    };
}

const Upgrade = struct { tier: []const u8, next_tier: []const u8, url: []const u8 };

/// As the revision in use has it; a version that has left it has none.
fn upgradeOf(p: *const Pool, invocation: *const Invocation, limit: Worker.Limit) ?Upgrade {
    const table = p.table orelse return null;
    const row = table.versionFind(invocation.version) orelse return null;
    const next_tier = switch (limit) {
        .wall_clock => row.upgrade.timeout,
        .cpu => row.upgrade.cpu,
        .memory => row.upgrade.memory,
        .output => row.upgrade.output,
    };
    if (next_tier.len == 0) return null;
    const tenant = &table.tenants[row.tenant];
    return .{ .tier = tenant.tier, .next_tier = next_tier, .url = tenant.upgrade_url };
}

/// A record in the function's log, as from the runtime.
fn tell(p: *Pool, w: *const Worker, invocation: *const Invocation, over: Worker.Overrun, traceback: []const u8) void {
    const facts = about(over.limit);
    const unit = if (facts.is_time) "ms" else "bytes";
    const text = std.fmt.bufPrint(p.document_scratch, "{s} limit: {d} {s} allowed, {d} used{s}{s}", .{
        facts.name, over.allowed, unit, over.used, if (traceback.len > 0) "\n" else "", std.mem.trimEnd(u8, traceback, "\n"),
    }) catch return;
    _ = p.events.push(.{
        .kind = .log,
        .time_ns = clock.realtime(),
        .stream = 3,
        .version = w.version,
        .invocation_id = invocation.id,
        .pid = w.pid,
    }, text);
}
