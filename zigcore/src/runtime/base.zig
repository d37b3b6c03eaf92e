//! The zygote's memory as one sealed file, mapped back over itself: what its workers have not written to, they share.
//!
//! Called by abi/worker in the zygote, once, before the first fork (`share`), and by runtime/checkpoint in its workers.
//! Why: a worker's checkpoint then copies only what the worker has written since the fork, and not the 20 MB that it has
//! from the zygote; and a fork has fewer pages to note.
//! What always holds: a page of such a mapping that is not the process's own (PAGEMAP_SCAN) reads as the file does.
const std = @import("std");
const limits = @import("../limits.zig");
const self = @import("../io/self.zig");
const signals = @import("../io/signals.zig");
const Layout = @import("layout.zig");

pub const Error = Layout.Error || error{TooLarge};

/// Of the file; 0: nothing is shared.
var inode: u64 = 0;
var device: u64 = 0;
/// The whole file, to be read.
var view: usize = 0;

const Scratch = struct {
    layout: Layout,
    ranges: [1024]self.PageRange,
    text: [64 * limits.kib]u8,
};

/// One thread runs, and whoever calls writes to nothing but its stack meanwhile. How many bytes the file has.
pub fn share() Error!usize {
    const maps = try self.openOwn("/proc/self/maps");
    defer self.close(maps);
    const pagemap = try self.openOwn("/proc/self/pagemap");
    defer self.close(pagemap);
    const scratch_bytes = std.mem.alignForward(usize, @sizeOf(Scratch), self.page_bytes);
    // A page nobody may touch on both sides: merged with a neighbour, its mapping would leave that out, too.
    const guard = self.page_bytes;
    const memory = try self.reserve(scratch_bytes + 2 * guard);
    defer self.release(@intFromPtr(memory.ptr), memory.len) catch {};
    try self.protect(@intFromPtr(memory.ptr), guard, 0);
    try self.protect(@intFromPtr(memory.ptr) + guard + scratch_bytes, guard, 0);
    const scratch: *Scratch = @ptrCast(@alignCast(memory.ptr + guard));
    const file = try self.memoryFile("tailcut-zygote", limits.base_bytes_max);
    defer self.close(file);

    const all_blocked: u64 = std.math.maxInt(u64);
    const mask = signals.maskSet(all_blocked);
    defer _ = signals.maskSet(mask);
    try scratch.layout.read(maps, &scratch.text);
    // Before the window is there: it is not to be copied itself.
    const bytes = try copy(scratch, file, pagemap);
    try self.sealWrites(file);
    const mapped = try self.mapPrivate(file, 0, bytes, self.Prot.read, 0);
    var offset: usize = 0;
    for (scratch.layout.all()) |mapping| {
        if (!try shareable(scratch, mapping, pagemap)) continue;
        _ = try self.mapPrivate(file, mapping.start, mapping.bytes(), mapping.prot, offset);
        offset += mapping.bytes();
    }
    // Only now: what was written between the copy and the mapping is gone.
    try scratch.layout.read(maps, &scratch.text);
    for (scratch.layout.all()) |mapping| if (mapping.start <= mapped and mapped < mapping.end) {
        inode = mapping.inode;
        device = mapping.device;
        view = mapped;
    };
    return bytes;
}

fn copy(scratch: *Scratch, file: self.Fd, pagemap: self.Fd) Error!usize {
    var offset: usize = 0;
    const window = try self.mapShared(file, limits.base_bytes_max);
    // Sealing a file needs that nobody has it mapped to be written to.
    defer self.release(@intFromPtr(window.ptr), window.len) catch {};
    for (scratch.layout.all()) |mapping| {
        if (!try shareable(scratch, mapping, pagemap)) continue;
        if (offset + mapping.bytes() > limits.base_bytes_max) return error.TooLarge;
        if (mapping.inode != 0) {
            copyPages(window[offset..], mapping.start, mapping.end);
        } else {
            // What was never touched stays a hole.
            var at = mapping.start;
            while (at < mapping.end) {
                const count = try self.pagesOwn(pagemap, at, mapping.end, &scratch.ranges, &at);
                for (scratch.ranges[0..count]) |range| {
                    copyPages(window[offset + (range.start - mapping.start) ..], range.start, range.end);
                }
            }
        }
        offset += mapping.bytes();
    }
    return offset;
}

fn copyPages(target: []u8, start: usize, end: usize) void {
    @memcpy(target[0 .. end - start], @as([*]const u8, @ptrFromInt(start)));
}

/// Data, and what was relocated and is only read since.
fn shareable(scratch: *const Scratch, mapping: Layout.Mapping, pagemap: self.Fd) Error!bool {
    if (mapping.kind != .private or mapping.prot & self.Prot.read == 0 or mapping.prot & self.Prot.exec != 0) return false;
    const own = @intFromPtr(scratch);
    if (mapping.start <= own and own < mapping.end) return false;
    if (mapping.prot & self.Prot.write != 0) return true;
    var range: [1]self.PageRange = undefined;
    var next: usize = 0;
    return try self.pagesOwn(pagemap, mapping.start, mapping.end, &range, &next) > 0;
}

/// In what workers are forked from, before the first fork: their page tables come with the fork. The kernel copies those of
/// a mapping that owned a page once, and leaves the others to page faults, one for each 16 pages.
pub fn populate() Error!void {
    const maps = try self.openOwn("/proc/self/maps");
    defer self.close(maps);
    const pagemap = try self.openOwn("/proc/self/pagemap");
    defer self.close(pagemap);
    const scratch_bytes = std.mem.alignForward(usize, @sizeOf(Scratch), self.page_bytes);
    const memory = try self.reserve(scratch_bytes);
    defer self.release(@intFromPtr(memory.ptr), memory.len) catch {};
    const scratch: *Scratch = @ptrCast(@alignCast(memory.ptr));
    try scratch.layout.read(maps, &scratch.text);
    for (scratch.layout.all()) |mapping| {
        if (!has(mapping) or mapping.start == view) continue;
        if (mapping.prot & self.Prot.write != 0) {
            var next: usize = 0;
            if (try self.pagesOwn(pagemap, mapping.start, mapping.end, scratch.ranges[0..1], &next) == 0) {
                // Owned for a moment, with the content that it has.
                const byte: *volatile u8 = @ptrFromInt(mapping.start);
                byte.* = byte.*;
                self.drop(mapping.start, self.page_bytes);
            }
        }
        self.populateRead(mapping.start, mapping.bytes());
    }
}

/// Whether a mapping is of the file.
pub fn has(mapping: Layout.Mapping) bool {
    return inode != 0 and mapping.inode == inode and mapping.device == device;
}

/// Where the unchanged content of a mapping of the file can be read.
pub fn contentOf(mapping: Layout.Mapping) usize {
    return view + mapping.offset;
}
