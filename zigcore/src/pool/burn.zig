//! An invocation that keeps burning CPU on a shared CPU is demoted, so that short ones stay quick; it is promoted again
//! when it has answered.
//!
//! Called by pool/pool.zig (tick), dispatch (its start), answer (its end) and deadline (the soft signal). Demoted means
//! SCHED_IDLE, set from outside on every thread of the worker and of the processes that it has started: whoever wakes up
//! takes the CPU from it at once. Eight burning tenants then add well under a millisecond to a short call's median where
//! weights (nice, cpu.shares) add several (docs/decisions/0014). Two bounds keep the demoted alive: a tenant's get at
//! least half of what each burning tenant would get if all got the same, whatever number of workers and threads the
//! others burn with, and all together at least about 1/`burn_floor_count` of the CPU. Who gets less is raised, a step of
//! nice values at a time (`rungs`), and lowered again. What always holds: a worker that cannot be promoted (no right to)
//! serves nobody else.
const std = @import("std");
const assert = std.debug.assert;
const limits = @import("../limits.zig");
const family = @import("../io/family.zig");
const sched = @import("../io/sched.zig");
const Ledger = @import("../admit/ledger.zig");
const Pool = @import("pool.zig");
const Invocation = @import("invocation.zig");
const Worker = @import("worker.zig");
const deadline = @import("deadline.zig");

/// Looks at every running invocation when one of them can have burned its part, and otherwise every `burn_cpu_ns`.
pub fn tick(p: *Pool) void {
    if (p.busy == 0 or p.now_ns < p.burn_look_ns) return;
    p.burn_look_ns = p.now_ns + limits.burn_cpu_ns;
    p.burning = for (p.workers) |*w| {
        if (shared(w) and age(p, w) >= limits.yield_run_max_ns) break true;
    } else false;
    if (p.burning) look(p);
}

fn look(p: *Pool) void {
    var tally: Tally = .{};
    for (p.workers) |*w| {
        if (shared(w) and age(p, w) >= limits.yield_run_max_ns) tally.of(tenantOf(p, w)).burning += 1;
    }
    const sharing = p.now_ns >= p.burn_share_ns;
    for (p.workers) |*w| {
        if (!shared(w)) continue;
        const row = tally.of(tenantOf(p, w));
        if (!w.demoted) burning(p, w, @max(row.burning, 1)) else if (sharing) row.count(&tally, p, w);
    }
    if (!sharing) return;
    p.burn_share_ns = p.now_ns + limits.burn_share_pause_ns;
    for (p.workers) |*w| if (shared(w) and w.demoted and w.burn_since_ns < p.now_ns) share(p, w, &tally);
}

/// When `tick` wants to be called although nothing happens. While somebody is demoted and somebody else is not, often:
/// the kernel chooses anew with each of our wake-ups, and so gives a CPU that the demoted had to who is short.
pub fn wakeAt(p: *const Pool) u64 {
    if (p.busy == 0) return std.math.maxInt(u64);
    if (p.demoted_busy + p.demoted_starting > 0 and p.busy > p.demoted_busy) return @min(p.burn_look_ns, p.now_ns + limits.reactor_nap_ns);
    return p.burn_look_ns;
}

/// A worker is about to get an invocation. One that follows a burning one of the same version without a rest goes on
/// burning, as far as others are concerned: it starts where that one was.
pub fn begin(p: *Pool, w: *Worker) void {
    const version = &p.versions[w.version];
    if (version.burned_ns == 0) return;
    const rested = p.now_ns - version.burned_ns >= limits.burn_rest_ns;
    version.burned_ns = 0;
    if (!rested and !w.deadline and w.pid > 0) demote(p, w, w.cpu_ns);
}

/// The invocation is over.
pub fn end(p: *Pool, w: *Worker, invocation: *const Invocation) void {
    if (w.demoted and invocation.cpu_ns >= limits.burn_cpu_ns) p.versions[w.version].burned_ns = p.now_ns;
    calm(p, w);
}

/// A worker has answered, is ready, or is told to end: back to what its tenant's weight gives it.
pub fn calm(p: *Pool, w: *Worker) void {
    if (!w.demoted) return;
    if (!promoted(w)) w.stop_after = true;
    gone(p, w);
}

/// It is promoted, or serves no more.
pub fn gone(p: *Pool, w: *Worker) void {
    if (!w.demoted) return;
    w.demoted = false;
    if (w.state == .starting) p.demoted_starting -= 1 else p.demoted_busy -= 1;
}

fn promoted(w: *const Worker) bool {
    var threads: Threads = .of(w);
    while (threads.next()) |some| for (some) |thread| {
        // The process's own thread tells; one that has ended meanwhile does not matter.
        sched.normalSet(thread, w.nice) catch |err| if (err == error.Denied) return false;
    };
    return true;
}

/// Runs on a CPU that others share: an invocation that has not been told to end, or the import of a function.
fn shared(w: *const Worker) bool {
    return switch (w.state) {
        .busy => !w.deadline and w.soft == .none,
        .starting => w.claim == Ledger.none and w.pid > 0,
        .free, .idle, .stopping, .dying => false,
    };
}

fn age(p: *const Pool, w: *const Worker) u64 {
    if (w.state == .starting) return p.now_ns - w.started_ns;
    return p.now_ns - p.invocations.items[w.invocation].dispatched_ns;
}

fn tenantOf(p: *const Pool, w: *const Worker) u64 {
    return p.versions[w.version].tenant_key;
}

/// `others`: how many of its tenant burn, itself included; together they may burn what one may.
fn burning(p: *Pool, w: *Worker, others: u32) void {
    assert(others > 0 and !w.demoted);
    const one_ns: u64 = if (w.state == .starting) limits.burn_start_cpu_ns else limits.burn_cpu_ns;
    const allowed_ns = @max(one_ns / others, limits.burn_cpu_ns_min);
    // It cannot have used more than the time that has passed.
    const wall_ns = age(p, w);
    const used_ns = if (wall_ns < allowed_ns) wall_ns else (deadline.cpuOf(w) orelse return) -| w.cpu_ns;
    if (used_ns >= allowed_ns) return demote(p, w, w.cpu_ns + used_ns);
    p.burn_look_ns = @min(p.burn_look_ns, p.now_ns + @max(allowed_ns - used_ns, limits.burn_look_pause_ns));
}

fn demote(p: *Pool, w: *Worker, cpu_ns: u64) void {
    assert(!w.demoted);
    w.demoted = true;
    w.burn_rung = 0;
    w.burn_cpu_ns = cpu_ns;
    w.burn_since_ns = p.now_ns;
    if (w.state == .starting) p.demoted_starting += 1 else p.demoted_busy += 1;
    p.counters.add(.demotions_total, 1);
    stand(w);
}

/// Puts all that the worker runs on its rung: what it has started since, too.
fn stand(w: *const Worker) void {
    var threads: Threads = .of(w);
    while (threads.next()) |some| for (some) |thread| {
        if (w.burn_rung == 0) sched.idleSet(thread, w.nice) catch {} else sched.batchSet(thread, rungs[w.burn_rung - 1]) catch {};
    };
}

/// Above SCHED_IDLE: each step is about half as much again.
const rungs = [_]i8{ 19, 17, 15, 13, 11, 9, 7, 5, 3, 1 };

/// A step up or down, by what its tenant got and what all got.
fn share(p: *Pool, w: *Worker, tally: *Tally) void {
    const row = tally.of(tenantOf(p, w));
    const equal_ns = tally.got_ns / @max(tally.demoted_tenants, 1);
    const starved = row.got_ns * 2 < equal_ns or tally.got_ns * limits.burn_floor_count < tally.wall_ns;
    const sated = row.got_ns > equal_ns and tally.got_ns * limits.burn_floor_count / 2 > tally.wall_ns;
    if (starved and w.burn_rung < rungs.len) w.burn_rung += 1;
    if (sated and w.burn_rung > 0) w.burn_rung -= 1;
    w.burn_since_ns = p.now_ns;
    stand(w);
}

/// Of each tenant with running invocations that are not young, in one look: an open-addressed table.
const Tally = struct {
    rows: [limits.workers_max * 2]Row = @splat(.{}),
    demoted_tenants: u32 = 0,
    /// What all the demoted got since the last look at it, and the longest time since.
    got_ns: u64 = 0,
    wall_ns: u64 = 0,

    const Row = struct {
        tenant: u64 = 0,
        burning: u32 = 0,
        demoted: u32 = 0,
        got_ns: u64 = 0,

        fn count(row: *Row, tally: *Tally, p: *Pool, w: *Worker) void {
            const wall_ns = p.now_ns - w.burn_since_ns;
            const cpu_ns = deadline.cpuOf(w) orelse return;
            const got_ns = cpu_ns -| w.burn_cpu_ns;
            w.burn_cpu_ns = @max(w.burn_cpu_ns, cpu_ns);
            if (row.demoted == 0) tally.demoted_tenants += 1;
            row.demoted += 1;
            row.got_ns += got_ns;
            tally.got_ns += got_ns;
            tally.wall_ns = @max(tally.wall_ns, wall_ns);
        }
    };

    /// There is always room: a reactor has half as many workers.
    fn of(tally: *Tally, tenant: u64) *Row {
        assert(tenant != 0);
        var at = tenant % tally.rows.len;
        while (tally.rows[at].tenant != 0 and tally.rows[at].tenant != tenant) at = (at + 1) % tally.rows.len;
        tally.rows[at].tenant = tenant;
        return &tally.rows[at];
    }
};

/// The threads of a worker and of the processes in its control group, process by process.
const Threads = struct {
    buffer: [limits.burn_threads_max]i32 = undefined,
    processes_buffer: [limits.processes_max]i32 = undefined,
    processes_count: usize,
    at: usize = 0,

    fn of(w: *const Worker) Threads {
        var it: Threads = .{ .processes_count = 1 };
        it.processes_buffer[0] = w.pid;
        if (w.children) it.processes_count += family.others(w.pid, w.memory.group.folder, it.processes_buffer[1..]).len;
        return it;
    }

    fn next(it: *Threads) ?[]const i32 {
        if (it.at == it.processes_count) return null;
        defer it.at += 1;
        return sched.threadsOf(it.processes_buffer[it.at], &it.buffer);
    }
};

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
    var threads: Threads = .of(w);
    while (threads.next()) |some| for (some) |thread| sched.normalSet(thread, w.nice) catch {};
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

test "each tenant has its row, those whose hashes meet included" {
    var tally: Tally = .{};
    const size = tally.rows.len;
    tally.of(7).burning = 1;
    tally.of(7 + size).burning = 2;
    tally.of(7 + 2 * size).burning = 3;
    tally.of(size * 3 - 1).burning = 4;
    tally.of(size * 5 - 1).burning = 5;
    for ([_]u64{ 7, 7 + size, 7 + 2 * size, size * 3 - 1, size * 5 - 1 }, 1..) |tenant, number| {
        try std.testing.expectEqual(number, tally.of(tenant).burning);
    }
}
