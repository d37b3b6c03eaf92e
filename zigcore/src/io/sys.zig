//! The only file with raw system calls: each takes plain numbers, checks the result, and maps errno once.
//!
//! Why raw: no allocation, no hidden retry, no libc state; every call of the data plane can be read on one page.
//! Called by io/ring, pool/ and abi/. What always holds: a function either did what its name says or returns an error;
//! descriptors are made close-on-exec.
const std = @import("std");
const assert = std.debug.assert;
const linux = std.os.linux;

pub const Error = error{
    /// Would block, or a resource is short for the moment: try later.
    Again,
    /// The other side is gone.
    Closed,
    NoMemory,
    NoDescriptors,
    Denied,
    /// Nobody listens there, or no such file or process.
    Missing,
    Invalid,
    Other,
};

pub const Fd = i32;
pub const none: Fd = -1;

/// The call that failed last on this thread, for messages to people.
pub threadlocal var failed_call: []const u8 = "";
pub threadlocal var failed_errno: u32 = 0;

pub fn check(comptime call: []const u8, result: usize) Error!usize {
    const signed: isize = @bitCast(result);
    if (signed >= 0 or signed < -4095) return result;
    failed_call = call;
    failed_errno = @intCast(-signed);
    return switch (linux.errno(result)) {
        .AGAIN, .INTR, .BUSY, .NOBUFS, .INPROGRESS => error.Again,
        .PIPE, .CONNRESET, .NOTCONN, .SHUTDOWN => error.Closed,
        .NOMEM => error.NoMemory,
        .MFILE, .NFILE => error.NoDescriptors,
        .PERM, .ACCES => error.Denied,
        .NOENT, .SRCH, .CONNREFUSED, .NODEV => error.Missing,
        .INVAL, .BADF, .FAULT => error.Invalid,
        else => error.Other,
    };
}

/// Whether a call did what it should, where the reason does not matter.
pub fn ok(result: usize) bool {
    return @as(isize, @bitCast(result)) >= 0 or @as(isize, @bitCast(result)) < -4095;
}

pub fn arg(value: i32) usize {
    return @bitCast(@as(isize, value));
}

// -- Memory -------------------------------------------------------------------------------------------------------

const prot_none = 0;
const prot_read_write = 1 | 2;
const map_shared = 1;
const map_private = 2;
const map_fixed = 0x10;
const map_anonymous = 0x20;
const map_noreserve = 0x4000;
const madv_remove = 9;
const madv_nohugepage = 15;

/// Address space whose pages the kernel gives on first touch; never given back.
pub fn mapAnonymous(bytes: usize) Error![]align(4096) u8 {
    assert(bytes > 0);
    const address = try check("mmap", linux.syscall6(.mmap, 0, bytes, prot_read_write, map_private | map_anonymous | map_noreserve, arg(-1), 0));
    // Buffers are touched sparsely: a huge page for each would take memory that nobody uses.
    _ = linux.syscall3(.madvise, address, bytes, madv_nohugepage);
    return @as([*]align(4096) u8, @ptrFromInt(address))[0..bytes];
}

/// Address space only: `mapShared` fills parts of it.
pub fn mapReserve(bytes: usize) Error![]align(4096) u8 {
    const address = try check("mmap", linux.syscall6(.mmap, 0, bytes, prot_none, map_private | map_anonymous | map_noreserve, arg(-1), 0));
    return @as([*]align(4096) u8, @ptrFromInt(address))[0..bytes];
}

/// Maps `fd` over `place`, which came from `mapReserve`.
pub fn mapShared(place: []align(4096) u8, fd: Fd) Error!void {
    _ = try check("mmap", linux.syscall6(.mmap, @intFromPtr(place.ptr), place.len, prot_read_write, map_shared | map_fixed, arg(fd), 0));
}

/// Makes `place` reserved address space again; the pages of a file that nobody else maps are freed.
pub fn unmapShared(place: []align(4096) u8) void {
    _ = check("mmap", linux.syscall6(.mmap, @intFromPtr(place.ptr), place.len, prot_none, map_private | map_anonymous | map_noreserve | map_fixed, arg(-1), 0)) catch {};
}

/// Frees the pages of a shared mapping (they read as zeros afterwards).
pub fn removePages(place: []align(4096) u8) void {
    _ = linux.syscall3(.madvise, @intFromPtr(place.ptr), place.len, madv_remove);
}

/// A memory file of exactly `bytes` that nobody can truncate, grow or unseal: mapping it is safe whoever else holds it.
pub fn memfdSealed(bytes: usize) Error!Fd {
    const cloexec_and_sealing = 1 | 2;
    const fd: Fd = @intCast(try check("memfd_create", linux.syscall2(.memfd_create, @intFromPtr("tailcut-body"), cloexec_and_sealing)));
    errdefer close(fd);
    _ = try check("ftruncate", linux.syscall2(.ftruncate, arg(fd), bytes));
    const add_seals = 1033;
    const seal_seal_shrink_grow = 1 | 2 | 4;
    _ = try check("fcntl(F_ADD_SEALS)", linux.syscall3(.fcntl, arg(fd), add_seals, seal_seal_shrink_grow));
    return fd;
}

// -- Descriptors and sockets --------------------------------------------------------------------------------------

pub fn close(fd: Fd) void {
    assert(fd >= 0);
    _ = linux.syscall1(.close, arg(fd));
}

const af_unix = 1;
const sock_seqpacket = 5;
const sock_nonblock = 0o4000;
const sock_cloexec = 0o2000000;
const sol_socket = 1;
const so_sndbuf = 7;

/// A worker's channel: [ours, the worker's]. The worker's end blocks, ours is used through the ring.
pub fn channelPair(buffer_bytes: u32) Error![2]Fd {
    var pair: [2]Fd = undefined;
    _ = try check("socketpair", linux.syscall4(.socketpair, af_unix, sock_seqpacket | sock_cloexec, 0, @intFromPtr(&pair)));
    for (pair) |fd| {
        // At least two whole frames; the kernel's own bound may be lower, then the default stays.
        const bytes: u32 = buffer_bytes;
        _ = linux.syscall5(.setsockopt, arg(fd), sol_socket, so_sndbuf, @intFromPtr(&bytes), @sizeOf(u32));
    }
    return pair;
}

/// Connects to a SOCK_SEQPACKET listener at `path` without waiting.
pub fn connectUnix(path: []const u8) Error!Fd {
    const Address = extern struct { family: u16, path: [108]u8 };
    var address: Address = .{ .family = af_unix, .path = @splat(0) };
    if (path.len >= address.path.len) return error.Invalid;
    @memcpy(address.path[0..path.len], path);
    const fd: Fd = @intCast(try check("socket", linux.syscall3(.socket, af_unix, sock_seqpacket | sock_cloexec | sock_nonblock, 0)));
    errdefer close(fd);
    _ = try check("connect", linux.syscall3(.connect, arg(fd), @intFromPtr(&address), @sizeOf(u16) + path.len + 1));
    return fd;
}

pub const Iovec = extern struct {
    base: [*]const u8,
    len: usize,

    pub fn from(bytes: []const u8) Iovec {
        return .{ .base = bytes.ptr, .len = bytes.len };
    }
};

pub const Message = extern struct {
    name: ?*anyopaque = null,
    name_bytes: u32 = 0,
    reserved0: u32 = 0,
    parts: [*]const Iovec,
    parts_count: usize,
    control: ?*anyopaque = null,
    control_bytes: usize = 0,
    flags: u32 = 0,
    reserved1: u32 = 0,
};

/// Ancillary data with up to two descriptors, as SCM_RIGHTS lays it out.
pub const Rights = extern struct {
    bytes: usize,
    level: i32 = sol_socket,
    kind: i32 = 1,
    fds: [4]Fd = @splat(none),

    pub fn make(fds: [2]Fd) Rights {
        return .{ .bytes = 16 + 8, .fds = .{ fds[0], fds[1], none, none } };
    }

    /// What was received: every descriptor must be taken or closed. `control_bytes` as the kernel left it.
    pub fn received(rights: *const Rights, control_bytes: usize) []const Fd {
        if (control_bytes < 20 or rights.level != sol_socket or rights.kind != 1) return &.{};
        const count = (@min(rights.bytes, control_bytes, @sizeOf(Rights)) - 16) / 4;
        return rights.fds[0..count];
    }
};

pub const msg_dontwait = 0x40;
pub const msg_nosignal = 0x4000;
pub const msg_cmsg_cloexec = 0x40000000;

/// Sends one datagram with descriptors, without waiting.
pub fn sendWithRights(fd: Fd, parts: []const Iovec, fds: [2]Fd) Error!void {
    var rights: Rights = .make(fds);
    const message: Message = .{ .parts = parts.ptr, .parts_count = parts.len, .control = &rights, .control_bytes = rights.bytes };
    _ = try check("sendmsg", linux.syscall3(.sendmsg, arg(fd), @intFromPtr(&message), msg_dontwait | msg_nosignal));
}

/// Answers are written whole: waiting to merge them would only add latency. Inherited by accepted sockets.
pub fn setNoDelay(fd: Fd) Error!void {
    const one: u32 = 1;
    const ipproto_tcp = 6;
    const tcp_nodelay = 1;
    _ = try check("setsockopt(TCP_NODELAY)", linux.syscall5(.setsockopt, arg(fd), ipproto_tcp, tcp_nodelay, @intFromPtr(&one), @sizeOf(u32)));
}

pub fn eventfd() Error!Fd {
    const cloexec_nonblock = 0o2000000 | 0o4000;
    return @intCast(try check("eventfd", linux.syscall2(.eventfd2, 0, cloexec_nonblock)));
}

pub fn eventfdRaise(fd: Fd) void {
    const one: u64 = 1;
    // EAGAIN: it is raised already, to the brim.
    _ = linux.syscall3(.write, arg(fd), @intFromPtr(&one), 8);
}

pub fn eventfdClear(fd: Fd) void {
    var count: u64 = 0;
    _ = linux.syscall3(.read, arg(fd), @intFromPtr(&count), 8);
}

// -- Processes and threads ----------------------------------------------------------------------------------------

pub const sigkill = 9;

/// Names the process by descriptor: never a recycled pid.
pub fn pidfdKill(pidfd: Fd) void {
    assert(pidfd >= 0);
    // ESRCH: it ended by itself meanwhile.
    _ = linux.syscall4(.pidfd_send_signal, arg(pidfd), sigkill, 0, 0);
}

/// The same for a signal that carries a value. False: the process is gone, or its queue of signals is full.
pub fn pidfdSignal(pidfd: Fd, signal: u8, value: u64) bool {
    assert(pidfd >= 0);
    // siginfo_t: signal, errno, code, padding; pid, uid, value. SI_QUEUE: it came with a value.
    const Info = extern struct { signal: i32, errno: i32 = 0, code: i32 = -1, pad: i32 = 0, pid: i32 = 0, uid: u32 = 0, value: u64, rest: [12]u64 = @splat(0) };
    comptime assert(@sizeOf(Info) == 128);
    const info: Info = .{ .signal = signal, .value = value };
    return ok(linux.syscall4(.pidfd_send_signal, arg(pidfd), signal, @intFromPtr(&info), 0));
}

pub const Resource = enum(u32) { processes = 6, descriptors = 7 };

/// Moves the soft limit of another process; its hard one stays, and bounds it. False: the kernel refuses.
pub fn limitSoft(pid: i32, resource: Resource, value: u64) bool {
    assert(pid > 0);
    var pair: [2]u64 = undefined;
    if (!ok(linux.syscall4(.prlimit64, arg(pid), @backingInt(resource), 0, @intFromPtr(&pair)))) return false;
    pair[0] = @min(value, pair[1]);
    return ok(linux.syscall4(.prlimit64, arg(pid), @backingInt(resource), @intFromPtr(&pair), 0));
}

/// Whether a process waits for something other than a CPU (its main thread; "S" and "D" of /proc/PID/stat): some 10 µs.
pub fn processSleeps(pid: i32) bool {
    var path_buffer: [32]u8 = undefined;
    const path = std.fmt.bufPrintSentinel(&path_buffer, "/proc/{d}/stat", .{pid}, 0) catch return true;
    const at_fdcwd = -100;
    const cloexec = 0o2000000;
    const fd: Fd = @intCast(check("open", linux.syscall4(.openat, arg(at_fdcwd), @intFromPtr(path.ptr), cloexec, 0)) catch return true);
    defer close(fd);
    var text: [512]u8 = undefined;
    const bytes = check("read", linux.syscall3(.read, arg(fd), @intFromPtr(&text), text.len)) catch return true;
    // "PID (NAME) STATE …": the name may contain anything.
    const end = std.mem.findScalarLast(u8, text[0..bytes], ')') orelse return true;
    if (end + 2 >= bytes) return true;
    return text[end + 2] != 'R';
}

pub fn yield() void {
    _ = linux.syscall0(.sched_yield);
}

/// Pins the calling thread.
pub fn pin(cpu: u32) Error!void {
    var set: [16]u64 = @splat(0);
    if (cpu >= set.len * 64) return error.Invalid;
    set[cpu / 64] = @as(u64, 1) << @intCast(cpu % 64);
    _ = try check("sched_setaffinity", linux.syscall3(.sched_setaffinity, 0, @sizeOf(@TypeOf(set)), @intFromPtr(&set)));
}

/// Names the calling thread for ps and perf.
pub fn nameThread(name: [*:0]const u8) void {
    const pr_set_name = 15;
    _ = linux.syscall2(.prctl, pr_set_name, @intFromPtr(name));
}

/// Bytes that nobody can guess.
pub fn random(bytes: []u8) Error!void {
    const got = try check("getrandom", linux.syscall3(.getrandom, @intFromPtr(bytes.ptr), bytes.len, 0));
    if (got != bytes.len) return error.Again;
}

pub fn sleep(ns: u64) void {
    const request: [2]u64 = .{ ns / std.time.ns_per_s, ns % std.time.ns_per_s };
    _ = linux.syscall2(.nanosleep, @intFromPtr(&request), 0);
}

// -- io_uring -----------------------------------------------------------------------------------------------------

const enter_getevents = 1;
const enter_ext_arg = 8;

/// Submits `to_submit` entries and runs what is pending; waits for one completion, at most `wait_ns`, unless that is null.
pub fn ringEnter(fd: Fd, to_submit: u32, wait_ns: ?u64) Error!u32 {
    const ns = wait_ns orelse
        return @intCast(try check("io_uring_enter", linux.syscall6(.io_uring_enter, arg(fd), to_submit, 0, enter_getevents, 0, 0)));
    const timespec: [2]u64 = .{ ns / std.time.ns_per_s, ns % std.time.ns_per_s };
    const Arg = extern struct { sigmask: u64, sigmask_bytes: u32, min_wait_us: u32, timespec: u64 };
    const wait: Arg = .{ .sigmask = 0, .sigmask_bytes = 8, .min_wait_us = 0, .timespec = @intFromPtr(&timespec) };
    return @intCast(try check("io_uring_enter", linux.syscall6(.io_uring_enter, arg(fd), to_submit, 1, enter_getevents | enter_ext_arg, @intFromPtr(&wait), @sizeOf(Arg))));
}

pub fn ringEnable(fd: Fd) Error!void {
    const register_enable_rings = 12;
    _ = try check("io_uring_register(ENABLE_RINGS)", linux.syscall4(.io_uring_register, arg(fd), register_enable_rings, 0, 0));
}

pub fn ringRegisterBuffers(fd: Fd, ring_address: usize, entries: u32, group: u16) Error!void {
    const register_pbuf_ring = 22;
    const Registration = extern struct { address: u64, entries: u32, group: u16, flags: u16 = 0, reserved: [3]u64 = .{ 0, 0, 0 } };
    const registration: Registration = .{ .address = ring_address, .entries = entries, .group = group };
    _ = try check("io_uring_register(PBUF_RING)", linux.syscall4(.io_uring_register, arg(fd), register_pbuf_ring, @intFromPtr(&registration), 1));
}

test "a sealed memory file cannot be truncated" {
    const fd = try memfdSealed(8192);
    defer close(fd);
    try std.testing.expectError(error.Denied, check("ftruncate", linux.syscall2(.ftruncate, arg(fd), 0)));
    const place = try mapReserve(8192);
    try mapShared(place, fd);
    place[8191] = 7;
    removePages(place);
    try std.testing.expectEqual(0, place[8191]);
    unmapShared(place);
}

test "no process sleeps under a pid that none can have" {
    try std.testing.expect(processSleeps(0));
}

test "connecting where nobody listens is Missing, a path too long is Invalid" {
    try std.testing.expectError(error.Missing, connectUnix("/nonexistent/zygote.sock"));
    try std.testing.expectError(error.Invalid, connectUnix(&@as([108]u8, @splat(120))));
}
