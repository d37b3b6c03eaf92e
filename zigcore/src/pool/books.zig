//! What the books say about an invocation: its usage record, made exactly once, when it is settled.
//!
//! Called by answer.settle alone, in the turn of the loop in which the answer was queued and before it is sent.
//! What always holds: every admitted invocation has one record, whatever became of it; each number is the gateway's.
const std = @import("std");
const assert = std.debug.assert;
const usage = @import("../meter/usage.zig");
const limits = @import("../limits.zig");
const admit = @import("../admit/admit.zig");
const Counters = @import("../meter/counters.zig").Counters;
const Outcome = @import("../meter/counters.zig").Outcome;
const Pool = @import("pool.zig");
const Invocation = @import("invocation.zig");

pub fn close(p: *Pool, invocation: *const Invocation, outcome: Outcome) usage.Record {
    const record = recordOf(p, invocation, outcome);
    p.journal.write(p.invocations.indexOf(invocation), &record, p.versions[invocation.version].id());
    count(p.counters, &record);
    return record;
}

/// What the tenant's purse pays: null for what has not run and for what we broke. gateway/contract/usage.py counts alike.
pub fn billed(record: *const usage.Record) ?admit.Used {
    if (!record.flags.executed or record.outcome == .internal) return null;
    const memory_mib = std.math.divCeil(u64, record.memory_bytes, limits.mib) catch unreachable;
    return .{ .cpu_us = record.cpu_ns / limits.us_ns, .mib_us = memory_mib * (record.wall_ns / limits.us_ns) };
}

fn count(counters: *Counters, record: *const usage.Record) void {
    counters.add(.usage_records_total, 1);
    if (!record.flags.executed) return;
    counters.add(.usage_executed_total, 1);
    counters.add(.usage_cpu_ns_total, record.cpu_ns);
    counters.add(.usage_wall_ns_total, record.wall_ns);
    counters.add(.usage_request_bytes_total, record.request_bytes);
    counters.add(.usage_response_bytes_total, record.response_bytes);
    counters.add(.usage_log_bytes_total, record.log_bytes);
}

fn recordOf(p: *const Pool, invocation: *const Invocation, outcome: Outcome) usage.Record {
    assert(invocation.state != .free);
    const executed = invocation.state == .running;
    const until_ns = if (executed) invocation.dispatched_ns else p.now_ns;
    return .{
        .invocation_id = invocation.id,
        .arrived_unix_ns = invocation.arrived_unix_ns,
        .queue_ns = until_ns -| invocation.arrived_ns,
        .start_ns = invocation.start_ns,
        .wall_ns = if (executed) p.now_ns -| invocation.dispatched_ns else 0,
        .cpu_ns = invocation.cpu_ns,
        .memory_bytes = invocation.memory_bytes,
        .request_bytes = invocation.request_bytes,
        .response_bytes = invocation.response_bytes,
        .log_bytes = invocation.log_bytes,
        .version = invocation.version,
        .status = invocation.status,
        .outcome = outcome,
        .flags = .{ .cold = invocation.cold, .executed = executed, .deadline = executed and p.workers[invocation.worker].deadline },
    };
}
