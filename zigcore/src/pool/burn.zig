//! An invocation that keeps burning CPU on a shared CPU is demoted, so that short ones stay quick; it is promoted again
//! when it has answered.
//!
//! Called by pool/pool.zig (tick), answer (its end) and deadline (the soft signal). Demoted means SCHED_IDLE, set from outside on every thread
//! of the worker: whoever wakes up takes the CPU from it at once. Eight burning tenants then add well under a millisecond
//! to a short call's median where weights (nice, cpu.shares) add several (docs/decisions/0014). What always holds:
//! together the demoted get at least about 1/`burn_floor_count` of the CPU, or they are promoted for another spell; a
//! worker that cannot be promoted (no right to) serves nobody else.
const std = @import("std");
const assert = std.debug.assert;
const limits = @import("../limits.zig");
const clock = @import("../io/clock.zig");
const sched = @import("../io/sched.zig");
const Pool = @import("pool.zig");
const Worker = @import("worker.zig");

/// Looks at every running invocation, some times in a hundredth of a second.
pub fn tick(p: *Pool) void {
    if (p.busy == 0 or p.now_ns < p.burn_look_ns) return;
    p.burn_look_ns = p.now_ns + limits.burn_look_pause_ns;
    var demoted: u64 = 0;
    for (p.workers) |*w| demoted += @intFromBool(w.demoted);
    for (p.workers) |*w| {
        if (w.state != .busy or w.deadline or w.soft != .none) continue;
        if (w.demoted) starved(p, w, demoted) else burning(p, w);
    }
}

/// When `tick` wants to be called although nothing happens.
pub fn wakeAt(p: *const Pool) u64 {
    return if (p.busy > 0) p.burn_look_ns else std.math.maxInt(u64);
}

/// A worker has answered, or is told to end: back to what its tenant's weight gives it.
pub fn calm(p: *Pool, w: *Worker) void {
    w.burn_cpu_ns = 0;
    if (!w.demoted) return;
    promote(w);
    if (w.demoted) w.stop_after = true;
    _ = p;
}

fn burning(p: *Pool, w: *Worker) void {
    const invocation = &p.invocations.items[w.invocation];
    if (p.now_ns - invocation.dispatched_ns < limits.burn_cpu_ns) return;
    const cpu_ns = clock.cpuOf(w.pid) orelse return;
    const since_ns = @max(w.cpu_ns, w.burn_cpu_ns);
    if (cpu_ns -| since_ns < limits.burn_cpu_ns) return;
    var threads: [limits.burn_threads_max]i32 = undefined;
    for (sched.threadsOf(w.pid, &threads)) |thread| sched.idleSet(thread) catch {};
    w.demoted = true;
    w.burn_cpu_ns = cpu_ns;
    w.burn_since_ns = p.now_ns;
    p.counters.add(.demotions_total, 1);
}

/// Short calls without end must not stop the long ones of others: whoever gets next to nothing is promoted for a spell.
fn starved(p: *Pool, w: *Worker, demoted: u64) void {
    const wall_ns = p.now_ns - w.burn_since_ns;
    if (wall_ns < limits.burn_floor_pause_ns) return;
    const cpu_ns = clock.cpuOf(w.pid) orelse return;
    const got_ns = cpu_ns -| w.burn_cpu_ns;
    w.burn_cpu_ns = cpu_ns;
    w.burn_since_ns = p.now_ns;
    if (got_ns * limits.burn_floor_count * @max(demoted, 1) < wall_ns) promote(w);
}

fn promote(w: *Worker) void {
    var threads: [limits.burn_threads_max]i32 = undefined;
    for (sched.threadsOf(w.pid, &threads)) |thread| {
        // The process's own thread tells; one that has ended meanwhile does not matter.
        sched.normalSet(thread, w.nice) catch |err| if (err == error.Denied) return;
    }
    w.demoted = false;
}

/// The tenant's weight has changed.
pub fn weigh(p: *Pool, index: u32) void {
    const nice = niceOf(p.versions[index].cpu_weight);
    for (p.workers) |*w| {
        if (w.state == .free or w.version != index or w.nice == nice) continue;
        w.nice = nice;
        if (!w.demoted) weighed(w);
    }
}

/// A worker that has just been forked, or whose weight has changed.
pub fn weighed(w: *const Worker) void {
    if (w.deadline or w.pid <= 0) return;
    var threads: [limits.burn_threads_max]i32 = undefined;
    for (sched.threadsOf(w.pid, &threads)) |thread| sched.normalSet(thread, w.nice) catch {};
}

/// The nice value whose weight is nearest to `weight` of a hundred: each step is a factor of 1.25.
pub fn niceOf(weight: u32) i8 {
    assert(weight >= limits.cpu_weight_min and weight <= limits.cpu_weight_max);
    const steps = @log(@as(f64, @floatFromInt(weight)) / 100.0) / @log(1.25);
    return @intFromFloat(std.math.clamp(@round(-steps), nice_least, 19));
}

/// Above the reactor's own a little, or it would not come to hand out work.
const nice_least = -10;

test "weights become nice values" {
    try std.testing.expectEqual(0, niceOf(100));
    try std.testing.expectEqual(-3, niceOf(200));
    try std.testing.expectEqual(3, niceOf(50));
    try std.testing.expectEqual(19, niceOf(1));
    try std.testing.expectEqual(nice_least, niceOf(10_000));
}
