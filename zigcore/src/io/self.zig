//! What a process asks the kernel about itself, and how it puts itself back: memory, descriptors, timers. Signals are in
//! io/signals.zig.
//!
//! Called by runtime/checkpoint and its parts. Raw system calls and not libc's: libc writes to its own memory (errno,
//! caches), and the caller is putting exactly that memory back.
//! What always holds: nothing here allocates or touches memory other than its arguments.
const std = @import("std");
const linux = std.os.linux;
const sys = @import("sys.zig");
const check = sys.check;
const arg = sys.arg;

pub const Error = sys.Error;
pub const Fd = sys.Fd;
pub const page_bytes = 4096;
/// End of what a process may map on x86-64 (four levels of page tables).
pub const address_end = 0x7fff_ffff_f000;

pub const Prot = struct {
    pub const read: u8 = 1;
    pub const write: u8 = 2;
    pub const exec: u8 = 4;
};

const map_private = 2;
const map_fixed = 0x10;
const map_anonymous = 0x20;
const map_noreserve = 0x4000;
const madv_dontneed = 4;
const madv_nohugepage = 15;
const at_fdcwd = -100;
const o_cloexec = 0o2000000;
const o_path = 0o10000000;
const o_rdwr = 2;

// -- Memory -------------------------------------------------------------------------------------------------------

/// Zeroed address space of the process's own, private: a fork copies it.
pub fn reserve(bytes: usize) Error![]align(page_bytes) u8 {
    const address = try check("mmap", linux.syscall6(.mmap, 0, bytes, Prot.read | Prot.write, map_private | map_anonymous | map_noreserve, arg(-1), 0));
    // Touched sparsely: a huge page would be memory that nobody uses.
    _ = linux.syscall3(.madvise, address, bytes, madv_nohugepage);
    return @as([*]align(page_bytes) u8, @ptrFromInt(address))[0..bytes];
}

/// The same without access: it counts as nobody's memory until it is opened (`protect`).
pub fn reserveClosed(bytes: usize) Error![]align(page_bytes) u8 {
    const address = try check("mmap", linux.syscall6(.mmap, 0, bytes, 0, map_private | map_anonymous | map_noreserve, arg(-1), 0));
    _ = linux.syscall3(.madvise, address, bytes, madv_nohugepage);
    return @as([*]align(page_bytes) u8, @ptrFromInt(address))[0..bytes];
}

/// Zeroed memory that forked processes share.
pub fn reserveShared(bytes: usize) Error![]align(page_bytes) u8 {
    const map_shared = 1;
    const address = try check("mmap", linux.syscall6(.mmap, 0, bytes, Prot.read | Prot.write, map_shared | map_anonymous | map_noreserve, arg(-1), 0));
    return @as([*]align(page_bytes) u8, @ptrFromInt(address))[0..bytes];
}

pub fn release(start: usize, bytes: usize) Error!void {
    _ = try check("munmap", linux.syscall2(.munmap, start, bytes));
}

/// Maps a part of `fd` privately; over whatever is at `place` unless that is 0.
pub fn mapPrivate(fd: Fd, place: usize, bytes: usize, prot: u8, offset: usize) Error!usize {
    const fixed: usize = if (place == 0) 0 else map_fixed;
    return check("mmap", linux.syscall6(.mmap, place, bytes, prot, map_private | fixed, arg(fd), offset));
}

pub fn protect(start: usize, bytes: usize, prot: u8) Error!void {
    _ = try check("mprotect", linux.syscall3(.mprotect, start, bytes, prot));
}

/// Private pages go; the next access finds the file's content again, or zeros.
pub fn drop(start: usize, bytes: usize) void {
    _ = linux.syscall3(.madvise, start, bytes, madv_dontneed);
}

/// Page tables for what is there, without a fault for each page. Kernels before 5.14 do not know it: no harm.
pub fn populateRead(start: usize, bytes: usize) void {
    const madv_populate_read = 22;
    _ = linux.syscall3(.madvise, start, bytes, madv_populate_read);
}

/// Moves the program break; 0 only asks. The break afterwards.
pub fn brk(to: usize) usize {
    return linux.syscall1(.brk, to);
}

/// Anonymous memory under a descriptor, which can be sealed.
pub fn memoryFile(name: [*:0]const u8, bytes: usize) Error!Fd {
    const cloexec_and_sealing = 1 | 2;
    const fd: Fd = @intCast(try check("memfd_create", linux.syscall2(.memfd_create, @intFromPtr(name), cloexec_and_sealing)));
    errdefer sys.close(fd);
    _ = try check("ftruncate", linux.syscall2(.ftruncate, arg(fd), bytes));
    return fd;
}

pub fn sizeOf(fd: Fd) Error!usize {
    var stat: [18]u64 = undefined;
    _ = try check("fstat", linux.syscall2(.fstat, arg(fd), @intFromPtr(&stat)));
    return stat[6];
}

/// From here on nobody can change the file's content, whoever holds or maps it.
pub fn sealWrites(fd: Fd) Error!void {
    const add_seals = 1033;
    const seal_seal_shrink_grow_write = 1 | 2 | 4 | 8;
    _ = try check("fcntl(F_ADD_SEALS)", linux.syscall3(.fcntl, arg(fd), add_seals, seal_seal_shrink_grow_write));
}

/// A stretch of memory.
pub const Part = extern struct { start: usize, bytes: usize };

/// Writes all of `parts`, `bytes` together, one behind the other.
pub fn writeParts(fd: Fd, parts: []const Part, offset: usize, bytes: usize) Error!void {
    const written = try check("pwritev", linux.syscall5(.pwritev, arg(fd), @intFromPtr(parts.ptr), parts.len, offset, 0));
    if (written != bytes) return error.NoMemory;
}

/// A file's memory, to be written to: the limit on the size of files (RLIMIT_FSIZE) is for tenants' own.
pub fn mapShared(fd: Fd, bytes: usize) Error![]u8 {
    const map_shared = 1;
    const address = try check("mmap", linux.syscall6(.mmap, 0, bytes, Prot.read | Prot.write, map_shared, arg(fd), 0));
    return @as([*]u8, @ptrFromInt(address))[0..bytes];
}

/// Pages of one kind; as the kernel lays it out.
pub const PageRange = extern struct { start: u64, end: u64, categories: u64 };

/// Finds the pages of [start, end) that are the process's own (anonymous: copied on write, or never of a file).
/// Returns how many ranges it wrote; `next` is where to go on.
pub fn pagesOwn(pagemap: Fd, start: usize, end: usize, ranges: []PageRange, next: *usize) Error!usize {
    const Arg = extern struct {
        size: u64,
        flags: u64 = 0,
        start: u64,
        end: u64,
        walk_end: u64 = 0,
        vec: u64,
        vec_count: u64,
        pages_max: u64 = 0,
        category_inverted: u64,
        category_mask: u64,
        category_anyof_mask: u64,
        return_mask: u64,
    };
    const pagemap_scan = 0xc0606610;
    const file = 4;
    const present = 8;
    const swapped = 16;
    var scan: Arg = .{
        .size = @sizeOf(Arg),
        .start = start,
        .end = end,
        .vec = @intFromPtr(ranges.ptr),
        .vec_count = ranges.len,
        .category_inverted = file,
        .category_mask = file,
        .category_anyof_mask = present | swapped,
        .return_mask = file,
    };
    const count = try check("ioctl(PAGEMAP_SCAN)", linux.syscall3(.ioctl, arg(pagemap), pagemap_scan, @intFromPtr(&scan)));
    next.* = scan.walk_end;
    return count;
}

// -- Descriptors --------------------------------------------------------------------------------------------------

pub fn openNull() Error!Fd {
    return @intCast(try check("open", linux.syscall4(.openat, arg(at_fdcwd), @intFromPtr("/dev/null"), o_cloexec | o_rdwr, 0)));
}

pub fn openOwn(path: [*:0]const u8) Error!Fd {
    return @intCast(try check("open", linux.syscall4(.openat, arg(at_fdcwd), @intFromPtr(path), o_cloexec, 0)));
}

// -- Folders ------------------------------------------------------------------------------------------------------

pub const here_fd: Fd = at_fdcwd;

/// To be listed; a link is refused.
pub fn openFolder(folder: Fd, path: [*:0]const u8) Error!Fd {
    const directory_nofollow = 0o200000 | 0o400000;
    return @intCast(try check("open", linux.syscall4(.openat, arg(folder), @intFromPtr(path), o_cloexec | directory_nofollow, 0)));
}

/// Free inodes and blocks of the file system.
pub fn freeOf(fd: Fd) Error![2]u64 {
    // struct statfs: type, bsize, blocks, bfree, bavail, files, ffree, …
    var about_it: [15]u64 = undefined;
    _ = try check("fstatfs", linux.syscall2(.fstatfs, arg(fd), @intFromPtr(&about_it)));
    return .{ about_it[6], about_it[3] };
}

/// Bytes of directory entries; 0: no more.
pub fn list(folder: Fd, buffer: []align(8) u8) Error!usize {
    return check("getdents64", linux.syscall3(.getdents64, arg(folder), @intFromPtr(buffer.ptr), buffer.len));
}

pub fn removeFile(folder: Fd, name: [*:0]const u8) bool {
    return sys.ok(linux.syscall3(.unlinkat, arg(folder), @intFromPtr(name), 0));
}

pub fn removeFolder(folder: Fd, name: [*:0]const u8) bool {
    const removedir = 0x200;
    return sys.ok(linux.syscall3(.unlinkat, arg(folder), @intFromPtr(name), removedir));
}

/// What tells whether a file was changed; links are not followed.
pub const Stamp = struct { device: u64, inode: u64, mode: u64, bytes: u64, changed_s: u64, changed_ns: u64, is_folder: bool };

pub fn stampOf(folder: Fd, name: [*:0]const u8) Error!Stamp {
    const symlink_nofollow = 0x100;
    return stamp(folder, name, symlink_nofollow);
}

pub fn stampOfOpen(fd: Fd) Error!Stamp {
    const empty_path = 0x1000;
    return stamp(fd, "", empty_path);
}

fn stamp(folder: Fd, name: [*:0]const u8, flags: usize) Error!Stamp {
    const basic = 0x7ff;
    // struct statx (linux/stat.h), in words: 3 has stx_mode in its upper half, then stx_ino, stx_size; 12 is stx_ctime, 17 the device.
    var about_it: [32]u64 = undefined;
    _ = try check("statx", linux.syscall5(.statx, arg(folder), @intFromPtr(name), flags, basic, @intFromPtr(&about_it)));
    const mode = about_it[3] >> 32 & 0xffff;
    return .{
        .device = about_it[17],
        .inode = about_it[4],
        .mode = mode,
        .bytes = about_it[5],
        .changed_s = about_it[12],
        .changed_ns = about_it[13] & std.math.maxInt(u32),
        .is_folder = mode & 0o170000 == 0o040000,
    };
}

/// Longer than the clock of files needs for its next tick.
pub fn waitForTick() void {
    const time: linux.timespec = .{ .sec = 0, .nsec = 11 * std.time.ns_per_ms };
    _ = linux.syscall2(.nanosleep, @intFromPtr(&time), 0);
}

pub fn giveRights(folder: Fd, name: [*:0]const u8) void {
    _ = linux.syscall3(.fchmodat, arg(folder), @intFromPtr(name), 0o700);
}

/// What has arrived on a socket is taken and forgotten. False: it is no socket any more.
pub fn drain(fd: Fd) bool {
    const msg_dontwait = 0x40;
    var bytes: [512]u8 = undefined;
    while (true) {
        const result = linux.syscall6(.recvfrom, arg(fd), @intFromPtr(&bytes), bytes.len, msg_dontwait, 0, 0);
        if (sys.ok(result) and result > 0) continue;
        return linux.errno(result) == .AGAIN;
    }
}

/// The thread's: what the kernel shows, at most 15 characters and a zero.
pub const Name = [16]u8;

pub fn nameGet(name: *Name) void {
    const pr_get_name = 16;
    _ = linux.syscall2(.prctl, pr_get_name, @intFromPtr(name));
}

pub fn nameSet(name: *const Name) void {
    const pr_set_name = 15;
    _ = linux.syscall2(.prctl, pr_set_name, @intFromPtr(name));
}

/// A handle of the working directory.
pub fn openHere() Error!Fd {
    return @intCast(try check("open", linux.syscall4(.openat, arg(at_fdcwd), @intFromPtr("."), o_cloexec | o_path, 0)));
}

pub fn goTo(folder: Fd) Error!void {
    _ = try check("fchdir", linux.syscall1(.fchdir, arg(folder)));
}

/// Reads from the start of a file of /proc: its text as it is now, cut to the buffer.
pub fn readFresh(fd: Fd, buffer: []u8, offset: usize) Error![]u8 {
    const bytes = try check("pread", linux.syscall4(.pread64, arg(fd), @intFromPtr(buffer.ptr), buffer.len, offset));
    return buffer[0..bytes];
}

/// The same file under the first free number from `least` on.
pub fn duplicate(fd: Fd, least: Fd) Error!Fd {
    const dupfd_cloexec = 1030;
    return @intCast(try check("fcntl(F_DUPFD)", linux.syscall3(.fcntl, arg(fd), dupfd_cloexec, arg(least))));
}

/// `to` becomes what `from` is, closed in programs that are executed.
pub fn replace(from: Fd, to: Fd) Error!void {
    const cloexec = 0o2000000;
    _ = try check("dup3", linux.syscall3(.dup3, arg(from), arg(to), cloexec));
}

pub const close = sys.close;

/// Two ends of one stream, closed in programs that are executed.
pub fn streamPair() Error![2]Fd {
    const unix = 1;
    const stream_cloexec = 0x80001;
    var ends: [2]Fd = undefined;
    _ = try check("socketpair", linux.syscall4(.socketpair, unix, stream_cloexec, 0, @intFromPtr(&ends)));
    return ends;
}

/// Null: nothing has come. 0: nothing will.
pub fn receiveNow(fd: Fd, buffer: []u8) ?usize {
    const msg_dontwait = 0x40;
    const result = linux.syscall6(.recvfrom, arg(fd), @intFromPtr(buffer.ptr), buffer.len, msg_dontwait, 0, 0);
    return switch (linux.errno(result)) {
        .SUCCESS => result,
        .AGAIN, .INTR => null,
        else => 0,
    };
}

pub fn isOpen(fd: Fd) bool {
    return sys.ok(linux.syscall3(.fcntl, arg(fd), getfd, 0));
}

/// `to` becomes what `from` is, kept by programs that are executed.
pub fn overlay(from: Fd, to: Fd) Error!void {
    _ = try check("dup3", linux.syscall3(.dup3, arg(from), arg(to), 0));
}

pub fn closeRange(first: Fd, last: u32) void {
    _ = linux.syscall3(.close_range, arg(first), last, 0);
}

pub const Kind = enum { regular, folder, device, other };
pub const About = struct { kind: Kind, device: u64, inode: u64 };

pub fn about(fd: Fd) Error!About {
    // struct stat of x86-64: 144 bytes; st_dev, st_ino, st_nlink (8 each), st_mode (4).
    var stat: [18]u64 = undefined;
    _ = try check("fstat", linux.syscall2(.fstat, arg(fd), @intFromPtr(&stat)));
    const mode: u32 = @truncate(stat[3]);
    const kind: Kind = switch (mode & 0o170000) {
        0o100000 => .regular,
        0o040000 => .folder,
        0o020000 => .device,
        else => .other,
    };
    return .{ .kind = kind, .device = stat[0], .inode = stat[1] };
}

/// Where in a file a descriptor is, and how it is used: its own flags, and those of what it shares with its copies.
pub const Place = struct { position: usize, flags: usize, descriptor_flags: usize };

const getfd = 1;
const setfd = 2;
const getfl = 3;
const setfl = 4;

pub fn placeOf(fd: Fd) Error!Place {
    return .{
        .position = try positionOf(fd),
        .flags = try check("fcntl(F_GETFL)", linux.syscall2(.fcntl, arg(fd), getfl)),
        .descriptor_flags = try check("fcntl(F_GETFD)", linux.syscall2(.fcntl, arg(fd), getfd)),
    };
}

pub fn placeSet(fd: Fd, place: Place) Error!void {
    try positionSet(fd, place.position);
    _ = try check("fcntl(F_SETFL)", linux.syscall3(.fcntl, arg(fd), setfl, place.flags));
    _ = try check("fcntl(F_SETFD)", linux.syscall3(.fcntl, arg(fd), setfd, place.descriptor_flags));
}

pub fn positionOf(fd: Fd) Error!usize {
    const seek_cur = 1;
    return check("lseek", linux.syscall3(.lseek, arg(fd), 0, seek_cur));
}

pub fn positionSet(fd: Fd, position: usize) Error!void {
    _ = try check("lseek", linux.syscall3(.lseek, arg(fd), position, 0));
}

// -- Processes, timers, limits ------------------------------------------------------------------------------------

/// Whether there is any child, running or ended.
pub fn hasChildren() bool {
    const p_all = 0;
    const exited_nohang_nowait_all = 4 | 1 | 0x01000000 | 0x40000000;
    // ECHILD is the ordinary answer.
    return sys.ok(linux.syscall5(.waitid, p_all, 0, 0, exited_nohang_nowait_all, 0));
}

/// Ends every process of the caller's group, the caller too.
pub fn killGroup() void {
    _ = linux.syscall2(.kill, 0, sys.sigkill);
}

/// As first process of a PID namespace: ends all others in it.
pub fn killOthers() void {
    _ = linux.syscall2(.kill, arg(-1), sys.sigkill);
}

pub fn killProcessGroup(leader: i32) void {
    _ = linux.syscall2(.kill, arg(-leader), sys.sigkill);
}

pub fn processId() i32 {
    return @intCast(linux.syscall0(.getpid));
}

pub fn parentId() i32 {
    return @intCast(linux.syscall0(.getppid));
}

extern fn fork() c_int;

/// libc's, which has locks of its own to bring over. 0: the child.
pub fn forkProcess() Error!i32 {
    const pid = fork();
    return if (pid < 0) error.Again else pid;
}

/// Null: a signal came first, or, if it is not to wait, the process runs.
pub fn waitFor(pid: i32, wait: bool) Error!?u32 {
    const no_hang = 1;
    var status: u32 = 0;
    const result = linux.syscall4(.wait4, arg(pid), @intFromPtr(&status), if (wait) 0 else no_hang, 0);
    if (linux.errno(result) == .INTR) return null;
    return if (try check("wait4", result) == 0) null else status;
}

/// Waits for any child that there is; false: there is none.
pub fn reapOne() bool {
    const result = linux.syscall4(.wait4, arg(-1), 0, 0, 0);
    return linux.errno(result) == .INTR or sys.ok(result);
}

/// Where there is no jail, which forbids asking and does it by itself.
pub fn dieWithParent() void {
    const pr_set_pdeathsig = 1;
    _ = linux.syscall2(.prctl, pr_set_pdeathsig, sys.sigkill);
}

pub fn groupOfOne() void {
    _ = linux.syscall2(.setpgid, 0, 0);
}

pub fn exit(status: u8) noreturn {
    while (true) _ = linux.syscall1(.exit_group, status);
}

/// Makes a call that was stopped; the arguments are whoever's made it.
pub fn callAgain(number: usize, a: [6]usize) usize {
    return linux.syscall6(@fromBackingInt(@intCast(number)), a[0], a[1], a[2], a[3], a[4], a[5]);
}

/// Page faults so far: of this process, ended threads included, or of this thread alone.
pub fn faultsCount(of: enum(usize) { process = 0, thread = 1 }) u64 {
    // struct rusage: two times, then maxrss, ixrss, idrss, isrss, minflt, majflt …
    var usage: [18]u64 = undefined;
    _ = linux.syscall2(.getrusage, @backingInt(of), @intFromPtr(&usage));
    return usage[8] + usage[9];
}

/// The three interval timers (setitimer, alarm) stand.
pub fn timersStop() void {
    const none: [4]u64 = @splat(0);
    for (0..3) |which| _ = linux.syscall3(.setitimer, which, @intFromPtr(&none), 0);
}

pub fn umaskSet(mask: usize) usize {
    return linux.syscall1(.umask, mask);
}

/// CLOCK_MONOTONIC.
pub fn now() u64 {
    var time: linux.timespec = undefined;
    // libc's: the only one that knows the way without a system call. It writes nothing.
    _ = std.c.clock_gettime(.MONOTONIC, &time);
    return @as(u64, @intCast(time.sec)) * std.time.ns_per_s + @as(u64, @intCast(time.nsec));
}

pub const Limit = [2]u64;
pub const limit_file_size = 1;
pub const limit_descriptors = 7;

pub fn limitGet(resource: usize, limit: *Limit) void {
    _ = linux.syscall4(.prlimit64, 0, resource, 0, @intFromPtr(limit));
}

pub fn limitSet(resource: usize, limit: *const Limit) bool {
    return sys.ok(linux.syscall4(.prlimit64, 0, resource, @intFromPtr(limit), 0));
}
