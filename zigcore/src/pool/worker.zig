//! One worker as its reactor sees it: a process at the other end of a channel, in one of a few states.
//!
//!     starting → idle ⇄ busy → …     stopping: asked to end (its channel closes)     dying: killed, or found dead
//!
//! Called by pool/pool.zig, which drives the transitions. What always holds: a slot is free only once the kernel has
//! finished with its channel and its process is known to be gone (or was never made); everything the process sends is
//! hostile.
const std = @import("std");
const assert = std.debug.assert;
const sys = @import("../io/sys.zig");
const Memory = @import("memory.zig").State;
const Bodies = @import("shared.zig").State;
const Soft = @import("frame.zig").Soft;

const Worker = @This();

state: State,
generation: u32,
version: u32,
/// Our end of its channel; `sys.none` once closed.
channel: sys.Fd,
pid: i32,
pidfd: sys.Fd,
/// Its memory file in our address space: first half the request's body, second half the answer's.
shared: []align(4096) u8,
/// The frame that it is being sent.
frame: []u8,
/// Of the frame sent last; its answer must carry the same.
sequence: u64,
invocation: u32,
/// Its process's CPU clock when it was read last: at the end of an invocation.
cpu_ns: u64,
started_ns: u64,
idle_since_ns: u64,
/// Invocations answered.
served: u64,
memory: Memory,
next: u16,
previous: u16,

/// Of its invocation: the soft signal that was sent, when, and what its CPU clock said then.
soft: Soft,
soft_ns: u64,
soft_cpu_ns: u64,
/// The handler has been interrupted: it is in its grace.
soft_seen: bool,
/// Where it was then: a text in `frame`, which the request has left.
traceback_bytes: u32,
/// Since when a limit is crossed and what it has sent is still being read; 0: not so.
overdue_ns: u64,
/// It may have processes of its own, whose CPU counts as its.
children: bool,
/// Where the kernel counts that (io/family.zig), or none.
family_cpu: sys.Fd,
/// The gateway may move its soft limits.
movable: bool,
/// Soft limits that it has; 0: what it was started with.
open_files: u32,
processes: u32,

/// Log frames since its last invocation that belong to none.
stray_frames: u32,
bodies: Bodies,
/// Of its answer, in `frame`, while that waits for a buffer.
answer_bytes: u32,
/// It was never ready.
was_starting: bool,
/// The host knows that its start failed.
start_reported: bool,
/// The wait for the word on how it died is over.
exit_waited: bool,
/// Somebody needs its slot: it ends after this invocation.
stop_after: bool,
/// It was started to prove its version.
probe: bool,

/// Of admit/ledger.zig, or none: on a reserved CPU.
claim: u16,
/// The kernel has admitted its reservation.
deadline: bool,
/// What its tenant's weight makes of it on a shared CPU.
nice: i8,
/// It has burned CPU: see burn.zig.
demoted: bool,
/// How far it has been raised since.
burn_rung: u8,
/// Its CPU clock, and the time, when that was decided last.
burn_cpu_ns: u64,
burn_since_ns: u64,

receiving: bool,
/// Its pidfd is being watched.
watching: bool,
/// Where the kernel tells of a forbidden call (io/notification.zig), watched as long as it is open.
tripwire: sys.Fd,
/// The call that it was ended for, plus one; 0: none.
forbidden: u16,
/// The zygote has answered the request for it.
spawn_answered: bool,
/// Its process has ended.
ended: bool,
exit_known: bool,
/// Wait status of waitpid(2), once known.
exit_status: i32,
/// CPU time of its whole life, from the same word.
exit_cpu_ns: u64,
cause: Cause,
/// For `overrun`.
overrun: Overrun,
/// Fixed text on what it did wrong, for `garbage`.
reason: []const u8,

pub const none: u16 = std.math.maxInt(u16);

pub const State = enum { free, starting, idle, busy, stopping, dying };

/// Why it is dying, as far as its invocation's caller is concerned.
pub const Cause = enum {
    none,
    /// It ended by itself, or somebody killed it.
    ended,
    /// Its invocation went over a limit.
    overrun,
    /// It did what a worker never does, and is not to be trusted: `reason`.
    garbage,
    /// Not ready in time, or the zygote could not make it.
    start,
};

/// A limit of its invocation that was crossed; `allowed` and `used` in ms or bytes, as the limit is.
pub const Overrun = struct { limit: Limit = .wall_clock, allowed: u64 = 0, used: u64 = 0 };

pub const Limit = enum { wall_clock, cpu, memory, output };

pub fn to(w: *Worker, next: State) void {
    const allowed = switch (w.state) {
        .free => next == .starting,
        .starting => next == .idle or next == .dying or next == .stopping,
        .idle => next == .busy or next == .stopping or next == .dying,
        .busy => next == .idle or next == .dying or next == .stopping,
        .stopping => next == .dying or next == .free,
        .dying => next == .free,
    };
    assert(allowed);
    w.state = next;
}

/// Names one spawn request: unique among those that the zygote may still answer.
pub fn request(w: *const Worker, index: u16) u64 {
    return @as(u64, w.generation) << 16 | index;
}

/// What a wait status says, for people.
pub const Exit = union(enum) {
    status: u8,
    signal: u8,
    /// The number of the system call that it was ended for.
    forbidden: u15,
    unknown,

    pub fn of(w: *const Worker) Exit {
        if (w.forbidden > 0) return .{ .forbidden = @intCast(w.forbidden - 1) };
        if (!w.exit_known) return .unknown;
        const bits: u32 = @bitCast(w.exit_status);
        const signal: u8 = @intCast(bits & 0x7f);
        if (signal == 0) return .{ .status = @intCast(bits >> 8 & 0xff) };
        return .{ .signal = signal };
    }

    pub fn is(exit: Exit, signal: u8) bool {
        return exit == .signal and exit.signal == signal;
    }
};

pub fn signalName(signal: u8) []const u8 {
    return switch (signal) {
        1 => "SIGHUP",
        2 => "SIGINT",
        3 => "SIGQUIT",
        4 => "SIGILL",
        5 => "SIGTRAP",
        6 => "SIGABRT",
        7 => "SIGBUS",
        8 => "SIGFPE",
        9 => "SIGKILL",
        10 => "SIGUSR1",
        11 => "SIGSEGV",
        12 => "SIGUSR2",
        13 => "SIGPIPE",
        14 => "SIGALRM",
        15 => "SIGTERM",
        24 => "SIGXCPU",
        25 => "SIGXFSZ",
        31 => "SIGSYS",
        else => "another signal",
    };
}

test "wait statuses" {
    var w: Worker = undefined;
    w.forbidden = 0;
    w.exit_known = true;
    w.exit_status = 3 << 8;
    try std.testing.expectEqual(Exit{ .status = 3 }, Exit.of(&w));
    w.exit_status = 139;
    try std.testing.expectEqual(Exit{ .signal = 11 }, Exit.of(&w));
    w.forbidden = 102;
    try std.testing.expectEqual(Exit{ .forbidden = 101 }, Exit.of(&w));
    w.forbidden = 0;
    w.exit_status = -1;
    _ = Exit.of(&w);
    w.exit_known = false;
    try std.testing.expectEqual(Exit.unknown, Exit.of(&w));
}
