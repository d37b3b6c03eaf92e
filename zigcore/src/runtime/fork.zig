//! A process for one invocation, and its end: what `forked` state is made of.
//!
//! Called by runtime/loop. The worker keeps the state that the import left and never runs the handler itself; each
//! invocation runs in a copy of it, which writes its answer down and ends. Only when it and whatever it started have
//! ended is the answer sent: no code of an answered invocation runs on.
//! What always holds: after `sweep` the caller is alone, as far as it may end others (as first process of its PID
//! namespace it may; without the jail only the group of the invocation's process ends).
const std = @import("std");
const assert = std.debug.assert;
const self = @import("../io/self.zig");
const py = @import("python.zig");

/// Lies between these numbers while CPython's own hooks run, which close what a fork of a handler's must not have.
const aside_first: self.Fd = 3;

pub const Error = self.Error;

/// Of a descriptor: which one it becomes in the invocation's process.
pub const Kept = struct { from: self.Fd, to: self.Fd };

/// 0: this is the invocation's process. `keep`: descriptors that it needs, although a handler's forks may not have them.
pub fn begin(keep: *const [2]Kept) Error!i32 {
    var aside: [2]self.Fd = undefined;
    for (keep, &aside) |one, *copy| copy.* = try self.duplicate(one.from, aside_first);
    defer for (aside) |fd| self.close(fd);
    py.forkPrepare();
    const pid = self.forkProcess() catch |err| {
        py.forkDoneParent();
        return err;
    };
    if (pid != 0) {
        py.forkDoneParent();
        return pid;
    }
    self.dieWithParent();
    self.groupOfOne();
    py.forkDoneChild();
    for (keep, aside) |one, copy| try self.replace(copy, one.to);
    return 0;
}

/// How the process ended (as waitpid(2) tells), or null when a signal came first: handle it, call again.
pub fn wait(pid: i32) Error!?u32 {
    assert(pid > 0);
    return self.waitFor(pid, true);
}

/// The same without waiting; null: it runs.
pub fn ended(pid: i32) Error!?u32 {
    assert(pid > 0);
    return self.waitFor(pid, false);
}

/// Ends the invocation's process and everything that it has started.
pub fn kill(pid: i32) void {
    if (self.processId() == 1) self.killOthers() else self.killProcessGroup(pid);
}

/// Ends everything that the invocation has left.
pub fn sweep(pid: i32) void {
    kill(pid);
    while (self.reapOne()) {}
}

/// The exit status that says the same as a wait status: of one that a signal ended, 128 and the signal.
pub fn exitStatus(wait_status: u32) u8 {
    const signal = wait_status & 0x7f;
    return @truncate(if (signal == 0) wait_status >> 8 else 128 + signal);
}

test "an exit status says how a process ended" {
    try std.testing.expectEqual(3, exitStatus(3 << 8));
    try std.testing.expectEqual(139, exitStatus(11));
    try std.testing.expectEqual(137, exitStatus(9));
}
