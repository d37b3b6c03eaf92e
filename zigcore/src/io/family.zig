//! CPU time of the processes that a worker has started: those that run, and those that have ended.
//!
//! Called by pool/deadline and burn, for workers that may have any: a process's own CPU clock does not count its children's.
//! Their control group, which none of them can leave, counts all that ever ran in it (`cpuOfAll`): what a process used that
//! ended while SIGCHLD was ignored, or that nobody has waited for, is in nobody's own figures. Where the kernel keeps no
//! such count, those that run are found in the group of their memory, and those that have ended and been waited for are
//! in the worker's own figures, to 10 ms in all. What always holds: nothing here asks the processes themselves.
const std = @import("std");
const linux = std.os.linux;
const limits = @import("../limits.zig");
const clock = @import("clock.zig");
const sys = @import("sys.zig");

/// USER_HZ, in which /proc counts.
const tick_ns = 10 * std.time.ns_per_ms;
const o_cloexec = 0o2000000;
const at_fdcwd: sys.Fd = -100;

/// `usage`: cpuacct.usage of v1 or cpu.stat of v2. Null once the group is gone.
pub fn cpuOfAll(usage: sys.Fd) ?u64 {
    var buffer: [512]u8 = undefined;
    const bytes = sys.check("pread64", linux.syscall4(.pread64, sys.arg(usage), @intFromPtr(&buffer), buffer.len, 0)) catch return null;
    return usageIn(buffer[0..bytes]);
}

fn usageIn(text: []const u8) ?u64 {
    const v2 = "usage_usec ";
    const in_us = std.mem.startsWith(u8, text, v2);
    const digits = text[if (in_us) v2.len else 0..];
    const end = std.mem.findScalar(u8, digits, '\n') orelse return null;
    const number = std.fmt.parseInt(u64, digits[0..end], 10) catch return null;
    return if (in_us) number *| std.time.ns_per_us else number;
}

/// `group`: the folder of the control group of worker `pid`, or `sys.none`: then those that run are not seen.
pub fn cpuOfOthers(pid: i32, group: sys.Fd) u64 {
    // First what has ended: who ends in between is missing for a moment, and never counted twice.
    var total = ended(pid);
    var buffer: [limits.processes_max]i32 = undefined;
    for (others(pid, group, &buffer)) |other| total += ended(other) + (clock.cpuOf(other) orelse 0);
    return total;
}

/// The processes of the group but `pid`, as many as fit; none where there is no group.
pub fn others(pid: i32, group: sys.Fd, out: []i32) []const i32 {
    if (group == sys.none) return out[0..0];
    var buffer: [8192]u8 = undefined;
    const text = read(group, "cgroup.procs", &buffer) orelse return out[0..0];
    var count: usize = 0;
    var numbers = std.mem.tokenizeScalar(u8, text, '\n');
    while (numbers.next()) |number| {
        const other = std.fmt.parseInt(i32, number, 10) catch continue;
        if (other == pid or other <= 0 or count == out.len) continue;
        out[count] = other;
        count += 1;
    }
    return out[0..count];
}

/// Of the children that `pid` has waited for, and theirs.
fn ended(pid: i32) u64 {
    var path_buffer: [32]u8 = undefined;
    const path = std.fmt.bufPrintSentinel(&path_buffer, "/proc/{d}/stat", .{pid}, 0) catch return 0;
    var buffer: [1024]u8 = undefined;
    return endedIn(read(at_fdcwd, path, &buffer) orelse return 0);
}

/// proc_pid_stat(5): the name may contain anything; cutime and cstime are the 14th and 15th field after it.
fn endedIn(text: []const u8) u64 {
    const name_end = std.mem.findScalarLast(u8, text, ')') orelse return 0;
    var fields = std.mem.tokenizeScalar(u8, text[name_end + 1 ..], ' ');
    for (0..13) |_| _ = fields.next() orelse return 0;
    const user = std.fmt.parseInt(u64, fields.next() orelse return 0, 10) catch return 0;
    const system = std.fmt.parseInt(u64, fields.next() orelse return 0, 10) catch return 0;
    return (user +| system) *| tick_ns;
}

fn read(folder: sys.Fd, path: [*:0]const u8, buffer: []u8) ?[]const u8 {
    const fd: sys.Fd = @intCast(sys.check("openat", linux.syscall4(.openat, sys.arg(folder), @intFromPtr(path), o_cloexec, 0)) catch return null);
    defer sys.close(fd);
    const bytes = sys.check("read", linux.syscall3(.read, sys.arg(fd), @intFromPtr(buffer.ptr), buffer.len)) catch return null;
    return buffer[0..bytes];
}

test "what a group used, as v1 and v2 write it" {
    try std.testing.expectEqual(1234567, usageIn("1234567\n"));
    try std.testing.expectEqual(7000, usageIn("usage_usec 7\nuser_usec 3\nsystem_usec 4\n"));
    for ([_][]const u8{ "", "x\n", "12", "usage_usec \n" }) |text| try std.testing.expectEqual(null, usageIn(text));
    try std.testing.expectEqual(null, cpuOfAll(sys.none));
}

test "the children's times stand behind a name that may be anything" {
    const text = "7 (a) 1 (b) S 1 2 3 4 5 6 7 8 9 10 11 12 3 4 20 0 1";
    try std.testing.expectEqual(7 * tick_ns, endedIn(text));
    try std.testing.expectEqual(0, endedIn("7 (a) S 1 2"));
    try std.testing.expectEqual(0, endedIn("nothing"));
}

test "this process has no group here, and what it has waited for is no error" {
    _ = cpuOfOthers(@intCast(linux.getpid()), sys.none);
    var out: [4]i32 = undefined;
    try std.testing.expectEqual(0, others(1, sys.none, &out).len);
    try std.testing.expectEqual(0, cpuOfOthers(-1, sys.none));
}
