//! Signals of the process: what is done about each, which wait, and one that comes with a value.
//!
//! Called by runtime/checkpoint and its parts (belongings, watch, soft), runtime/base and abi/worker. Raw system calls, for
//! the reason that io/self.zig has: libc writes to memory that is being put back.
//! What always holds: nothing here allocates; `queue` may be called in a signal handler.
const std = @import("std");
const linux = std.os.linux;
const sys = @import("sys.zig");
const check = sys.check;
const arg = sys.arg;

pub const count = 64;
/// struct sigaction as the kernel has it: handler, flags, restorer, mask.
pub const Action = [4]u64;

pub fn actionGet(signal: usize, action: *Action) void {
    action.* = @splat(0);
    _ = linux.syscall4(.rt_sigaction, signal, 0, @intFromPtr(action), 8);
}

pub fn actionSet(signal: usize, action: *const Action) void {
    _ = linux.syscall4(.rt_sigaction, signal, @intFromPtr(action), 0, 8);
}

/// What was inherited as ignored gets its default action; handlers stay.
pub fn ignoredForget() void {
    const ignored = 1;
    for (1..count + 1) |signal| {
        var action: Action = undefined;
        actionGet(signal, &action);
        if (action[0] == ignored) actionSet(signal, &@splat(0));
    }
}

/// siginfo_t of a signal that came with a value.
pub const Info = extern struct { signal: i32, errno: i32, code: i32, reserved: i32, pid: i32, uid: u32, value: u64 };
pub const Handler = *const fn (signal: i32, info: *const Info, context: ?*anyopaque) callconv(.c) void;
/// `Info.code` of a signal that a process sent with a value.
pub const queued = -1;

/// `handler` runs whenever the signal comes, on the alternate stack if there is one; calls that wait are interrupted.
pub fn handle(signal: u8, handler: Handler) sys.Error!void {
    const siginfo = 4;
    const onstack = 0x08000000;
    const action: linux.Sigaction = .{ .handler = .{ .sigaction = @ptrCast(handler) }, .mask = @splat(0), .flags = siginfo | onstack };
    _ = try check("rt_sigaction", linux.sigaction(@fromBackingInt(signal), &action, null));
}

/// Sends a signal with a value; in signal handlers, too. One that does not arrive is missed by its sender.
pub fn queue(pid: i32, signal: u8, value: u64) void {
    const Whole = extern struct { head: Info, rest: [12]u64 = @splat(0) };
    const info: Whole = .{ .head = .{ .signal = signal, .errno = 0, .code = queued, .reserved = 0, .pid = 0, .uid = 0, .value = value } };
    _ = linux.syscall3(.rt_sigqueueinfo, arg(pid), signal, @intFromPtr(&info));
}

pub const sigsys = 31;

pub fn maskSet(mask: u64) u64 {
    const setmask = 2;
    var old: u64 = 0;
    _ = linux.syscall4(.rt_sigprocmask, setmask, @intFromPtr(&mask), @intFromPtr(&old), 8);
    return old;
}

/// Takes one pending signal away without running anything; false: there is none.
pub fn pendingTake() bool {
    const all: u64 = std.math.maxInt(u64);
    const at_once: [2]u64 = .{ 0, 0 };
    return sys.ok(linux.syscall4(.rt_sigtimedwait, @intFromPtr(&all), 0, @intFromPtr(&at_once), 8));
}

/// stack_t: address, flags, size.
pub const Stack = [3]u64;

pub fn stackGet(stack: *Stack) void {
    stack.* = @splat(0);
    _ = linux.syscall2(.sigaltstack, 0, @intFromPtr(stack));
}

pub fn stackSet(stack: *const Stack) void {
    _ = linux.syscall2(.sigaltstack, @intFromPtr(stack), 0);
}
