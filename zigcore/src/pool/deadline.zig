//! The one place where an invocation's timers live: wall clock, CPU, the soft signal, the grace, the kill.
//!
//! Called by dispatch (`begin`), reap (`expired`: the worker's deadline has passed), answer (`interrupted`, `late`); by
//! whoever finds another limit crossed (`kill`). How: one deadline per worker. At first it is when the earlier of the two
//! limits can be crossed; nothing is read before that. A worker is pinned to one CPU, so what it has not used by then
//! cannot be used sooner than it lasts: each look sets the next. A limit that is crossed is said to the worker by the
//! soft signal, so that its handler can clean up; who is not interrupted, or not done when the grace ends, is killed.
//! What always holds: nothing that the worker does, or leaves undone, moves the kill beyond `grace_ns`; an answer that
//! has been sent is read first.
const std = @import("std");
const assert = std.debug.assert;
const limits = @import("../limits.zig");
const Ledger = @import("../admit/ledger.zig");
const sys = @import("../io/sys.zig");
const clock = @import("../io/clock.zig");
const family = @import("../io/family.zig");
const frame = @import("frame.zig");
const Pool = @import("pool.zig");
const Invocation = @import("invocation.zig");
const Worker = @import("worker.zig");
const burn = @import("burn.zig");
const overrun = @import("overrun.zig");
const reap = @import("reap.zig");

/// The invocation goes to the worker now.
pub fn begin(p: *Pool, w: *Worker, invocation: *const Invocation) void {
    w.soft = .none;
    w.soft_seen = false;
    w.traceback_bytes = 0;
    w.overdue_ns = 0;
    p.deadlines.set(p.indexOf(w), p.now_ns + @min(invocation.timeout_ns, invocation.cpu_ns_max));
}

/// The deadline of a busy worker has passed.
pub fn expired(p: *Pool, w: *Worker) void {
    assert(w.state == .busy and w.answer_bytes == 0);
    const invocation = &p.invocations.items[w.invocation];
    if (w.soft != .none) return graceLook(p, w, invocation);
    const crossed = look(p, w, invocation) orelse return;
    // After a stop of this process, or on a busy CPU, the answer may be waiting to be read: it is in time.
    if (p.ring.pending() and patient(p, w)) return;
    w.soft = crossed;
    w.soft_ns = p.now_ns;
    w.soft_cpu_ns = cpuOf(w) orelse 0;
    // Its grace is short: it needs its turn.
    burn.calm(p, w);
    // Without a descriptor of the process yet there is nobody to tell: the kill follows when there is.
    if (w.pidfd != sys.none) _ = sys.pidfdSignal(w.pidfd, frame.soft_signal, frame.softValue(w.sequence, crossed));
    p.deadlines.set(p.indexOf(w), p.now_ns + limits.soft_unseen_ns);
}

/// Which limit has been crossed; null: none, and the next look is due when one can be.
fn look(p: *Pool, w: *Worker, invocation: *Invocation) ?frame.Soft {
    const wall_left_ns = invocation.timeout_ns -| (p.now_ns - invocation.dispatched_ns);
    if (wall_left_ns == 0) return .wall_clock;
    cpuRead(w, invocation);
    const cpu_left_ns = invocation.cpu_ns_max -| invocation.cpu_ns;
    if (cpu_left_ns == 0) return .cpu;
    p.deadlines.set(p.indexOf(w), p.now_ns + @min(wall_left_ns, @max(cpu_left_ns, limits.cpu_look_pause_ns)));
    return null;
}

fn patient(p: *Pool, w: *Worker) bool {
    if (w.overdue_ns == 0) w.overdue_ns = p.now_ns;
    if (p.now_ns - w.overdue_ns >= limits.overrun_patience_ns) return false;
    // Looked at again with the next turn, when what is pending has been read.
    p.deadlines.set(p.indexOf(w), p.now_ns);
    return true;
}

/// The soft signal was sent: is the handler being interrupted, or has its grace ended?
fn graceLook(p: *Pool, w: *Worker, invocation: *Invocation) void {
    const end_ns = w.soft_ns + limits.grace_ns;
    if (p.now_ns < end_ns and w.soft_seen) return p.deadlines.set(p.indexOf(w), end_ns);
    if (p.now_ns < end_ns and starved(w)) {
        return p.deadlines.set(p.indexOf(w), @min(end_ns, p.now_ns + limits.soft_unseen_pause_ns));
    }
    if (p.ring.pending() and patient(p, w)) return;
    kill(p, w, overrun.ofTime(p, w, invocation));
}

/// It could not have been interrupted yet: it waits for its turn on the CPU.
fn starved(w: *const Worker) bool {
    const used_ns = (cpuOf(w) orelse return false) -| w.soft_cpu_ns;
    return used_ns < limits.soft_unseen_cpu_ns and !sys.processSleeps(w.pid);
}

/// The worker says that its handler is being interrupted, and then where it was. False: nobody told it to.
pub fn interrupted(p: *Pool, w: *Worker, traceback: []const u8) bool {
    assert(w.state == .busy);
    if (w.soft == .none or w.traceback_bytes > 0) return false;
    if (w.soft_seen and traceback.len == 0) return false;
    w.soft_seen = true;
    w.overdue_ns = 0;
    w.traceback_bytes = @intCast(@min(traceback.len, limits.traceback_bytes_max));
    // The request's frame has been received by the worker: its place is free.
    @memcpy(w.frame[0..w.traceback_bytes], traceback[0..w.traceback_bytes]);
    p.deadlines.set(p.indexOf(w), w.soft_ns + limits.grace_ns);
    return true;
}

/// Ends a busy worker because its invocation went over a limit; the answer follows when its process has ended.
pub fn kill(p: *Pool, w: *Worker, over: Worker.Overrun) void {
    assert(w.state == .busy and w.invocation != Invocation.none);
    if (over.limit == .memory or over.limit == .output) w.soft = .none;
    w.overrun = over;
    reap.die(p, w, .overrun, "");
}

// -- The CPU clock of a worker's process ----------------------------------------------------------------------------

/// All that the worker has used in its life; null once it is gone.
pub fn cpuOf(w: *const Worker) ?u64 {
    // First, for the kernel brings the group's figure up to date as far as this process runs.
    const own = clock.cpuOf(w.pid);
    if (w.family_cpu != sys.none) return family.cpuOfAll(w.family_cpu);
    const own_ns = own orelse return null;
    return if (w.children) own_ns + family.cpuOfOthers(w.pid, w.memory.group.folder) else own_ns;
}

/// What its invocation has used so far; a process that is gone leaves it as it was read last.
pub fn cpuRead(w: *const Worker, invocation: *Invocation) void {
    const cpu_ns = cpuOf(w) orelse return;
    invocation.cpu_ns = @max(invocation.cpu_ns, cpu_ns -| w.cpu_ns);
}

/// At the end of an invocation: what it has used, and from where the next one is counted.
pub fn cpuTake(w: *Worker, invocation: *Invocation) void {
    cpuRead(w, invocation);
    w.cpu_ns += invocation.cpu_ns;
}

/// The same from the zygote's word on a process that has ended.
pub fn cpuOfExit(w: *const Worker, invocation: *Invocation) void {
    invocation.cpu_ns = @max(invocation.cpu_ns, w.exit_cpu_ns -| w.cpu_ns);
}

/// Of an idle worker: false when it has used the CPU although nobody called it. What it used is nobody's.
pub fn restful(w: *Worker) bool {
    const cpu_ns = cpuOf(w) orelse return true;
    if (cpu_ns -| w.cpu_ns > limits.idle_cpu_ns_max) return false;
    return true;
}

/// Before a worker that has rested gets an invocation: the count starts now, unless it has worked through the pause.
/// False: it has not rested at all.
pub fn restEnd(p: *const Pool, w: *Worker) bool {
    const pause_ns = p.now_ns - w.idle_since_ns;
    if (pause_ns < limits.idle_unbilled_ns) return true;
    const cpu_ns = cpuOf(w) orelse return true;
    const used_ns = cpu_ns -| w.cpu_ns;
    if (used_ns > limits.idle_cpu_ns_max) return false;
    if (isFree(used_ns, pause_ns)) w.cpu_ns = cpu_ns;
    return true;
}

fn isFree(used_ns: u64, pause_ns: u64) bool {
    return used_ns <= limits.idle_free_cpu_ns + pause_ns / limits.idle_free_parts_count;
}

/// Whether this look at an idle worker with a reservation is the one of a whole pause.
pub fn idleLookWhole(now_ns: u64) bool {
    return now_ns / limits.idle_look_ns != (now_ns - limits.idle_reserved_look_ns) / limits.idle_look_ns;
}

/// When an idle worker is looked at next: soon after its answer, and then all at the same time, so that a quiet node wakes
/// once for them.
pub fn idleLookNext(p: *const Pool, w: *const Worker, end_ns: u64) u64 {
    const pause_ns: u64 = if (w.claim == Ledger.none) limits.idle_look_ns else limits.idle_reserved_look_ns;
    const common_ns = ((p.now_ns + pause_ns / 2) / pause_ns + 1) * pause_ns;
    const rested_ns = p.now_ns - w.idle_since_ns;
    const soon_ns = p.now_ns + @max(rested_ns, limits.idle_look_first_ns);
    return @min(if (rested_ns < pause_ns) soon_ns else common_ns, @max(end_ns, p.now_ns));
}

test "what was used in a pause is nobody's unless it was most of it" {
    try std.testing.expect(isFree(limits.idle_cpu_ns_max, limits.s_ns));
    try std.testing.expect(isFree(limits.idle_free_cpu_ns, limits.idle_unbilled_ns));
    try std.testing.expect(!isFree(limits.idle_cpu_ns_max / 2, limits.idle_cpu_ns_max));
    try std.testing.expect(!isFree(limits.idle_unbilled_ns, limits.idle_unbilled_ns));
}
