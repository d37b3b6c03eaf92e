//! A lock for threads that CPython made: sleeps in the kernel only when it is contended.
//!
//! Called by runtime/loop, for lines of output from any thread of a worker. What always holds: nobody calls into Python
//! while holding it, so it can be waited for with and without the GIL.
const std = @import("std");

const Lock = @This();

mutex: std.c.pthread_mutex_t = .{},

pub fn take(lock: *Lock) void {
    _ = std.c.pthread_mutex_lock(&lock.mutex);
}

pub fn release(lock: *Lock) void {
    _ = std.c.pthread_mutex_unlock(&lock.mutex);
}
