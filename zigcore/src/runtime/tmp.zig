//! The worker's /tmp, emptied after each invocation: what the import left there stays, what calls put there goes.
//!
//! Called by runtime/belongings (fresh) and runtime/loop (forked), in jailed workers alone: there /tmp is a file system of
//! the worker's own, whose counts of free inodes and blocks tell whether there is anything to do.
//! What always holds: nothing outside of /tmp is removed (names are taken one by one, links are not followed). What cannot
//! be removed ends the worker, and so does a change of what the import left: it cannot be put back. (A write through a
//! shared mapping leaves no trace in the file's times: that one is not seen.)
const std = @import("std");
const assert = std.debug.assert;
const self = @import("../io/self.zig");

const Tmp = @This();

/// -1: /tmp is not ours.
fd: self.Fd,
/// Free inodes and blocks, as the import left them.
free: [2]u64,
kept: [kept_max][name_bytes_max]u8,
kept_count: usize,
/// Of all that was kept, in its folders, too, and of the rights to /tmp itself.
digest: u64,
names: [16 * 1024]u8 align(8),

const kept_max = 64;
const name_bytes_max = 256;
const depth_max = 64;

pub const Error = self.Error || error{TooMany};

/// Notes what is there now.
pub fn note(tmp: *Tmp) Error!void {
    tmp.fd = try self.openFolder(self.here_fd, "/tmp");
    tmp.kept_count = 0;
    var entries: Entries = .{ .fd = tmp.fd, .buffer = &tmp.names };
    while (try entries.next()) |name| {
        if (tmp.kept_count == kept_max or name.len >= name_bytes_max) return error.TooMany;
        @memcpy(tmp.kept[tmp.kept_count][0..name.len], name);
        tmp.kept[tmp.kept_count][name.len] = 0;
        tmp.kept_count += 1;
    }
    // Two changes within one tick of the clock of files have the same time.
    if (tmp.kept_count > 0) self.waitForTick();
    tmp.digest = try tmp.digestKept();
    tmp.free = try self.freeOf(tmp.fd);
}

/// Whether it is as it was afterwards.
pub fn empty(tmp: *Tmp) bool {
    if (tmp.fd < 0) return true;
    const digest = tmp.digestKept() catch return false;
    if (digest != tmp.digest) return false;
    const free = self.freeOf(tmp.fd) catch return false;
    if (std.mem.eql(u64, &free, &tmp.free)) return true;
    tmp.clear(tmp.fd, 0) catch return false;
    return true;
}

fn clear(tmp: *Tmp, folder: self.Fd, depth: usize) Error!void {
    if (depth == depth_max) return error.TooMany;
    var again = true;
    // Removing changes what the kernel lists next: from the start until a round finds nothing to remove.
    while (again) {
        again = false;
        try self.positionSet(folder, 0);
        var buffer: [1024]u8 align(8) = undefined;
        var entries: Entries = .{ .fd = folder, .buffer = &buffer };
        while (try entries.next()) |name| {
            if (depth == 0 and tmp.isKept(name)) continue;
            if (!self.removeFile(folder, name)) {
                // Somebody may have taken the rights to it away.
                const inner = self.openFolder(folder, name) catch inner: {
                    self.giveRights(folder, name);
                    break :inner try self.openFolder(folder, name);
                };
                defer self.close(inner);
                try tmp.clear(inner, depth + 1);
                if (!self.removeFolder(folder, name)) return error.Denied;
            }
            again = true;
        }
    }
}

fn isKept(tmp: *const Tmp, name: [:0]const u8) bool {
    for (tmp.kept[0..tmp.kept_count]) |*kept| {
        if (std.mem.eql(u8, std.mem.sliceTo(kept, 0), name)) return true;
    }
    return false;
}

/// Changes with each change of what was kept: names, content, rights.
fn digestKept(tmp: *Tmp) Error!u64 {
    var digest: Digest = .init(0);
    const whole = try self.stampOf(tmp.fd, ".");
    digest.update(std.mem.asBytes(&whole.mode));
    const device = whole.device;
    for (tmp.kept[0..tmp.kept_count]) |*kept| try digestOf(&digest, device, tmp.fd, std.mem.sliceTo(@as([*:0]const u8, @ptrCast(kept)), 0), 0);
    return digest.final();
}

const Digest = std.hash.Wyhash;

/// What is mounted there (a checkout that lies in /tmp) is read-only.
fn digestOf(digest: *Digest, device: u64, folder: self.Fd, name: [:0]const u8, depth: usize) Error!void {
    if (depth == depth_max) return error.TooMany;
    const stamp = try self.stampOf(folder, name);
    digest.update(name);
    digest.update(std.mem.asBytes(&[_]u64{ name.len, stamp.inode, stamp.mode, stamp.bytes, stamp.changed_s, stamp.changed_ns }));
    if (!stamp.is_folder or stamp.device != device) return;
    const inner = try self.openFolder(folder, name);
    defer self.close(inner);
    var buffer: [1024]u8 align(8) = undefined;
    var entries: Entries = .{ .fd = inner, .buffer = &buffer };
    while (try entries.next()) |entry| try digestOf(digest, device, inner, entry, depth + 1);
}

/// Names of a folder, without "." and "..".
const Entries = struct {
    fd: self.Fd,
    buffer: []align(8) u8,
    at: usize = 0,
    filled: usize = 0,

    fn next(entries: *Entries) Error!?[:0]const u8 {
        while (true) {
            if (entries.at == entries.filled) {
                entries.filled = try self.list(entries.fd, entries.buffer);
                entries.at = 0;
                if (entries.filled == 0) return null;
            }
            // struct linux_dirent64: ino, off (8 each), reclen (2), type (1), name.
            const record = entries.buffer[entries.at..entries.filled];
            const bytes = std.mem.readInt(u16, record[16..18], .little);
            entries.at += bytes;
            const name = std.mem.sliceTo(@as([*:0]const u8, @ptrCast(record[19..].ptr)), 0);
            if (std.mem.eql(u8, name, ".") or std.mem.eql(u8, name, "..")) continue;
            return name;
        }
    }
};
