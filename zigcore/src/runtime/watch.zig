//! Whether an invocation has asked the kernel for anything: if not, only memory can have changed.
//!
//! Called by runtime/checkpoint around each handler. Why: what an invocation may leave in the kernel (descriptors,
//! signals, timers, folder, mappings …) takes some fifteen system calls to look at; most handlers make none themselves.
//! How: syscall user dispatch (Linux 5.11, prctl(2) PR_SET_SYSCALL_USER_DISPATCH, switched on by jail/dispatch before the
//! filter closes). While the selector says so, the next system call of the thread becomes a SIGSYS; its handler notes
//! that, switches off for the rest of the invocation, and lets the call be made again. A few calls that change nothing
//! it makes itself, and stays on.
//! What always holds: it only ever spares work. Tenant code shares the process and could switch it off, as it could write
//! over the rewinder's memory: that is its own function's affair (SECURITY.md).
const std = @import("std");
const builtin = @import("builtin");
const self = @import("../io/self.zig");

const Watch = @This();

/// Read by the kernel at each system call of the main thread; at a fixed address for the life of the process.
selector: u8,
/// The invocation has made a system call that may have changed something.
asked: bool,
/// Calls that were made for it by `caught`.
harmless: u32,
/// False: this kernel or processor has no such thing; every invocation counts as having asked.
active: bool,

const let_pass = 0;
const stop = 1;
/// Each costs a signal, about what five looks at the kernel's state cost: after some it is dearer to go on so.
const harmless_max = 3;

var watched: *Watch = undefined;

pub const supported = builtin.cpu.arch == .x86_64;

/// The only code whose system calls always pass: the end of the signal handler.
pub const Exempt = struct { start: usize, bytes: usize };

pub fn exempt() Exempt {
    return .{ .start = @intFromPtr(&tailcut_watch_start), .bytes = @intFromPtr(&tailcut_watch_end) - @intFromPtr(&tailcut_watch_start) };
}

/// Installs the handler. False: it cannot be had; `on` does nothing then.
pub fn init(watch: *Watch, dispatching: bool) void {
    watch.selector = let_pass;
    watch.asked = true;
    watch.harmless = 0;
    watch.active = dispatching and supported;
    watched = watch;
    if (!watch.active) return;
    const siginfo = 4;
    const restorer = 0x04000000;
    const action: self.Action = .{ @intFromPtr(&caught), siginfo | restorer, @intFromPtr(&tailcut_watch_start), 0 };
    self.actionSet(self.sigsys, &action);
}

/// From here to `off` the thread's first system call is noted.
pub fn on(watch: *Watch) void {
    watch.asked = !watch.active;
    watch.harmless = 0;
    if (watch.active) watch.selector = stop;
}

pub fn off(watch: *Watch) void {
    watch.selector = let_pass;
}

/// For a call of our own in the middle of the handler; returns what `resumeAt` wants.
pub fn pause(watch: *Watch) u8 {
    const before = watch.selector;
    watch.selector = let_pass;
    return before;
}

pub fn resumeAt(watch: *Watch, before: u8) void {
    watch.selector = before;
}

/// Offsets into ucontext_t of x86-64 (uc_flags, uc_link, uc_stack, then r8 … rip).
const Context = extern struct {
    before: [5]u64,
    r8: u64,
    r9: u64,
    r10: u64,
    r11: u64,
    r12: u64,
    r13: u64,
    r14: u64,
    r15: u64,
    rdi: u64,
    rsi: u64,
    rbp: u64,
    rbx: u64,
    rdx: u64,
    rax: u64,
    rcx: u64,
    rsp: u64,
    rip: u64,
};

fn caught(_: i32, _: *const anyopaque, context: *Context) callconv(.c) void {
    const watch = watched;
    watch.selector = let_pass;
    if (isHarmless(context.rax) and watch.harmless < harmless_max) {
        watch.harmless += 1;
        context.rax = self.callAgain(context.rax, .{ context.rdi, context.rsi, context.rdx, context.r10, context.r8, context.r9 });
        watch.selector = stop;
        return;
    }
    watch.asked = true;
    // Back to the two bytes of the `syscall` instruction.
    context.rip -= 2;
}

/// Answers questions, or waits; leaves nothing behind in the kernel.
fn isHarmless(number: u64) bool {
    return switch (@as(std.os.linux.SYS, @fromBackingInt(@intCast(number)))) {
        .getrandom, .getpid, .gettid, .getuid, .geteuid, .clock_gettime, .gettimeofday, .time, .clock_nanosleep, .nanosleep => true,
        .epoll_wait, .poll, .getcwd, .fstat, .newfstatat, .sched_yield, .getrusage, .sysinfo, .uname => true,
        else => false,
    };
}

extern const tailcut_watch_start: u8;
extern const tailcut_watch_end: u8;

comptime {
    if (supported) asm (
        \\.pushsection .text
        \\.hidden tailcut_watch_start
        \\.globl tailcut_watch_start
        \\.type tailcut_watch_start, @function
        \\tailcut_watch_start:
        \\  movl $15, %eax
        \\  syscall
        \\  ud2
        \\.hidden tailcut_watch_end
        \\.globl tailcut_watch_end
        \\tailcut_watch_end:
        \\.popsection
    );
}
