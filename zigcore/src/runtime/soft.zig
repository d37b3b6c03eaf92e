//! The soft signal in the worker: from the gateway's timers to an exception in the handler.
//!
//! Called by runtime/loop (`begin`, `end`), abi/worker (`install` before the jail closes, `take` from Python's handler of
//! the signal, gateway/worker/limits.py). The gateway sends it through the worker's pidfd with the number of the
//! invocation that it means. What always holds: one that comes too early or too late is nobody's; nothing here enforces
//! anything: a handler that cannot be interrupted is killed by the gateway.
const std = @import("std");
const assert = std.debug.assert;
const self = @import("../io/self.zig");
const signals = @import("../io/signals.zig");
const frame = @import("../pool/frame.zig");
const py = @import("python.zig");

const Word = std.atomic.Value(u64);

/// The invocation whose handler runs; 0: none.
var running: Word = .init(0);
/// The value of the last signal that was meant for it; 0: none, or taken.
var pending: Word = .init(0);

/// The process that runs the invocation in this one's place; 0: this one runs it.
var deputy: std.atomic.Value(i32) = .init(0);

/// Any thread, in the middle of anything: stores, and tells CPython to call its handler in the main thread.
fn caught(_: i32, info: *const signals.Info, _: ?*anyopaque) callconv(.c) void {
    const child = deputy.load(.acquire);
    if (child > 0) return signals.queue(child, frame.soft_signal, info.value);
    if (!accept(info.code, info.value)) return;
    const errno = std.c._errno().*;
    py.interrupt(frame.soft_signal);
    std.c._errno().* = errno;
}

fn accept(code: i32, value: u64) bool {
    if (code != signals.queued) return false;
    const sequence = running.load(.acquire);
    if (sequence == 0 or value >> 2 != sequence or value & 3 == 0) return false;
    pending.store(value, .release);
    return true;
}

/// Replaces CPython's own C handler; the Python one, which it would call, has been set.
pub fn install() self.Error!void {
    try signals.handle(frame.soft_signal, caught);
}

/// The soft signal goes to `pid`, a child that has not been waited for, until this is called with 0.
pub fn forward(pid: i32) void {
    assert(pid >= 0);
    deputy.store(pid, .release);
}

pub fn begin(sequence: u64) void {
    assert(sequence > 0);
    pending.store(0, .monotonic);
    running.store(sequence, .release);
}

pub fn end() void {
    running.store(0, .release);
}

/// Which limit the running invocation has crossed, once for each signal.
pub fn take() frame.Soft {
    const value = pending.swap(0, .acquire);
    const sequence = running.load(.acquire);
    if (sequence == 0 or value >> 2 != sequence) return .none;
    return switch (value & 3) {
        1 => .wall_clock,
        2 => .cpu,
        else => .none,
    };
}

/// The value of a signal that another process of the invocation is to get.
pub fn passOn() ?u64 {
    const value = pending.swap(0, .acquire);
    return if (value == 0) null else value;
}

test "a signal is taken once, and only by the invocation that it means" {
    const expectEqual = std.testing.expectEqual;
    const cpu = frame.softValue(7, .cpu);
    try std.testing.expect(!accept(signals.queued, cpu)); // nothing runs
    begin(7);
    try std.testing.expect(!accept(signals.queued, frame.softValue(6, .cpu))); // of the one before
    try std.testing.expect(!accept(0, cpu)); // kill(2): no value
    try expectEqual(.none, take());
    try std.testing.expect(accept(signals.queued, cpu));
    try expectEqual(.cpu, take());
    try expectEqual(.none, take());
    try std.testing.expect(accept(signals.queued, cpu));
    end();
    try expectEqual(.none, take());
    begin(8);
    try expectEqual(.none, take());
    try std.testing.expect(accept(signals.queued, frame.softValue(8, .wall_clock)));
    try expectEqual(.wall_clock, take());
    end();
}
