//! A worker's shared memory, from its reactor's side: bodies that do not fit a frame; first half requests, second answers.
//!
//! Called by dispatch (`put`), answer (`answerOf`, `release`) and reap (`rest`). Pages that a body has used stay while the
//! worker is called again and again, up to a bound: giving them back and taking them anew costs as much as copying the
//! body twice. The worker clears what its last invocation has left there (runtime/loop); what a worker that is not
//! honest leaves there it leaves to itself.
//! What always holds: the file is sealed, nobody can make it shorter; what is read from it is copied once, then looked at.
const std = @import("std");
const assert = std.debug.assert;
const limits = @import("../limits.zig");
const sys = @import("../io/sys.zig");
const Worker = @import("worker.zig");

const half = limits.shared_bytes / 2;

pub const State = struct {
    /// Of this invocation's bodies.
    request_bytes: u32 = 0,
    answer_bytes: u32 = 0,
    /// Pages that bodies have used since they were given back.
    request_kept: u32 = 0,
    answer_kept: u32 = 0,
    /// They were given back since the last invocation.
    emptied: bool = false,
};

/// The request's body.
pub fn put(w: *Worker, body: []const u8) void {
    @memcpy(w.shared[0..body.len], body);
    w.bodies.request_bytes = @intCast(body.len);
}

/// The answer's body, which is still the worker's: to be copied.
pub fn answerOf(w: *Worker, bytes: u32) []const u8 {
    w.bodies.answer_bytes = bytes;
    return w.shared[half..][0..bytes];
}

/// The invocation is over: what was large goes back at once.
pub fn release(w: *Worker) void {
    const state = &w.bodies;
    state.request_kept = @max(state.request_kept, state.request_bytes);
    state.answer_kept = @max(state.answer_kept, state.answer_bytes);
    state.request_bytes = 0;
    state.answer_bytes = 0;
    if (state.request_kept >= limits.shared_keep_bytes) drop(w.shared, 0, &state.request_kept);
    if (state.answer_kept >= limits.shared_keep_bytes) drop(w.shared, half, &state.answer_kept);
}

/// It has had no invocation for a while.
pub fn rest(w: *Worker) void {
    const state = &w.bodies;
    if (state.request_kept == 0 and state.answer_kept == 0) return;
    if (state.request_kept > 0) drop(w.shared, 0, &state.request_kept);
    if (state.answer_kept > 0) drop(w.shared, half, &state.answer_kept);
    state.emptied = true;
}

fn drop(memory: []align(4096) u8, start: usize, bytes: *u32) void {
    assert(start % 4096 == 0);
    sys.removePages(@alignCast(memory[start..][0..std.mem.alignForward(usize, bytes.*, 4096)]));
    bytes.* = 0;
}
