//! A worker's memory, seen from outside: the files of its control group, its soft limits, what /proc tells of it.
//!
//! Called by pool/memory. cgroup v1 and v2 differ in the names of the files only. Why outside: the worker cannot falsify
//! what it has no way to; and a descriptor that stays open makes a reading one system call of half a microsecond.
//! What always holds: `folder` and `peak` are open together or not at all; nothing here trusts the process's own word.
const std = @import("std");
const assert = std.debug.assert;
const linux = std.os.linux;
const sys = @import("sys.zig");

const Fd = sys.Fd;
const arg = sys.arg;

pub const Group = struct {
    /// Of the control group; `sys.none` where there is none, and then `peak` is a file of /proc.
    folder: Fd = sys.none,
    peak: Fd = sys.none,
    kind: Kind = .none,

    pub const Kind = enum {
        none,
        /// cgroup v1, or v2 from Linux 6.12 on: the peak since the last reset.
        v1,
        v2,
        /// v2 before that: the peak since the group was made.
        v2_lifetime,
        /// No control group: what is resident at the moment of the reading.
        process,
    };

    /// Takes `folder` over, whatever comes of it.
    pub fn open(folder: Fd) Group {
        const cloexec_read_write = 0o2000000 | 2;
        const cloexec_read = 0o2000000;
        const tries = [_]struct { Kind, [*:0]const u8, usize }{
            .{ .v1, "memory.max_usage_in_bytes", cloexec_read_write },
            .{ .v2, "memory.peak", cloexec_read_write },
            .{ .v2_lifetime, "memory.peak", cloexec_read },
        };
        for (tries) |attempt| {
            const peak = openAt(folder, attempt[1], attempt[2]) catch continue;
            return .{ .folder = folder, .peak = peak, .kind = attempt[0] };
        }
        sys.close(folder);
        return .{};
    }

    /// For a process that is in no memory control group.
    pub fn ofProcess(pid: i32) Group {
        const peak = openProcess(pid, "statm") catch return .{};
        return .{ .peak = peak, .kind = .process };
    }

    pub fn close(group: *Group) void {
        if (group.folder != sys.none) sys.close(group.folder);
        if (group.peak != sys.none) sys.close(group.peak);
        group.* = .{};
    }

    /// From here on the peak counts anew: from what is in use now.
    pub fn reset(group: *const Group) void {
        switch (group.kind) {
            .v1, .v2 => _ = linux.syscall4(.pwrite64, arg(group.peak), @intFromPtr("0"), 1, 0),
            .none, .v2_lifetime, .process => {},
        }
    }

    /// Null: the group or the process is gone.
    pub fn peakBytes(group: *const Group) ?u64 {
        var text: [128]u8 = undefined;
        switch (group.kind) {
            .none => return null,
            .v1, .v2, .v2_lifetime => return number(read(group.peak, &text) orelse return null),
            .process => {
                const pages = Pages.parse(read(group.peak, &text) orelse return null) orelse return null;
                return (pages.resident -| pages.shared) * page_bytes;
            },
        }
    }

    pub fn usageBytes(group: *const Group) ?u64 {
        const file: [*:0]const u8 = switch (group.kind) {
            .v1 => "memory.usage_in_bytes",
            .v2, .v2_lifetime => "memory.current",
            .process => return group.peakBytes(),
            .none => return null,
        };
        const fd = openAt(group.folder, file, 0o2000000) catch return null;
        defer sys.close(fd);
        var text: [32]u8 = undefined;
        return number(read(fd, &text) orelse return null);
    }

    /// False: the kernel could not bring the group's use below the bound.
    pub fn bound(group: *const Group, bytes: u64) bool {
        const file: [*:0]const u8 = switch (group.kind) {
            .v1 => "memory.limit_in_bytes",
            .v2, .v2_lifetime => "memory.max",
            .none, .process => return true,
        };
        const cloexec_write = 0o2000000 | 1;
        const fd = openAt(group.folder, file, cloexec_write) catch return false;
        defer sys.close(fd);
        var buffer: [24]u8 = undefined;
        const text = std.fmt.bufPrint(&buffer, "{d}", .{bytes}) catch unreachable;
        return sys.ok(linux.syscall3(.write, arg(fd), @intFromPtr(text.ptr), text.len));
    }

    /// Processes of the group that the kernel ended because its bound was reached.
    pub fn oomKills(group: *const Group) u64 {
        const file: [*:0]const u8 = switch (group.kind) {
            .v1 => "memory.oom_control",
            .v2, .v2_lifetime => "memory.events",
            .none, .process => return 0,
        };
        const fd = openAt(group.folder, file, 0o2000000) catch return 0;
        defer sys.close(fd);
        var text: [512]u8 = undefined;
        return oomKillsOf(read(fd, &text) orelse return 0);
    }
};

fn oomKillsOf(text: []const u8) u64 {
    var lines = std.mem.splitScalar(u8, text, '\n');
    while (lines.next()) |line| {
        if (std.mem.startsWith(u8, line, "oom_kill ")) return number(line["oom_kill ".len..]) orelse 0;
    }
    return 0;
}

pub const page_bytes = 4096;

/// Of /proc/PID/statm.
pub const Pages = struct {
    /// Mapped, used or not: what RLIMIT_AS counts.
    size: u64,
    resident: u64,
    /// Of these, those of files and of shared memory.
    shared: u64,
    /// Private and writable, used or not: what RLIMIT_DATA counts, and the stack.
    data: u64,

    pub fn of(pid: i32) ?Pages {
        const fd = openProcess(pid, "statm") catch return null;
        defer sys.close(fd);
        var text: [128]u8 = undefined;
        return parse(read(fd, &text) orelse return null);
    }

    fn parse(text: []const u8) ?Pages {
        var numbers: [6]u64 = undefined;
        var words = std.mem.tokenizeAny(u8, text, " \n");
        for (&numbers) |*one| one.* = number(words.next() orelse return null) orelse return null;
        return .{ .size = numbers[0], .resident = numbers[1], .shared = numbers[2], .data = numbers[5] };
    }
};

pub const Resource = enum(u32) { data = 2, address_space = 9 };

/// Sets a soft limit of another process; its hard one bounds it. False: it may not be set, or the process is gone.
pub fn softLimit(pid: i32, resource: Resource, bytes: u64) bool {
    const Limit = extern struct { soft: u64, hard: u64 };
    var limit: Limit = undefined;
    const which = @backingInt(resource);
    if (!sys.ok(linux.syscall4(.prlimit64, arg(pid), which, 0, @intFromPtr(&limit)))) return false;
    limit.soft = @min(bytes, limit.hard);
    return sys.ok(linux.syscall4(.prlimit64, arg(pid), which, @intFromPtr(&limit), 0));
}

fn openAt(folder: Fd, name: [*:0]const u8, flags: usize) sys.Error!Fd {
    return @intCast(try sys.check("openat", linux.syscall4(.openat, arg(folder), @intFromPtr(name), flags, 0)));
}

fn openProcess(pid: i32, comptime name: []const u8) sys.Error!Fd {
    var buffer: [48]u8 = undefined;
    const path = std.fmt.bufPrintSentinel(&buffer, "/proc/{d}/" ++ name, .{pid}, 0) catch unreachable;
    const at_fdcwd = -100;
    return openAt(at_fdcwd, path, 0o2000000);
}

fn read(fd: Fd, buffer: []u8) ?[]const u8 {
    const bytes = sys.check("pread64", linux.syscall4(.pread64, arg(fd), @intFromPtr(buffer.ptr), buffer.len, 0)) catch return null;
    return buffer[0..bytes];
}

/// Decimal digits up to the first other byte; "max" and the like are null.
fn number(text: []const u8) ?u64 {
    var value: u64 = 0;
    for (text, 0..) |byte, at| {
        if (byte < '0' or byte > '9') return if (at == 0) null else value;
        value = value *| 10 +| (byte - '0');
    }
    return if (text.len == 0) null else value;
}

test "numbers as the kernel writes them" {
    try std.testing.expectEqual(33554432, number("33554432\n"));
    try std.testing.expectEqual(null, number("max\n"));
    try std.testing.expectEqual(null, number(""));
    try std.testing.expectEqual(std.math.maxInt(u64), number("99999999999999999999999"));
}

test "kills in the files of v1 and v2" {
    try std.testing.expectEqual(3, oomKillsOf("oom_kill_disable 0\nunder_oom 0\noom_kill 3\n"));
    try std.testing.expectEqual(1, oomKillsOf("low 0\nhigh 0\nmax 7\noom 1\noom_kill 1\noom_group_kill 0\n"));
    try std.testing.expectEqual(0, oomKillsOf("low 0\n"));
}

test "the pages of this process, and of none" {
    const pages = Pages.of(@intCast(linux.getpid())).?;
    try std.testing.expect(pages.size >= pages.resident and pages.resident >= pages.shared and pages.data > 0);
    try std.testing.expectEqual(null, Pages.of(-1));
}

test "files of a group of v1 and of v2" {
    for ([_]struct { [*:0]const u8, [*:0]const u8, Group.Kind }{
        .{ "memory.max_usage_in_bytes", "memory.limit_in_bytes", .v1 },
        .{ "memory.peak", "memory.max", .v2 },
    }) |names| {
        var folder = std.testing.tmpDir(.{});
        defer folder.cleanup();
        const io = std.testing.io;
        try folder.dir.writeFile(io, .{ .sub_path = std.mem.span(names[0]), .data = "1048576\n" });
        try folder.dir.writeFile(io, .{ .sub_path = std.mem.span(names[1]), .data = "" });
        const fd: Fd = @intCast(linux.dup(folder.dir.handle));
        var group: Group = .open(fd);
        defer group.close();
        try std.testing.expectEqual(names[2], group.kind);
        try std.testing.expectEqual(1048576, group.peakBytes());
        try std.testing.expect(group.bound(123));
        var text: [16]u8 = undefined;
        try std.testing.expectEqualStrings("123", try folder.dir.readFile(io, std.mem.span(names[1]), &text));
        group.reset();
        try std.testing.expectEqual(48576, group.peakBytes());
    }
}
