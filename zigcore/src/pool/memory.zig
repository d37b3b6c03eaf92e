//! A worker's memory from its reactor's side: the bound of each invocation, its peak, and the answer when it was too much.
//!
//! Called by dispatch (before a frame goes out), answer and reap (when an answer has come, or the process has ended). The
//! wall is the worker's control group; the soft limit, a little below, is RLIMIT_DATA on the process, set from outside,
//! so that honest code gets a MemoryError. Both are written only when the version's bound has changed.
//! What always holds: the peak of an invocation is at most what the worker held before it, or exact; `take` costs one system
//! call, `begin` none when the peak has not moved; what a worker says about its memory is not asked.
const std = @import("std");
const assert = std.debug.assert;
const limits = @import("../limits.zig");
const sys = @import("../io/sys.zig");
const memory = @import("../io/memory.zig");
const Invocation = @import("invocation.zig");
const Worker = @import("worker.zig");

pub const State = struct {
    group: memory.Group = .{},
    /// The bound that its group and its process have; 0: what it was started with.
    bound_bytes: u64 = 0,
    /// What the peak was just after its last reset; 0: not known, it is reset before the next invocation.
    base_bytes: u64 = 0,
    /// Invocations until the peak is reset again, or, while `base_bytes` is not known, until it is read anew.
    left_count: u32 = 0,
    /// Of the kernel's word at its end: how many of its processes were ended because its group was full.
    oom_kills: u64 = 0,
    /// What is mapped beyond what is charged, when it was first given work: the interpreter's pages that it shares with
    /// the zygote, and what is reserved and unused.
    data_unused_bytes: u64 = 0,
    space_unused_bytes: u64 = 0,
};

/// The zygote has made it; `folder` is that of its control group, or `sys.none`.
pub fn attach(w: *Worker, folder: sys.Fd) void {
    assert(w.memory.group.kind == .none);
    w.memory = .{ .group = if (folder != sys.none) .open(folder) else .{} };
    if (w.memory.group.kind == .none) w.memory.group = .ofProcess(w.pid);
}

pub fn detach(w: *Worker) void {
    w.memory.group.close();
    w.memory = .{};
}

/// Before an invocation: its bound holds from here on, its peak counts from here on. False: the worker uses more than
/// the bound already and cannot be brought below it.
pub fn begin(w: *Worker, bound_bytes: u64) bool {
    if (w.memory.bound_bytes != bound_bytes and w.memory.group.kind != .none and !bind(w, bound_bytes)) return false;
    const state = &w.memory;
    if (state.base_bytes > 0) return true;
    state.group.reset();
    if (state.left_count > 0) {
        state.left_count -= 1;
        return true;
    }
    state.base_bytes = state.group.peakBytes() orelse 0;
    state.left_count = limits.memory_peak_reset_count;
    return true;
}

/// Peak of what has been charged to the worker since `begin`; 0 when nobody can tell any more. An invocation that has not
/// gone beyond what the worker held before it leaves the peak as it was: there is nothing to reset then. One that has is
/// followed by others that do: what they start from is not read again at once.
pub fn take(w: *Worker) u64 {
    const state = &w.memory;
    const peak_bytes = state.group.peakBytes() orelse return 0;
    if (state.base_bytes == 0) return peak_bytes;
    state.left_count -= 1;
    if (peak_bytes != state.base_bytes) {
        state.base_bytes = 0;
        state.left_count = limits.memory_peak_moved_count;
    } else if (state.left_count == 0) state.base_bytes = 0;
    return peak_bytes;
}

/// The worker has had no invocation for a while, and may hold less than before.
pub fn rest(w: *Worker) void {
    w.memory.base_bytes = 0;
    w.memory.left_count = 0;
}

/// Whether the kernel ended a process of the worker for its memory: the zygote's word, or, when it has none, the group's.
pub fn exhausted(w: *const Worker) bool {
    return w.memory.oom_kills > 0 or w.memory.group.oomKills() > 0;
}

/// For the answer to who ran out of it.
pub fn overrunOf(invocation: *const Invocation) Worker.Overrun {
    return .{ .limit = .memory, .allowed = invocation.memory_bytes_max, .used = invocation.memory_bytes };
}

fn bind(w: *Worker, bound_bytes: u64) bool {
    const state = &w.memory;
    const pages = memory.Pages.of(w.pid) orelse return true; // it has just ended; that is noticed elsewhere
    if (state.bound_bytes == 0) {
        const charged = state.group.usageBytes() orelse return true;
        state.data_unused_bytes = pages.data * memory.page_bytes -| charged;
        state.space_unused_bytes = pages.size * memory.page_bytes -| charged;
    }
    if (!state.group.bound(bound_bytes)) return false;
    _ = memory.softLimit(w.pid, .data, state.data_unused_bytes +| softOf(bound_bytes));
    _ = memory.softLimit(w.pid, .address_space, state.space_unused_bytes +| softOf(bound_bytes) +| limits.memory_reserve_bytes);
    state.bound_bytes = bound_bytes;
    return true;
}

/// The kernel needs something for a worker, too, and copies of the zygote's pages are charged when they are written to.
fn softOf(bound_bytes: u64) u64 {
    return bound_bytes -| bound_bytes / limits.memory_slack_parts_count -| limits.memory_slack_bytes;
}

test "the soft limit is below the bound, and never nothing" {
    try std.testing.expect(softOf(limits.memory_bytes_min) > limits.memory_bytes_min / 2);
    try std.testing.expect(softOf(limits.memory_bytes_max) < limits.memory_bytes_max);
}
