//! The system calls of the jail: each is one call, checked, with its name and errno kept for the message to people.
//!
//! Called by jail/ alone, in a forked worker that is about to confine itself. Apart from io/sys, whose calls serve the
//! data plane: none of these is ever made there. What always holds: a function did what its name says, or `Refused` is
//! returned and `failed_call` and `failed_errno` say what the kernel answered.
const std = @import("std");
const assert = std.debug.assert;
const linux = std.os.linux;

pub const Error = error{Refused};
pub const Fd = i32;
pub const at_fdcwd: Fd = -100;

pub var failed_call: []const u8 = "";
pub var failed_errno: u32 = 0;

fn check(comptime call: []const u8, result: usize) Error!usize {
    const signed: isize = @bitCast(result);
    if (signed >= 0 or signed < -4095) return result;
    failed_call = call;
    failed_errno = @intCast(-signed);
    return error.Refused;
}

fn arg(value: i32) usize {
    return @bitCast(@as(isize, value));
}

/// A check of ours failed, not a call: `what` names it.
pub fn refuse(what: []const u8) Error {
    failed_call = what;
    failed_errno = 0;
    return error.Refused;
}

// -- Descriptors --------------------------------------------------------------------------------------------------

pub fn close(fd: Fd) void {
    _ = linux.syscall1(.close, arg(fd));
}

pub fn closeFrom(first: Fd) Error!void {
    _ = try check("close_range", linux.syscall3(.close_range, arg(first), std.math.maxInt(u32), 0));
}

pub fn closeBetween(first: Fd, last: Fd) Error!void {
    _ = try check("close_range", linux.syscall3(.close_range, arg(first), arg(last), 0));
}

pub fn isOpen(fd: Fd) bool {
    const getfd = 1;
    _ = check("fcntl", linux.syscall3(.fcntl, arg(fd), getfd, 0)) catch return false;
    return true;
}

/// A file in memory that can be sealed.
pub fn memoryFile(name: [*:0]const u8) Error!Fd {
    const cloexec_and_sealing = 1 | 2;
    return @intCast(try check("memfd_create", linux.syscall2(.memfd_create, @intFromPtr(name), cloexec_and_sealing)));
}

/// Each system call of this thread outside of the code named asks the byte at `selector` first (PR_SYS_DISPATCH_ON).
pub fn dispatchCalls(exempt_start: usize, exempt_bytes: usize, selector: usize) Error!void {
    const pr_set_syscall_user_dispatch = 59;
    const on = 1;
    _ = try check("prctl(SET_SYSCALL_USER_DISPATCH)", linux.syscall5(.prctl, pr_set_syscall_user_dispatch, on, exempt_start, exempt_bytes, selector));
}

pub fn setFileSize(fd: Fd, bytes: u64) Error!void {
    _ = try check("ftruncate", linux.syscall2(.ftruncate, arg(fd), bytes));
}

/// Whether the process's files in /proc belong to its user (or to root), and others of that user may look inside.
pub fn setDumpable(yes: bool) Error!void {
    const pr_set_dumpable = 4;
    _ = try prctl("SET_DUMPABLE", pr_set_dumpable, @intFromBool(yes));
}

pub fn moveTo(fd: Fd, wanted: Fd) Error!void {
    assert(fd != wanted);
    const cloexec = 0o2000000;
    _ = try check("dup3", linux.syscall3(.dup3, arg(fd), arg(wanted), cloexec));
    close(fd);
}

pub const o_path = 0o10000000;
pub const o_write_new = 0o1 | 0o100 | 0o200;
const o_cloexec = 0o2000000;

pub fn openAt(folder: Fd, path: [*:0]const u8, flags: u32, mode: u32) Error!Fd {
    return @intCast(try check("openat", linux.syscall4(.openat, arg(folder), @intFromPtr(path), flags | o_cloexec, mode)));
}

/// All of `bytes`, or `Refused`.
pub fn write(fd: Fd, bytes: []const u8) Error!void {
    const written = try check("write", linux.syscall3(.write, arg(fd), @intFromPtr(bytes.ptr), bytes.len));
    if (written != bytes.len) return refuse("write (short)");
}

/// `bytes` with one or two descriptors along with them.
pub fn sendDescriptors(socket: Fd, bytes: []const u8, fds: []const Fd) Error!void {
    assert(fds.len == 1 or fds.len == 2);
    const head_bytes = 16;
    const Control = extern struct { bytes: usize, level: i32 = 1, kind: i32 = 1, fds: [2]Fd };
    const Part = extern struct { base: usize, bytes: usize };
    const Message = extern struct {
        name: usize = 0,
        name_bytes: usize = 0,
        parts: usize,
        parts_count: usize = 1,
        control: usize,
        control_bytes: usize,
        flags: usize = 0,
    };
    const control: Control = .{ .bytes = head_bytes + fds.len * @sizeOf(Fd), .fds = .{ fds[0], fds[fds.len - 1] } };
    const part: Part = .{ .base = @intFromPtr(bytes.ptr), .bytes = bytes.len };
    const message: Message = .{ .parts = @intFromPtr(&part), .control = @intFromPtr(&control), .control_bytes = @sizeOf(Control) };
    const msg_nosignal = 0x4000;
    const sent = try check("sendmsg", linux.syscall3(.sendmsg, arg(socket), @intFromPtr(&message), msg_nosignal));
    if (sent != bytes.len) return refuse("sendmsg (short)");
}

/// `text` into a file of the kernel's.
pub fn writeFile(path: [*:0]const u8, text: []const u8) Error!void {
    const write_only = 1;
    const fd = try openAt(at_fdcwd, path, write_only, 0);
    defer close(fd);
    try write(fd, text);
}

/// One byte; the end of the file is `Refused`.
pub fn readByte(fd: Fd) Error!u8 {
    var byte: [1]u8 = undefined;
    const got = try check("read", linux.syscall3(.read, arg(fd), @intFromPtr(&byte), 1));
    if (got != 1) return refuse("read (the zygote is gone)");
    return byte[0];
}

// -- Namespaces and identity --------------------------------------------------------------------------------------

pub fn unshare(flags: u32) Error!void {
    _ = try check("unshare", linux.syscall1(.unshare, flags));
}

pub fn setHostName(name: []const u8) Error!void {
    _ = try check("sethostname", linux.syscall2(.sethostname, @intFromPtr(name.ptr), name.len));
}

/// A new, empty session keyring; a kernel without keyrings has nothing to hide.
pub fn joinEmptyKeyring() Error!void {
    const join_session_keyring = 1;
    _ = check("keyctl(JOIN_SESSION_KEYRING)", linux.syscall2(.keyctl, join_session_keyring, 0)) catch |err| {
        const enosys = 38;
        if (failed_errno != enosys) return err;
    };
}

pub fn processId() u32 {
    return @intCast(linux.syscall0(.getpid));
}

pub fn userId() u32 {
    return @intCast(linux.syscall0(.geteuid));
}

pub fn groupId() u32 {
    return @intCast(linux.syscall0(.getegid));
}

pub fn dropGroups() Error!void {
    _ = try check("setgroups", linux.syscall2(.setgroups, 0, 0));
}

pub fn setIds(uid: u32, gid: u32) Error!void {
    _ = try check("setresgid", linux.syscall3(.setresgid, gid, gid, gid));
    _ = try check("setresuid", linux.syscall3(.setresuid, uid, uid, uid));
}

pub fn prctl(comptime name: []const u8, option: u32, value: usize) Error!usize {
    return check("prctl(" ++ name ++ ")", linux.syscall5(.prctl, option, value, 0, 0, 0));
}

/// The three sets of the calling thread become empty.
pub fn dropCapabilities() Error!void {
    const version_3 = 0x20080522;
    const Header = extern struct { version: u32, pid: i32 };
    const header: Header = .{ .version = version_3, .pid = 0 };
    const none: [6]u32 = @splat(0);
    _ = try check("capset", linux.syscall2(.capset, @intFromPtr(&header), @intFromPtr(&none)));
}

pub fn setLimit(resource: u32, soft: u64, hard: u64) Error!void {
    const pair = [2]u64{ soft, hard };
    _ = try check("prlimit64", linux.syscall4(.prlimit64, 0, resource, @intFromPtr(&pair), 0));
}

pub fn hardLimit(resource: u32) Error!u64 {
    var pair: [2]u64 = undefined;
    _ = try check("prlimit64", linux.syscall4(.prlimit64, 0, resource, 0, @intFromPtr(&pair)));
    return pair[1];
}

// -- The network of the worker's own namespace ------------------------------------------------------------------------

const af_inet = 2;
const stream = 1;
const close_on_exec = 0o2000000;

/// The interface `lo`, which is down in a new namespace.
pub fn raiseLoopback() Error!void {
    const Request = extern struct { name: [16]u8, flags: u16, reserved: [22]u8 = @splat(0) };
    const datagram = 2;
    const set_flags = 0x8914; // SIOCSIFFLAGS
    const up = 1;
    const fd: Fd = @intCast(try check("socket", linux.syscall3(.socket, af_inet, datagram | close_on_exec, 0)));
    defer close(fd);
    const request: Request = .{ .name = "lo".* ++ @as([14]u8, @splat(0)), .flags = up };
    _ = try check("ioctl(SIOCSIFFLAGS)", linux.syscall3(.ioctl, arg(fd), set_flags, @intFromPtr(&request)));
}

/// A TCP socket that listens on 127.0.0.1.
pub fn listenOnLoopback(port: u16, backlog: u32) Error!Fd {
    const Address = extern struct { family: u16 = af_inet, port: u16, address: [4]u8 = .{ 127, 0, 0, 1 }, reserved: u64 = 0 };
    const address: Address = .{ .port = std.mem.nativeToBig(u16, port) };
    const fd: Fd = @intCast(try check("socket", linux.syscall3(.socket, af_inet, stream | close_on_exec, 0)));
    errdefer close(fd);
    _ = try check("bind", linux.syscall3(.bind, arg(fd), @intFromPtr(&address), @sizeOf(Address)));
    _ = try check("listen", linux.syscall2(.listen, arg(fd), backlog));
    return fd;
}

// -- Mounts -------------------------------------------------------------------------------------------------------

pub const ms_readonly = 1;
pub const ms_nosuid = 2;
pub const ms_nodev = 4;
pub const ms_noexec = 8;
const ms_rec = 0x4000;
const ms_private = 1 << 18;

/// Nothing that is mounted from here on is seen outside, nor the other way round.
pub fn makePrivate() Error!void {
    _ = try check("mount(MS_PRIVATE)", linux.syscall5(.mount, 0, @intFromPtr("/"), 0, ms_rec | ms_private, 0));
}

pub fn mountTmpfs(target: [*:0]const u8, flags: u32, options: [*:0]const u8) Error!void {
    _ = try check("mount(tmpfs)", linux.syscall5(.mount, @intFromPtr("tailcut"), @intFromPtr(target), @intFromPtr("tmpfs"), flags, @intFromPtr(options)));
}

const at_empty_path = 0x1000;
const at_recursive = 0x8000;
const open_tree_clone = 1;

/// A detached copy of what is mounted at `path`, with all below it. A path that leads through a link is refused (ELOOP):
/// ours do not, so somebody else has made it.
pub fn cloneTree(path: [*:0]const u8) Error!Fd {
    const How = extern struct { flags: u64, mode: u64 = 0, resolve: u64 };
    const no_magic_links = 2;
    const no_links = 4;
    const how: How = .{ .flags = o_path | o_cloexec, .resolve = no_links | no_magic_links };
    const source: Fd = @intCast(try check("openat2", linux.syscall4(.openat2, arg(at_fdcwd), @intFromPtr(path), @intFromPtr(&how), @sizeOf(How))));
    defer close(source);
    return @intCast(try check("open_tree", linux.syscall3(.open_tree, arg(source), @intFromPtr(""), open_tree_clone | at_empty_path | at_recursive | o_cloexec)));
}

const MountAttributes = extern struct { set: u64, clear: u64 = 0, propagation: u64 = 0, user_namespace: u64 = 0 };

/// Adds `flags` (the first four of MS_ are the same in the new calls) to a detached tree.
pub fn restrictTree(tree: Fd, flags: u32) Error!void {
    const attributes: MountAttributes = .{ .set = flags };
    _ = try check("mount_setattr", linux.syscall5(.mount_setattr, arg(tree), @intFromPtr(""), at_empty_path | at_recursive, @intFromPtr(&attributes), @sizeOf(MountAttributes)));
}

pub fn restrictMount(path: [*:0]const u8, flags: u32) Error!void {
    const attributes: MountAttributes = .{ .set = flags };
    _ = try check("mount_setattr", linux.syscall5(.mount_setattr, arg(at_fdcwd), @intFromPtr(path), 0, @intFromPtr(&attributes), @sizeOf(MountAttributes)));
}

pub fn attachTree(tree: Fd, target: [*:0]const u8) Error!void {
    const from_empty_path = 4;
    _ = try check("move_mount", linux.syscall5(.move_mount, arg(tree), @intFromPtr(""), arg(at_fdcwd), @intFromPtr(target), from_empty_path));
}

/// Returns the mask before.
pub fn fileMask(mask: u32) u32 {
    return @intCast(linux.syscall1(.umask, mask));
}

/// Whether a directory is there afterwards.
pub fn makeFolder(path: [*:0]const u8, mode: u32) Error!void {
    _ = check("mkdirat", linux.syscall3(.mkdirat, arg(at_fdcwd), @intFromPtr(path), mode)) catch |err| {
        const eexist = 17;
        if (failed_errno != eexist) return err;
    };
}

pub fn makeLink(content: [*:0]const u8, path: [*:0]const u8) Error!void {
    _ = try check("symlinkat", linux.syscall3(.symlinkat, @intFromPtr(content), arg(at_fdcwd), @intFromPtr(path)));
}

pub fn changeFolder(path: [*:0]const u8) Error!void {
    _ = try check("chdir", linux.syscall1(.chdir, @intFromPtr(path)));
}

/// The working folder becomes the root; what was the root is mounted no more.
pub fn pivotHere() Error!void {
    const mnt_detach = 2;
    _ = try check("pivot_root", linux.syscall2(.pivot_root, @intFromPtr("."), @intFromPtr(".")));
    _ = try check("umount2", linux.syscall2(.umount2, @intFromPtr("."), mnt_detach));
    try changeFolder("/");
    var buffer: [64]u8 = undefined;
    const bytes = try check("getcwd", linux.syscall2(.getcwd, @intFromPtr(&buffer), buffer.len));
    if (bytes != 2 or buffer[0] != '/') return refuse("getcwd (it is not the new root)");
}

// -- Landlock -----------------------------------------------------------------------------------------------------

pub const Ruleset = extern struct { filesystem: u64, network: u64, scoped: u64 };

/// The version of the kernel's Landlock.
pub fn landlockVersion() Error!u32 {
    const version_flag = 1;
    return @intCast(try check("landlock_create_ruleset", linux.syscall3(.landlock_create_ruleset, 0, 0, version_flag)));
}

pub fn landlockCreate(ruleset: *const Ruleset, bytes: usize) Error!Fd {
    return @intCast(try check("landlock_create_ruleset", linux.syscall3(.landlock_create_ruleset, @intFromPtr(ruleset), bytes, 0)));
}

pub fn landlockAllow(ruleset: Fd, path: [*:0]const u8, access: u64) Error!void {
    const Rule = extern struct { access: u64 align(4), folder: Fd };
    const folder = try openAt(at_fdcwd, path, o_path, 0);
    defer close(folder);
    const rule: Rule = .{ .access = access, .folder = folder };
    const path_beneath = 1;
    _ = try check("landlock_add_rule", linux.syscall4(.landlock_add_rule, arg(ruleset), path_beneath, @intFromPtr(&rule), 0));
}

/// TCP connections to that port, of whatever address.
pub fn landlockAllowConnect(ruleset: Fd, port: u16) Error!void {
    const Rule = extern struct { access: u64, port: u64 };
    const connect = 1 << 1;
    const rule: Rule = .{ .access = connect, .port = port };
    const net_port = 2;
    _ = try check("landlock_add_rule(port)", linux.syscall4(.landlock_add_rule, arg(ruleset), net_port, @intFromPtr(&rule), 0));
}

pub fn landlockRestrict(ruleset: Fd) Error!void {
    _ = try check("landlock_restrict_self", linux.syscall2(.landlock_restrict_self, arg(ruleset), 0));
}

// -- seccomp ------------------------------------------------------------------------------------------------------

/// One instruction of the classic packet filter.
pub const Instruction = extern struct { code: u16, jump_true: u8 = 0, jump_false: u8 = 0, value: u32 };

const FilterProgram = extern struct { len: u16, instructions: [*]const Instruction };

/// On the calling thread; the descriptor is told of calls that the filter answers with a user notification.
pub fn installListener(program: []const Instruction) Error!Fd {
    const whole: FilterProgram = .{ .len = @intCast(program.len), .instructions = program.ptr };
    const set_mode_filter = 1;
    const new_listener = 8;
    return @intCast(try check("seccomp(NEW_LISTENER)", linux.syscall3(.seccomp, set_mode_filter, new_listener, @intFromPtr(&whole))));
}

/// On every thread of the process, or not at all.
pub fn installFilter(program: []const Instruction) Error!void {
    const whole: FilterProgram = .{ .len = @intCast(program.len), .instructions = program.ptr };
    const set_mode_filter = 1;
    const tsync = 1;
    const result = try check("seccomp", linux.syscall3(.seccomp, set_mode_filter, tsync, @intFromPtr(&whole)));
    // A positive answer names the thread that could not be brought along.
    if (result != 0) return refuse("seccomp (TSYNC)");
}
