//! What a worker says about an invocation: one answer or failure, and where its handler is when it is being interrupted.
//!
//! Called by runtime/loop when the handler has returned or raised. Frames are those of pool/frame.zig; what Python made is
//! checked here, so that a mistake of the adapter's becomes an error of the function's and not the end of the worker.
//! What always holds: a datagram is written down whole before it is sent; nothing here allocates.
const std = @import("std");
const assert = std.debug.assert;
const limits = @import("../limits.zig");
const channel = @import("../io/channel.zig");
const frame = @import("../pool/frame.zig");
const Loop = @import("loop.zig");
const py = @import("python.zig");

const Error = Loop.Error;

/// What the callable of the adapter returned.
pub fn sendResult(loop: *Loop, result: *py.Object) Error!void {
    if (py.bytesBorrowed(result)) |body| return sendAnswer(loop, 200, &json_block, 1, body);
    try sendTuple(loop, result);
}

/// What nearly every answer of a typed function carries.
const json_block = block: {
    var buffer: [64]u8 = undefined;
    const end = frame.entryWrite(&buffer, 0, "content-type", "application/json").?;
    const bytes: [end]u8 = buffer[0..end].*;
    break :block bytes;
};

/// An answer with a status and headers of its own.
fn sendTuple(loop: *Loop, result: *py.Object) Error!void {
    const wrong = "the adapter returned neither bytes nor (status, block, body)";
    const status_object = py.tupleItemBorrowed(result, 3, 0) orelse return sendText(loop, "SystemError", wrong);
    const status = py.integer(status_object) orelse return sendText(loop, "SystemError", wrong);
    const block = py.bytesBorrowed(py.tupleItemBorrowed(result, 3, 1).?) orelse return sendText(loop, "SystemError", wrong);
    const body = py.bytesBorrowed(py.tupleItemBorrowed(result, 3, 2).?) orelse return sendText(loop, "SystemError", wrong);
    if (status < 100 or status > 999) return sendText(loop, "ValueError", "an answer's status is 200 to 599");
    const count = blockCount(block, limits.answer_headers_max) orelse
        return sendText(loop, "ValueError", std.fmt.comptimePrint("an answer has at most {d} headers", .{limits.answer_headers_max}));
    if (block.len > limits.answer_header_bytes_max)
        return sendText(loop, "ValueError", std.fmt.comptimePrint("an answer's headers are at most {d} bytes", .{limits.answer_header_bytes_max}));
    try sendAnswer(loop, @intCast(status), block, count, body);
}

/// Turns the exception that is set into a failure frame; whatever goes wrong on the way is a plain text instead.
pub fn sendException(loop: *Loop) Error!void {
    const undescribed = "the exception could not be described";
    const exception = py.exceptionTake() orelse return sendText(loop, "SystemError", "no result and no exception");
    defer py.free(exception);
    const block_object = py.call1(loop.failure, exception) orelse {
        py.exceptionDrop();
        return sendText(loop, "SystemError", undescribed);
    };
    defer py.free(block_object);
    const block = py.bytesBorrowed(block_object) orelse return sendText(loop, "SystemError", undescribed);
    const count = blockCount(block, limits.failure_entries_max) orelse return sendText(loop, "SystemError", undescribed);
    if (block.len > Loop.failure_bytes_max) return sendText(loop, "SystemError", undescribed);
    try sendFailure(loop, block, count);
}

pub fn sendText(loop: *Loop, kind: []const u8, message: []const u8) Error!void {
    var buffer: [512]u8 = undefined;
    const first = frame.entryWrite(&buffer, 0, "kind", "function-error").?;
    const second = frame.entryWrite(&buffer, first, "type", kind).?;
    const third = frame.entryWrite(&buffer, second, "message", message).?;
    try sendFailure(loop, buffer[0..third], 3);
}

fn sendFailure(loop: *Loop, block: []const u8, count: u16) Error!void {
    assert(block.len <= Loop.failure_bytes_max);
    Loop.logClose(&loop.log);
    const head: frame.Answer = .{
        .kind = .failure,
        .status = 500,
        .sequence = loop.sequence,
        .headers_count = count,
        .headers_bytes = @intCast(block.len),
    };
    try sendParts(loop, &head, block, &.{});
}

fn sendAnswer(loop: *Loop, status: u16, block: []const u8, count: u16, body: []const u8) Error!void {
    assert(block.len <= limits.answer_header_bytes_max);
    if (body.len > loop.output_bytes_max) return sendTooLarge(loop, body.len);
    const shared = body.len > limits.body_inline_bytes_max;
    if (shared) {
        @memcpy(loop.shared[Loop.shared_half_bytes..][0..body.len], body);
        loop.buffers.answer_bytes = body.len;
    }
    Loop.logClose(&loop.log);
    const head: frame.Answer = .{
        .kind = .answer,
        .flags = if (shared) frame.flag_body_shared else 0,
        .status = status,
        .sequence = loop.sequence,
        .headers_count = count,
        .headers_bytes = @intCast(block.len),
        .body_bytes = @intCast(body.len),
    };
    try sendParts(loop, &head, block, if (shared) &.{} else body);
}

/// The body is not sent: only how long it is.
fn sendTooLarge(loop: *Loop, body_bytes: usize) Error!void {
    var buffer: [128]u8 = undefined;
    var text: [20]u8 = undefined;
    const first = frame.entryWrite(&buffer, 0, "kind", "output-limit").?;
    const second = frame.entryWrite(&buffer, first, "message", std.fmt.bufPrint(&text, "{d}", .{body_bytes}) catch unreachable).?;
    try sendFailure(loop, buffer[0..second], 2);
}

/// The handler is being interrupted: where it was, before the exception changes that. False: no invocation runs, or the
/// gateway is gone. Only from the main thread, within `call`: `out` is not in use there.
pub fn sayInterrupted(loop: *Loop, traceback: []const u8) bool {
    const piece = traceback[0..@min(traceback.len, Loop.failure_bytes_max)];
    const head: frame.Answer = .{ .kind = .interrupted, .status = 0, .sequence = loop.sequence, .body_bytes = @intCast(piece.len) };
    // A forked invocation's stream, unlike the channel, does not keep it apart from a line of another thread's.
    if (loop.holding) loop.log.lock.take();
    defer if (loop.holding) loop.log.lock.release();
    sendParts(loop, &head, &.{}, piece) catch return false;
    return true;
}

/// One datagram of three parts; callers have checked that they fit.
pub fn sendParts(loop: *Loop, head: *const frame.Answer, block: []const u8, body: []const u8) Error!void {
    const bytes = @sizeOf(frame.Answer) + block.len + body.len;
    const out = &loop.buffers.out;
    assert(bytes <= out.len);
    @memcpy(out[0..@sizeOf(frame.Answer)], std.mem.asBytes(head));
    @memcpy(out[@sizeOf(frame.Answer)..][0..block.len], block);
    @memcpy(out[@sizeOf(frame.Answer) + block.len ..][0..body.len], body);
    loop.buffers.out_bytes = bytes;
    if (head.kind == .answer or head.kind == .failure) {
        if (loop.holding) {
            loop.buffers.held_bytes = bytes;
            return;
        }
        // Now that everything is written down, and while the gateway can still be told.
        if (loop.fresh) |c| {
            loop.last = c.inspect();
            if (loop.last) out[@offsetOf(frame.Answer, "flags")] |= frame.flag_last;
        }
    }
    try channel.send(loop.fd, out[0..bytes]);
}

/// Entries of a block that Python built; null when it is cut, padded or has more than `count_max`.
fn blockCount(block: []const u8, count_max: u16) ?u16 {
    var count: u16 = 0;
    var rest = block;
    while (rest.len > 0) : (count += 1) {
        if (count == count_max or rest.len < frame.entry_overhead_bytes) return null;
        const entry_bytes = frame.entry_overhead_bytes +
            @as(usize, std.mem.readInt(u16, rest[0..2], .little)) + std.mem.readInt(u16, rest[2..4], .little);
        if (rest.len < entry_bytes) return null;
        rest = rest[entry_bytes..];
    }
    return count;
}
