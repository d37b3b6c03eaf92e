//! What a process has besides memory, as it was at the checkpoint: descriptors, signals, timers, folder, mask, limits.
//!
//! Called by runtime/checkpoint. `note` once; `leftovers` before each answer, while the gateway can still be told that the
//! worker ends; `restore` after it.
//! What always holds: what cannot be put back is found by `note` (then there is no checkpoint, and it says why) or by
//! `leftovers`; everything else is put back by `restore`, whatever the handler did.
const std = @import("std");
const assert = std.debug.assert;
const limits = @import("../limits.zig");
const self = @import("../io/self.zig");
const signals = @import("../io/signals.zig");
const Tmp = @import("tmp.zig");

const Belongings = @This();

const File = struct { fd: self.Fd, stamp: self.Stamp, place: self.Place };
const Gap = struct { first: self.Fd, last: u32 };

const descriptors_max = 4096;
const sockets_max = 8;
const gaps_max = 128;

/// Soft limits that a handler can lower, and that change what later code can do.
const resources = [_]usize{ 0, 1, 2, 3, 4, 6, 7, 9 }; // CPU FSIZE DATA STACK CORE NPROC NOFILE AS

pagemap: self.Fd,
maps: self.Fd,
stat: self.Fd,
timers: self.Fd,
null_device: self.Fd,
here: self.Fd,
/// The checkpoint's memory file.
memory: self.Fd,
/// /tmp is a file system of this worker alone.
tmp_own: bool,
files: [limits.kept_files_max]File,
files_count: usize,
gaps: [gaps_max]Gap,
gaps_count: usize,
actions: [signals.count + 1]signals.Action,
signal_stack: signals.Stack,
mask: u64,
umask: usize,
rlimits: [resources.len]self.Limit,
/// The jail lets nobody in here change them; the gateway may, from outside.
rlimits_fixed: bool,
ignored: u64,
caught: u64,
name: [16]u8,
tmp: Tmp,
/// Sockets that are open on purpose (an event loop's, to wake itself): emptied.
sockets: [sockets_max]self.Fd,
sockets_count: usize,
stat_text: [1024]u8,

pub const Reason = []const u8;

/// What the kernel says about the process as a whole, in one read.
pub const Stat = struct {
    threads: u64,
    virtual_bytes: u64,
    ignored: u64,
    caught: u64,
    /// Of the main thread.
    name: [16]u8,
};

/// Opened before the jail closed: it has no /proc, and memory files only for the start.
pub const Files = struct { pagemap: self.Fd, maps: self.Fd, stat: self.Fd, timers: self.Fd, memory: self.Fd };

pub fn open(own: *Belongings, files: Files) self.Error!void {
    own.pagemap = files.pagemap;
    own.maps = files.maps;
    own.stat = files.stat;
    own.timers = files.timers;
    own.memory = files.memory;
    own.null_device = try self.openNull();
    own.here = try self.openHere();
}

/// Notes everything; `known` are descriptors that may be open although they are no files. Null: all of it can be put back.
pub fn note(own: *Belongings, known: []const self.Fd, reason: *[256]u8) ?Reason {
    const stat = own.read() catch return "the kernel does not show /proc/self/stat as expected";
    if (stat.threads != 1) return std.fmt.bufPrint(reason, "{d} threads run after the import (only one may): set OMP_NUM_THREADS=1 and the like, or start them in the handler", .{stat.threads}) catch unreachable;
    if (self.hasChildren()) return "the import left a child process";
    if (own.timersLeft()) return "the import left a timer";
    own.ignored = stat.ignored;
    own.caught = stat.caught;
    own.name = stat.name;
    own.tmp.fd = -1;
    if (own.tmp_own) own.tmp.note() catch return "the import left too many files in /tmp";
    own.mask = signals.maskSet(0);
    _ = signals.maskSet(own.mask);
    own.umask = self.umaskSet(0o077);
    _ = self.umaskSet(own.umask);
    for (1..signals.count + 1) |signal| signals.actionGet(signal, &own.actions[signal]);
    signals.stackGet(&own.signal_stack);
    for (resources, &own.rlimits) |resource, *limit| self.limitGet(resource, limit);
    own.rlimits_fixed = !self.limitSet(resources[0], &own.rlimits[0]);
    return own.noteDescriptors(known, reason);
}

fn noteDescriptors(own: *Belongings, known: []const self.Fd, reason: *[256]u8) ?Reason {
    own.files_count = 0;
    own.gaps_count = 0;
    own.sockets_count = 0;
    var gap_first: ?self.Fd = null;
    // Above its own limit a process opens nothing, and the filter keeps it from raising that.
    var limit: self.Limit = undefined;
    self.limitGet(self.limit_descriptors, &limit);
    for (0..@min(limit[0], descriptors_max)) |number| {
        const fd: self.Fd = @intCast(number);
        if (!self.isOpen(fd)) {
            if (gap_first == null) gap_first = fd;
            continue;
        }
        if (gap_first) |first| {
            if (own.gaps_count == gaps_max - 1) return "the import left too many descriptors open";
            own.gaps[own.gaps_count] = .{ .first = first, .last = @intCast(fd - 1) };
            own.gaps_count += 1;
            gap_first = null;
        }
        // Of those that are known the first two are the channel and the shared memory.
        if (known.len > 2 and std.mem.findScalar(self.Fd, known[2..], fd) != null and own.sockets_count < sockets_max and self.drain(fd)) {
            own.sockets[own.sockets_count] = fd;
            own.sockets_count += 1;
        }
        if (fd <= 2 or std.mem.findScalar(self.Fd, known, fd) != null or own.isOwn(fd)) continue;
        const about = self.about(fd) catch return "a descriptor cannot be examined";
        switch (about.kind) {
            .folder, .device => {},
            .regular => {
                if (own.files_count == own.files.len) return "the import left too many files open";
                const place = self.placeOf(fd) catch return "a file that the import left open has no position";
                own.files[own.files_count] = .{
                    .fd = fd,
                    .stamp = self.stampOfOpen(fd) catch return "a file that the import left open cannot be examined",
                    .place = place,
                };
                own.files_count += 1;
            },
            .other => return std.fmt.bufPrint(reason, "the import left a socket, pipe or the like open (descriptor {d}), whose other side cannot be put back: open it in the handler", .{fd}) catch unreachable,
        }
    }
    own.gaps[own.gaps_count] = .{ .first = gap_first orelse @intCast(@min(limit[0], descriptors_max)), .last = std.math.maxInt(u32) };
    own.gaps_count += 1;
    return null;
}

fn isOwn(own: *const Belongings, fd: self.Fd) bool {
    return std.mem.findScalar(self.Fd, &.{ own.pagemap, own.maps, own.stat, own.timers, own.null_device, own.here, own.memory, own.tmp.fd }, fd) != null;
}

/// Whether something is left that only the end of the process removes: a thread, a child, a timer, a lowered hard limit,
/// a file of the checkpoint's that was closed or changed.
pub fn leftovers(own: *Belongings, stat: Stat) bool {
    if (stat.threads != 1 or self.hasChildren() or own.timersLeft()) return true;
    if (!own.rlimits_fixed) for (resources, &own.rlimits) |resource, *noted| {
        var limit: self.Limit = undefined;
        self.limitGet(resource, &limit);
        if (limit[0] == noted[0] and limit[1] == noted[1]) continue;
        if (!self.limitSet(resource, noted)) return true;
    };
    for (own.sockets[0..own.sockets_count]) |fd| if (!self.drain(fd)) return true;
    if (!own.tmp.empty()) return true;
    for (own.files[0..own.files_count]) |file| {
        const stamp = self.stampOfOpen(file.fd) catch return true;
        if (!std.meta.eql(stamp, file.stamp)) return true;
    }
    return false;
}

/// Whether a signal is blocked, or would be while a handler runs.
pub fn blocks(own: *const Belongings, signal: u6) bool {
    const bit = @as(u64, 1) << (signal - 1);
    if (own.mask & bit != 0) return true;
    for (own.actions[1..], 1..) |action, number| {
        if (number != signal and action[0] > 1 and action[3] & bit != 0) return true;
    }
    return false;
}

fn timersLeft(own: *Belongings) bool {
    const text = self.readFresh(own.timers, &own.stat_text, 0) catch return true;
    return text.len > 0;
}

/// Everything but memory is as it was.
/// All signals are blocked, `mask_before` is what was blocked when the handler ended.
pub fn restore(own: *Belongings, stat: Stat, mask_before: u64) self.Error!void {
    self.timersStop();
    own.restoreActions(stat);
    if (!std.mem.eql(u8, &stat.name, &own.name)) self.nameSet(&own.name);
    // What was sent but blocked would arrive in the next invocation.
    if (mask_before != own.mask or own.mask != 0) while (signals.pendingTake()) {};
    for (own.gaps[0..own.gaps_count]) |gap| self.closeRange(gap.first, gap.last);
    for (0..3) |fd| try self.overlay(own.null_device, @intCast(fd));
    for (own.files[0..own.files_count]) |file| try self.placeSet(file.fd, file.place);
    try self.goTo(own.here);
    _ = self.umaskSet(own.umask);
}

/// What is neither handled nor ignored has nothing to restore; SIGCHLD's flags count in any case.
fn restoreActions(own: *Belongings, stat: Stat) void {
    const sigchld = 17;
    const changed = stat.ignored ^ own.ignored | stat.caught ^ own.caught | own.caught | 1 << (sigchld - 1);
    for (1..signals.count + 1) |signal| {
        if (changed >> @intCast(signal - 1) & 1 == 0) continue;
        var action: signals.Action = undefined;
        signals.actionGet(signal, &action);
        if (!std.mem.eql(u64, &action, &own.actions[signal])) signals.actionSet(signal, &own.actions[signal]);
    }
    signals.stackSet(&own.signal_stack);
}

/// One read of /proc/self/stat (proc_pid_stat(5)): a microsecond for five answers.
pub fn read(own: *Belongings) self.Error!Stat {
    const text = try self.readFresh(own.stat, &own.stat_text, 0);
    // The name is in parentheses and may contain anything; after it comes field 3.
    const name_start = std.mem.findScalar(u8, text, '(') orelse return error.Other;
    const name_end = std.mem.findScalarLast(u8, text, ')') orelse return error.Other;
    var at = name_end + 1;
    var fields: [35]u64 = @splat(0);
    for (3..fields.len) |field| {
        while (at < text.len and text[at] == ' ') at += 1;
        if (at == text.len) return error.Other;
        var value: u64 = 0;
        while (at < text.len and text[at] != ' ') : (at += 1) {
            const digit = text[at] -% '0';
            if (digit < 10) value = value *% 10 +% digit;
        }
        fields[field] = value;
    }
    var name: [16]u8 = @splat(0);
    const characters = @min(name_end - name_start - 1, name.len - 1);
    @memcpy(name[0..characters], text[name_start + 1 ..][0..characters]);
    return .{
        .name = name,
        .threads = fields[20],
        .virtual_bytes = fields[23],
        .ignored = fields[33],
        .caught = fields[34],
    };
}
