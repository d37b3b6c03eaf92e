//! The scheduling classes of other processes, set from outside: a reservation, the lowest class of all, and back.
//!
//! Called by pool/claim (reservations) and pool/burn (demotion), by thread id as the gateway sees it. Tenants' code is
//! denied every call of this kind (jail/policy.zig), so what is set here stays. Each call costs about 0.6 µs.
//! What always holds: a thread under SCHED_DEADLINE has SCHED_FLAG_RESET_ON_FORK (it could not make threads otherwise).
const std = @import("std");
const assert = std.debug.assert;
const linux = std.os.linux;
const sys = @import("sys.zig");

pub const DeadlineError = error{
    /// The kernel's admission test: this CPU has not that much bandwidth left (EBUSY).
    Full,
    /// No right to it, or the thread still sits on the run queue of another CPU than the one that it is pinned to (EPERM).
    Denied,
    Missing,
    Other,
};

const Attributes = extern struct {
    bytes: u32 = @sizeOf(Attributes),
    policy: u32,
    flags: u64 = 0,
    nice: i32 = 0,
    priority: u32 = 0,
    runtime_ns: u64 = 0,
    deadline_ns: u64 = 0,
    period_ns: u64 = 0,
};

const policy_normal = 0;
const policy_round_robin = 2;
const policy_batch = 3;
const policy_idle = 5;
const policy_deadline = 6;
const flag_reset_on_fork = 1;

/// Asks the kernel for `runtime_us` in every `period_us`, each within `deadline_us`. The thread has run on its CPU before.
pub fn deadlineSet(thread: i32, runtime_us: u64, deadline_us: u64, period_us: u64) DeadlineError!void {
    assert(thread > 0 and runtime_us <= deadline_us and deadline_us <= period_us);
    return set(thread, .{
        .policy = policy_deadline,
        .flags = flag_reset_on_fork,
        .runtime_ns = runtime_us * std.time.ns_per_us,
        .deadline_ns = deadline_us * std.time.ns_per_us,
        .period_ns = period_us * std.time.ns_per_us,
    });
}

/// It runs when nobody else wants the CPU, and whoever wakes up takes it at once.
///
/// On the way it is given a long slice, which it keeps: among all that are due their part of the CPU
/// the kernel takes whoever's *virtual* deadline is first, and with the weight of this class a slice is so long that a
/// thread of it may be owed its turn before somebody who has just woken up (measured: 4 to 8 ms of a reactor's time).
/// Its own slice puts its deadline behind all others'. Kernels before 6.12 ignore it.
pub fn idleSet(thread: i32, nice: i8) DeadlineError!void {
    try set(thread, .{ .policy = policy_normal, .nice = nice, .runtime_ns = slice_longest_ns });
    return set(thread, .{ .policy = policy_idle });
}

/// The ordinary class, but whoever wakes up need not wait for it to use up its slice, as long as one of `idleSet`'s is.
pub fn batchSet(thread: i32, nice: i8) DeadlineError!void {
    return set(thread, .{ .policy = policy_batch, .nice = nice, .runtime_ns = slice_longest_ns });
}

/// The ordinary class. Leaving the idle class needs the right to raise priorities.
pub fn normalSet(thread: i32, nice: i8) DeadlineError!void {
    assert(nice >= -20 and nice <= 19);
    return set(thread, .{ .policy = policy_normal, .nice = nice });
}

/// The calling thread asks for its CPU in the shortest slices: then it need not wait, when it wakes up, until somebody
/// else has used up his, and a yield costs it no more than that. Kernels before 6.12 ignore it.
pub fn shortSlices() void {
    set(0, .{ .policy = policy_normal, .runtime_ns = slice_shortest_ns }) catch {};
}

/// The calling thread goes before all ordinary ones, whatever the kernel owes them. Must not yield, must sleep.
pub fn aheadSet() DeadlineError!void {
    return set(0, .{ .policy = policy_round_robin, .flags = flag_reset_on_fork, .priority = 1 });
}

/// The shortest that the kernel allows.
const slice_shortest_ns = 100 * std.time.ns_per_us;
/// The longest that it allows.
const slice_longest_ns = 100 * std.time.ns_per_ms;

fn set(thread: i32, attributes: Attributes) DeadlineError!void {
    _ = sys.check("sched_setattr", linux.syscall3(.sched_setattr, sys.arg(thread), @intFromPtr(&attributes), 0)) catch |err| return switch (err) {
        error.Again => error.Full,
        error.Denied => error.Denied,
        error.Missing => error.Missing,
        else => error.Other,
    };
}

/// The ids of a process's threads, as many as fit; none when it is gone: some 10 µs.
pub fn threadsOf(pid: i32, out: []i32) []const i32 {
    var path_buffer: [32]u8 = undefined;
    const path = std.fmt.bufPrintSentinel(&path_buffer, "/proc/{d}/task", .{pid}, 0) catch unreachable;
    const directory_cloexec = 0o200000 | 0o2000000;
    const at_fdcwd = -100;
    const fd: sys.Fd = @intCast(sys.check("open", linux.syscall4(.openat, sys.arg(at_fdcwd), @intFromPtr(path.ptr), directory_cloexec, 0)) catch return out[0..0]);
    defer sys.close(fd);
    var count: usize = 0;
    var entries: [2048]u8 align(8) = undefined;
    while (count < out.len) {
        const bytes = sys.check("getdents64", linux.syscall3(.getdents64, sys.arg(fd), @intFromPtr(&entries), entries.len)) catch break;
        if (bytes == 0) break;
        var at: usize = 0;
        while (at < bytes and count < out.len) {
            const entry_bytes = std.mem.readInt(u16, entries[at + 16 ..][0..2], .little);
            const name = std.mem.sliceTo(entries[at + 19 .. at + entry_bytes], 0);
            if (std.fmt.parseInt(i32, name, 10)) |thread| {
                out[count] = thread;
                count += 1;
            } else |_| {}
            at += entry_bytes;
        }
    }
    return out[0..count];
}

test "the threads of this process are found, those of none are not" {
    var out: [64]i32 = undefined;
    const own: i32 = @intCast(linux.getpid());
    const Sleeper = struct {
        fn run(stop: *std.atomic.Value(bool)) void {
            while (!stop.load(.acquire)) sys.sleep(std.time.ns_per_ms);
        }
    };
    var stop: std.atomic.Value(bool) = .init(false);
    const before = threadsOf(own, &out).len;
    const thread = try std.Thread.spawn(.{}, Sleeper.run, .{&stop});
    const with = threadsOf(own, &out);
    try std.testing.expectEqual(before + 1, with.len);
    try std.testing.expect(std.mem.findScalar(i32, with, own) != null);
    try std.testing.expectEqual(1, threadsOf(own, out[0..1]).len);
    stop.store(true, .release);
    thread.join();
    try std.testing.expectEqual(0, threadsOf(-1, &out).len);
}

test "a thread can be demoted, and nobody gets a reservation for a process that is not there" {
    const Demoted = struct {
        fn run(result: *?DeadlineError) void {
            // The calling thread only: the test's own class stays.
            idleSet(@intCast(linux.gettid()), 0) catch |err| {
                result.* = err;
            };
        }
    };
    var result: ?DeadlineError = null;
    const thread = try std.Thread.spawn(.{}, Demoted.run, .{&result});
    thread.join();
    try std.testing.expectEqual(null, result);
    try std.testing.expectError(error.Missing, normalSet(0x3fff_ffff, 0));
    const answer = deadlineSet(0x3fff_ffff, 10_000, 100_000, 100_000);
    try std.testing.expect(answer == error.Missing or answer == error.Denied);
}
