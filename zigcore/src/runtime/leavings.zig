//! What the import of a forked worker has left that the processes of its invocations share with it, beside its memory.
//!
//! Called by runtime/loop: `note` once, `putBack` after each invocation. Positions and flags of files are put back. A file
//! that was changed cannot be, nor can what passes through a pipe, a socket or memory that is mapped to be shared: a
//! worker with such a thing serves one invocation (`once`), as it would hand one caller's data to the next.
//! What always holds: what is not understood counts as shared.
const std = @import("std");
const limits = @import("../limits.zig");
const self = @import("../io/self.zig");
const Layout = @import("layout.zig");

const Leavings = @This();

const File = struct { fd: self.Fd, place: self.Place, stamp: self.Stamp };

/// What is shared and cannot be put back, for people; null: nothing.
once: ?[]const u8 = null,
files: [limits.kept_files_max]File = undefined,
files_count: usize = 0,
event_loop: []const self.Fd = &.{},

const descriptors_max = 4096;

/// Scratch, for `note` alone.
var layout: Layout = undefined;
var text: [64 * limits.kib]u8 = undefined;

pub const Own = struct {
    descriptors: []const self.Fd,
    /// Emptied after each invocation.
    event_loop: []const self.Fd,
    /// Of the jail's making, where there is one.
    maps: ?self.Fd,
    /// An address in each mapping of the loop's that is shared.
    mapped: []const usize,
};

pub fn note(leavings: *Leavings, own: Own) void {
    leavings.* = .{ .event_loop = own.event_loop };
    leavings.noteMappings(own) catch {
        leavings.once = "memory that cannot be examined";
    };
    leavings.noteDescriptors(own) catch {
        leavings.once = "a descriptor that cannot be examined";
    };
}

fn noteMappings(leavings: *Leavings, own: Own) Layout.Error!void {
    const maps = own.maps orelse try self.openOwn("/proc/self/maps");
    defer self.close(maps);
    try layout.read(maps, &text);
    for (layout.all()) |mapping| {
        if (mapping.kind != .shared or mapping.prot & self.Prot.write == 0) continue;
        const ours = for (own.mapped) |address| {
            if (mapping.start <= address and address < mapping.end) break true;
        } else false;
        if (!ours) leavings.once = "memory that is mapped to be shared";
    }
}

fn noteDescriptors(leavings: *Leavings, own: Own) self.Error!void {
    var limit: self.Limit = undefined;
    self.limitGet(self.limit_descriptors, &limit);
    for (3..@min(limit[0], descriptors_max)) |number| {
        const fd: self.Fd = @intCast(number);
        if (!self.isOpen(fd) or std.mem.findScalar(self.Fd, own.descriptors, fd) != null) continue;
        if (std.mem.findScalar(self.Fd, own.event_loop, fd) != null) continue;
        switch ((try self.about(fd)).kind) {
            .folder, .device => {},
            .regular => {
                if (leavings.files_count == leavings.files.len) {
                    leavings.once = "many open files";
                    return;
                }
                leavings.files[leavings.files_count] = .{ .fd = fd, .place = try self.placeOf(fd), .stamp = try self.stampOfOpen(fd) };
                leavings.files_count += 1;
            },
            .other => leavings.once = "a pipe, a socket or the like",
        }
    }
}

/// False: something was changed for good.
pub fn putBack(leavings: *const Leavings) bool {
    for (leavings.event_loop) |fd| {
        // Its epoll descriptor is no socket.
        if (fd >= 0) _ = self.drain(fd);
    }
    for (leavings.files[0..leavings.files_count]) |file| {
        const stamp = self.stampOfOpen(file.fd) catch return false;
        if (!std.meta.eql(stamp, file.stamp)) return false;
        self.placeSet(file.fd, file.place) catch return false;
    }
    return true;
}
