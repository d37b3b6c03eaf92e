//! Fills the holes in the memory of both allocators, so that what a worker allocates lies together and not on pages that
//! it shares with the zygote.
//!
//! Called by abi/worker in the zygote, before the first fork. A block that a worker takes from a half-full pool or a hole
//! of malloc's costs it a private copy of the whole page; blocks from fresh pools share a page with their like.
//! What always holds: the filling is bounded, and never given back; nothing else of the process changes.
const std = @import("std");
const limits = @import("../limits.zig");

extern fn malloc(bytes: usize) ?*anyopaque;
extern fn free(block: ?*anyopaque) void;
extern fn PyObject_Malloc(bytes: usize) ?*anyopaque;
extern fn PyObject_Free(block: ?*anyopaque) void;

/// CPython's pools (Objects/obmalloc.c): their size with the radix tree, and where the first block of one lies. Where
/// they look different, the first check below never holds, and the bound ends the filling.
const pool_bytes = 16 * limits.kib;
const pool_head_bytes = 48;
const small_bytes_max = 512;
const block_step = 16;
/// malloc serves larger ones from mappings of their own, or from the top.
const hole_bytes_max = 64 * limits.kib;

/// With the GIL. How many bytes were filled.
pub fn fill() u64 {
    return fillPools() + fillHeap();
}

/// Each size class is left without a pool that has been begun.
fn fillPools() u64 {
    var filled: u64 = 0;
    var size: usize = block_step;
    while (size <= small_bytes_max) : (size += block_step) {
        for (0..limits.holes_blocks_max) |_| {
            const block = PyObject_Malloc(size) orelse break;
            if (@intFromPtr(block) % pool_bytes == pool_head_bytes) {
                PyObject_Free(block);
                break;
            }
            filled += size;
        }
    }
    return filled;
}

/// Whatever lies below the top of the heap is taken, the largest holes first.
fn fillHeap() u64 {
    const top = @intFromPtr(malloc(hole_bytes_max) orelse return 0);
    var filled: u64 = 0;
    var size: usize = hole_bytes_max;
    while (size >= block_step) : (size = if (size > 1024) size / 2 else size - block_step) {
        for (0..limits.holes_blocks_max) |_| {
            const block = malloc(size) orelse break;
            if (@intFromPtr(block) >= top) {
                free(block);
                break;
            }
            filled += size;
        }
    }
    free(@ptrFromInt(top));
    return filled;
}
