//! Whether an invocation has asked the kernel for anything: if not, only memory can have changed.
//!
//! Called by runtime/checkpoint around each handler. Why: what an invocation may leave in the kernel (descriptors,
//! signals, timers, folder, mappings …) takes some fifteen system calls to look at; most handlers make none themselves.
//! How: syscall user dispatch (Linux 5.11, prctl(2) PR_SET_SYSCALL_USER_DISPATCH, switched on by jail/dispatch before the
//! filter closes). While the selector says so, each system call of the thread becomes a SIGSYS; its handler notes what the
//! call may change, makes it, and hands over the result (some 1.5 µs). Calls that only the thread itself can make, and
//! those after very many, switch it off for the rest of the invocation: then everything may have changed.
//! What always holds: it only ever spares work. Tenant code shares the process and could switch it off, as it could write
//! over the rewinder's memory: that is its own function's affair (SECURITY.md).
const std = @import("std");
const builtin = @import("builtin");
const self = @import("../io/self.zig");
const signals = @import("../io/signals.zig");
const Layout = @import("layout.zig");

const Watch = @This();

/// Read by the kernel at each system call of the main thread; at a fixed address for the life of the process.
selector: u8,
/// The invocation has made a system call that may have changed something.
asked: bool,
/// It may have unmapped, protected or replaced what was mapped at the checkpoint; sizes alone do not tell.
remapped: bool,
/// Calls that were made for it by `caught`.
calls: u32,
/// Mappings of the checkpoint.
layout: *const Layout,
/// False: this kernel or processor has no such thing; every invocation counts as having asked.
active: bool,

const let_pass = 0;
const stop = 1;
/// As many signals as comparing all mappings costs.
const calls_max = 256;

var watched: *Watch = undefined;

pub const supported = builtin.cpu.arch == .x86_64;

/// The only code whose system calls always pass: the end of the signal handler.
pub const Exempt = struct { start: usize, bytes: usize };

pub fn exempt() Exempt {
    return .{ .start = @intFromPtr(&tailcut_watch_start), .bytes = @intFromPtr(&tailcut_watch_end) - @intFromPtr(&tailcut_watch_start) };
}

/// Installs the handler. False: it cannot be had; `on` does nothing then.
pub fn init(watch: *Watch, dispatching: bool, layout: *const Layout) void {
    watch.layout = layout;
    watch.remapped = true;
    watch.selector = let_pass;
    watch.asked = true;
    watch.calls = 0;
    watch.active = dispatching and supported;
    watched = watch;
    if (!watch.active) return;
    const siginfo = 4;
    const restorer = 0x04000000;
    const action: signals.Action = .{ @intFromPtr(&caught), siginfo | restorer, @intFromPtr(&tailcut_watch_start), 0 };
    signals.actionSet(signals.sigsys, &action);
}

/// Handlers of the import's run with SIGSYS blocked, or everything does: then the kernel could only end the process.
pub fn forgo(watch: *Watch) void {
    watch.active = false;
}

/// From here to `off` the thread's first system call is noted.
pub fn on(watch: *Watch) void {
    watch.asked = !watch.active;
    watch.remapped = !watch.active;
    watch.calls = 0;
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

/// siginfo_t of SIGSYS: number and architecture are behind the address of the call.
const Info = extern struct { signal: i32, errno: i32, code: i32, reserved: i32, address: u64, number: i32, architecture: u32 };
const x86_64 = 0xc000003e;
/// Beyond are x32's and nobody's: for the filter to judge.
const numbers_count = 512;

fn caught(_: i32, info: *const Info, context: *Context) callconv(.c) void {
    const watch = watched;
    watch.selector = let_pass;
    const known = info.architecture == x86_64 and context.rax < numbers_count;
    if (known and watch.calls < calls_max and isOthers(@fromBackingInt(@intCast(context.rax)))) {
        const number: Call = @fromBackingInt(@intCast(context.rax));
        watch.calls += 1;
        if (!isHarmless(number)) watch.asked = true;
        if (watch.isRemapping(number, context)) watch.remapped = true;
        context.rax = self.callAgain(context.rax, .{ context.rdi, context.rsi, context.rdx, context.r10, context.r8, context.r9 });
        watch.selector = stop;
        return;
    }
    watch.asked = true;
    watch.remapped = true;
    // Back to the two bytes of the `syscall` instruction.
    context.rip -= 2;
}

const Call = std.os.linux.SYS;

/// Can be made by a signal handler in the thread's place: not what starts, ends or signals, depends on its mask, or may
/// take this file's own signal away.
fn isOthers(number: Call) bool {
    return switch (number) {
        .clone, .clone3, .fork, .vfork, .execve, .execveat, .exit, .exit_group, .rt_sigreturn, .rt_sigprocmask => false,
        .rt_sigsuspend, .rt_sigtimedwait, .rt_sigpending, .sigaltstack, .pause, .ppoll, .pselect6, .epoll_pwait, .epoll_pwait2 => false,
        .rt_sigaction, .kill, .tkill, .tgkill, .rt_sigqueueinfo, .rt_tgsigqueueinfo, .set_robust_list, .set_tid_address, .rseq => false,
        else => true,
    };
}

/// Whether a call names memory that was mapped at the checkpoint. What it maps besides changes the process's size.
fn isRemapping(watch: *const Watch, number: Call, context: *const Context) bool {
    const fixed = 0x10;
    return switch (number) {
        // Of madvise, what throws pages away: where the checkpoint is not mapped over the memory they come back as zeros.
        .munmap, .mprotect, .madvise => watch.isBaseline(context.rdi, context.rsi),
        .mmap => context.r10 & fixed != 0 and watch.isBaseline(context.rdi, context.rsi),
        .mremap => true,
        .brk => context.rdi != 0 and watch.isBaseline(context.rdi, 1),
        .pkey_mprotect, .remap_file_pages, .shmat, .shmdt, .process_madvise => true,
        else => false,
    };
}

fn isBaseline(watch: *const Watch, start: u64, bytes: u64) bool {
    const end = start +| @max(bytes, 1);
    var low: usize = 0;
    const mappings = watch.layout.all();
    var high = mappings.len;
    // The first that ends behind the start.
    while (low < high) {
        const middle = (low + high) / 2;
        if (mappings[middle].end <= start) low = middle + 1 else high = middle;
    }
    return low < mappings.len and mappings[low].start < end;
}

/// Answers questions, or waits; leaves nothing behind in the kernel.
fn isHarmless(number: Call) bool {
    return switch (number) {
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
