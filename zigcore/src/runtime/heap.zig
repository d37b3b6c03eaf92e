//! The memory of one invocation: CPython's mem and object domains from a region of their own, emptied afterwards.
//!
//! Called by runtime/checkpoint. Why: nothing that lives at the checkpoint points into the region, so it need not be put
//! back, only cleared; and what an invocation allocates does not dirty the pages that must be.
//! Size classes in pools, free lists within; what is larger, or finds the region full, is the original allocator's. The
//! raw domain stays the original's, too: it is called from threads without the GIL.
//! Only the part that is in use may be written to (the rest is reserved without access): RLIMIT_DATA, the memory limit's
//! soft edge, counts it exactly, and a step that it refuses becomes a MemoryError.
//! What always holds: a block is the region's if and only if its address is; after `reset` the region reads as zeros.
const std = @import("std");
const assert = std.debug.assert;
const limits = @import("../limits.zig");
const self = @import("../io/self.zig");
const Watch = @import("watch.zig");

const Heap = @This();

const domains_count = 2;
const pool_bytes = limits.heap_pool_bytes;
const pools_count = limits.heap_bytes / pool_bytes;
/// Steps of 16 up to 512, then four per doubling.
const small_max = 512;
const small_count = small_max / 16;
const classes_count = small_count + 4 * (std.math.log2_int(usize, limits.heap_block_bytes_max) - std.math.log2_int(usize, small_max));

comptime {
    assert(classBytes(classes_count - 1) == limits.heap_block_bytes_max);
    assert(limits.heap_bytes % pool_bytes == 0 and pool_bytes % self.page_bytes == 0);
    assert(limits.heap_block_bytes_max <= pool_bytes);
    assert(limits.heap_step_bytes % pool_bytes == 0 and limits.heap_keep_bytes % pool_bytes == 0);
    assert((limits.heap_bytes - limits.heap_keep_bytes) % limits.heap_step_bytes == 0);
}

const Allocator = extern struct {
    context: ?*anyopaque,
    malloc: *const fn (?*anyopaque, usize) callconv(.c) ?*anyopaque,
    calloc: *const fn (?*anyopaque, usize, usize) callconv(.c) ?*anyopaque,
    realloc: *const fn (?*anyopaque, ?*anyopaque, usize) callconv(.c) ?*anyopaque,
    free: *const fn (?*anyopaque, ?*anyopaque) callconv(.c) void,
};

extern fn PyMem_GetAllocator(domain: c_int, allocator: *Allocator) void;
extern fn PyMem_SetAllocator(domain: c_int, allocator: *Allocator) void;

const Free = extern struct { next: ?*Free };

base: [*]align(self.page_bytes) u8,
/// False until the checkpoint is taken: everything is the original allocator's.
active: bool,
/// Knows that the calls made here are not the invocation's.
watch: ?*Watch,
/// Pools in use, and those that may be written to.
top: usize,
open: usize,
free_lists: [classes_count]?*Free,
/// Where the next block of a class comes from, up to the end of its current pool.
next: [classes_count]usize,
end: [classes_count]usize,
/// The most that an invocation used, in bytes.
used_bytes_max: usize,
originals: [domains_count]Allocator,
class_of_pool: [pools_count]u8,

/// In memory of the caller's that outlives the process's last allocation.
pub fn init(heap: *Heap) self.Error!void {
    // A page more on both sides, so that its mapping is no neighbour's continuation.
    const region = try self.reserveClosed(limits.heap_bytes + 2 * self.page_bytes);
    heap.base = @alignCast(region.ptr + self.page_bytes);
    try self.protect(@intFromPtr(heap.base), limits.heap_keep_bytes, self.Prot.read | self.Prot.write);
    heap.open = kept_count;
    heap.active = false;
    heap.watch = null;
    heap.used_bytes_max = 0;
    heap.clearLists();
}

pub fn bytes(heap: *const Heap) []align(self.page_bytes) u8 {
    return heap.base[0..limits.heap_bytes];
}

/// Puts itself before CPython's allocators; the GIL is held and no other thread runs.
pub fn install(heap: *Heap) void {
    assert(!heap.active);
    for (&heap.originals, [domains_count]c_int{ 1, 2 }) |*original, domain| {
        PyMem_GetAllocator(domain, original);
        var ours: Allocator = .{ .context = original, .malloc = malloc, .calloc = calloc, .realloc = realloc, .free = free };
        installed = heap;
        PyMem_SetAllocator(domain, &ours);
    }
}

/// Undoes `install`, for a checkpoint that could not be taken. Nothing of the region is in use.
pub fn uninstall(heap: *Heap) void {
    assert(!heap.active);
    for (&heap.originals, [domains_count]c_int{ 1, 2 }) |*original, domain| PyMem_SetAllocator(domain, original);
}

/// Set by `install` and unchanged from then on, so that it may lie in memory that is put back.
var installed: *Heap = undefined;

/// Everything is free, and zero.
pub fn reset(heap: *Heap) void {
    const used = heap.top * pool_bytes;
    heap.used_bytes_max = @max(heap.used_bytes_max, used);
    const kept = @min(heap.top, limits.heap_keep_bytes / pool_bytes);
    for (0..kept) |pool| {
        const start = @intFromPtr(heap.base) + pool * pool_bytes;
        const class = heap.class_of_pool[pool];
        const filled = if (heap.end[class] == start + pool_bytes) heap.next[class] - start else pool_bytes;
        @memset(heap.base[pool * pool_bytes ..][0..filled], 0);
    }
    if (used > limits.heap_keep_bytes) self.drop(@intFromPtr(heap.base) + limits.heap_keep_bytes, used - limits.heap_keep_bytes);
    heap.shrink();
    heap.clearLists();
}

const step_count = limits.heap_step_bytes / pool_bytes;
const kept_count = limits.heap_keep_bytes / pool_bytes;

/// Back to what is always open.
fn shrink(heap: *Heap) void {
    if (heap.open == kept_count) return;
    const start = @intFromPtr(heap.base) + limits.heap_keep_bytes;
    self.protect(start, (heap.open - kept_count) * pool_bytes, 0) catch return;
    heap.open = kept_count;
}

/// The limit refuses: false.
fn grow(heap: *Heap) bool {
    const before: u8 = if (heap.watch) |watch| watch.pause() else 0;
    defer if (heap.watch) |watch| watch.resumeAt(before);
    const start = @intFromPtr(heap.base) + heap.open * pool_bytes;
    self.protect(start, limits.heap_step_bytes, self.Prot.read | self.Prot.write) catch return false;
    heap.open += step_count;
    return true;
}

fn clearLists(heap: *Heap) void {
    heap.top = 0;
    @memset(&heap.free_lists, null);
    @memset(&heap.next, 0);
    @memset(&heap.end, 0);
}

fn classBytes(class: usize) usize {
    if (class < small_count) return (class + 1) * 16;
    const above = class - small_count;
    const base: usize = @as(usize, small_max) << @intCast(above / 4);
    return base + base / 4 * (above % 4 + 1);
}

fn classOf(size: usize) usize {
    assert(size <= limits.heap_block_bytes_max);
    if (size <= small_max) return if (size == 0) 0 else (size - 1) / 16;
    const base_log2 = std.math.log2_int(usize, size - 1);
    const quarter = (size - 1 - (@as(usize, 1) << base_log2)) >> (base_log2 - 2);
    return small_count + 4 * (@as(usize, base_log2) - std.math.log2_int(usize, small_max)) + quarter;
}

fn owns(heap: *const Heap, block: *anyopaque) bool {
    return @intFromPtr(block) -% @intFromPtr(heap.base) < limits.heap_bytes;
}

/// Null: the block is too large, or the region full.
fn take(heap: *Heap, size: usize) ?*anyopaque {
    if (size > limits.heap_block_bytes_max) return null;
    const class = classOf(size);
    if (heap.free_lists[class]) |block| {
        heap.free_lists[class] = block.next;
        return block;
    }
    const wanted = classBytes(class);
    if (heap.next[class] + wanted > heap.end[class]) {
        if (heap.top == pools_count) return null;
        if (heap.top == heap.open and !heap.grow()) return null;
        heap.next[class] = @intFromPtr(heap.base) + heap.top * pool_bytes;
        heap.end[class] = heap.next[class] + pool_bytes;
        heap.class_of_pool[heap.top] = @intCast(class);
        heap.top += 1;
    }
    const block = heap.next[class];
    heap.next[class] += wanted;
    return @ptrFromInt(block);
}

fn sizeOf(heap: *const Heap, block: *anyopaque) usize {
    return classBytes(heap.classOfBlock(block));
}

fn classOfBlock(heap: *const Heap, block: *anyopaque) usize {
    return heap.class_of_pool[(@intFromPtr(block) - @intFromPtr(heap.base)) / pool_bytes];
}

fn give(heap: *Heap, block: *anyopaque) void {
    const class = heap.classOfBlock(block);
    const entry: *Free = @ptrCast(@alignCast(block));
    entry.next = heap.free_lists[class];
    heap.free_lists[class] = entry;
}

// -- CPython's side -----------------------------------------------------------------------------------------------

fn originalOf(context: ?*anyopaque) *const Allocator {
    return @ptrCast(@alignCast(context.?));
}

fn malloc(context: ?*anyopaque, size: usize) callconv(.c) ?*anyopaque {
    if (installed.active) if (installed.take(size)) |block| return block;
    const original = originalOf(context);
    return original.malloc(original.context, size);
}

fn calloc(context: ?*anyopaque, count: usize, size: usize) callconv(.c) ?*anyopaque {
    if (installed.active and (size == 0 or count <= limits.heap_block_bytes_max / size)) {
        const wanted = count * size;
        if (installed.take(wanted)) |block| {
            @memset(@as([*]u8, @ptrCast(block))[0..wanted], 0);
            return block;
        }
    }
    const original = originalOf(context);
    return original.calloc(original.context, count, size);
}

fn realloc(context: ?*anyopaque, old: ?*anyopaque, size: usize) callconv(.c) ?*anyopaque {
    const block = old orelse return malloc(context, size);
    const original = originalOf(context);
    if (!installed.owns(block)) return original.realloc(original.context, block, size);
    const old_size = installed.sizeOf(block);
    // Shrinking by less than half stays where it is.
    if (size <= old_size and size > old_size / 2) return block;
    const moved = malloc(context, size) orelse return if (size <= old_size) block else null;
    const kept = @min(size, old_size);
    @memcpy(@as([*]u8, @ptrCast(moved))[0..kept], @as([*]const u8, @ptrCast(block))[0..kept]);
    installed.give(block);
    return moved;
}

fn free(context: ?*anyopaque, old: ?*anyopaque) callconv(.c) void {
    const block = old orelse return;
    if (installed.owns(block)) return installed.give(block);
    const original = originalOf(context);
    original.free(original.context, block);
}

const testing = std.testing;

test "classes fit what they are for, closely" {
    var size: usize = 0;
    while (size <= limits.heap_block_bytes_max) : (size += 1) {
        const class = classOf(size);
        try testing.expect(classBytes(class) >= size);
        try testing.expectEqual(0, classBytes(class) % 16);
        if (class > 0) try testing.expect(classBytes(class - 1) < size);
    }
}

test "blocks do not overlap, come back, and a reset leaves zeros" {
    const heap = try testing.allocator.create(Heap);
    defer testing.allocator.destroy(heap);
    try heap.init();
    defer self.release(@intFromPtr(heap.base), limits.heap_bytes) catch unreachable;
    var random = std.Random.DefaultPrng.init(4);
    for (0..50) |round| {
        var blocks: [400]?[]u8 = @splat(null);
        for (0..4000) |_| {
            const slot = &blocks[random.random().uintLessThan(usize, blocks.len)];
            if (slot.*) |block| {
                for (block) |byte| try testing.expectEqual(block[0], byte);
                heap.give(block.ptr);
                slot.* = null;
            } else {
                const size = random.random().uintLessThan(usize, if (round % 2 == 0) 600 else limits.heap_block_bytes_max) + 1;
                const block = @as([*]u8, @ptrCast(heap.take(size).?))[0..size];
                try testing.expect(heap.owns(block.ptr));
                @memset(block, random.random().int(u8) | 1);
                slot.* = block;
            }
        }
        const used = heap.top * pool_bytes;
        heap.reset();
        for (heap.base[0..@min(used, limits.heap_keep_bytes)]) |byte| try testing.expectEqual(0, byte);
        try testing.expectEqual(kept_count, heap.open);
    }
}

test "a full region says so, and what is too large is not taken" {
    const heap = try testing.allocator.create(Heap);
    defer testing.allocator.destroy(heap);
    try heap.init();
    defer self.release(@intFromPtr(heap.base), limits.heap_bytes) catch unreachable;
    try testing.expectEqual(null, heap.take(limits.heap_block_bytes_max + 1));
    var taken: usize = 0;
    while (heap.take(limits.heap_block_bytes_max)) |_| taken += 1;
    try testing.expectEqual(pools_count * (pool_bytes / limits.heap_block_bytes_max), taken);
    try testing.expect(heap.take(16) == null);
    heap.reset();
    try testing.expect(heap.take(16) != null);
}
