//! From a connection's bytes to a whole request: what it wants next, its head, its body, the buffer that holds it.
//!
//! Called by the reactor (`take`) and by pool/serve, which agrees to a head before its body is read.
//! What always holds: at most one request of a connection is known at a time; a body is read only after its head has been
//! agreed to, and never beyond what was agreed.
const std = @import("std");
const assert = std.debug.assert;
const limits = @import("../limits.zig");
const Bodies = @import("bodies.zig");
const Connection = @import("connection.zig");
const Decoder = @import("body.zig").Decoder;
const Listener = @import("listener.zig");
const reply = @import("reply.zig");
const transfer = @import("transfer.zig");

/// What the caller must do now.
pub const Step = enum {
    none,
    /// A head is complete, its body is not: `agree` or answer.
    head,
    /// A request is complete: answer it, now or later.
    request,
    /// The client is gone while its request was being served: forget `connection.invocation`.
    gone,
};

/// What a connection wants now; call it again after dealing with `head`.
pub fn take(l: *Listener, c: *Connection) Step {
    while (true) {
        transfer.unhold(l, c);
        switch (c.state) {
            .idle => {
                if (c.in_start == c.in_end) {
                    if (c.ended) l.close(c);
                    return .none;
                }
                c.to(.head);
                l.deadlines.set(l.indexOf(c), l.now_ns + l.options.header_timeout_ns);
            },
            .head => if (takeHead(l, c)) |step| return step,
            .body => if (takeBody(l, c)) |step| return step,
            .closing => {
                if (c.invocation != null) return .gone;
                return .none;
            },
            .free, .waiting, .sending, .lingering => return .none,
        }
    }
}

/// The request whose head is known may send a body of at most `body_bytes_max`.
pub fn agree(l: *Listener, c: *Connection, body_bytes_max: u32) void {
    assert(c.state == .body and !c.head_agreed);
    const bytes_max = @min(body_bytes_max, l.options.body_bytes_max);
    c.head_agreed = true;
    if ((c.parser.content_length orelse 0) > bytes_max) return reply.refuseBody(l, c, bytes_max);
    if (c.body_kind == .decoded) {
        c.decoder = .init(if (c.parser.chunked) .chunked else .{ .fixed = c.parser.content_length.? }, bytes_max);
        // Decoding in place needs the request at the start of the buffer.
        const used = c.in_end - c.in_start;
        @memmove(c.in[0..used], c.in[c.in_start..c.in_end]);
        c.in_start = 0;
        c.in_end = used;
        if (!c.parser.chunked and !bodyTake(l, c)) return;
    }
    if (c.parser.expect_continue and c.in_end - c.in_start == c.head_bytes) {
        c.continuing = true;
        transfer.partsSend(l, c, &.{transfer.continue_line});
    }
}

fn takeHead(l: *Listener, c: *Connection) ?Step {
    switch (c.parser.parse(c.received())) {
        .incomplete => {
            if (c.held_first != Connection.held_none) return null;
            if (!c.ended) return .none;
            l.close(c);
            return .none;
        },
        .refused => |refusal| {
            reply.refuseBytes(l, c, refusal);
            return .none;
        },
        .complete => |head_bytes| {
            c.head_bytes = head_bytes;
            c.keep_alive = c.parser.keep_alive and !c.ended;
            if (!c.parser.chunked) {
                const length = c.parser.content_length orelse 0;
                if (length <= limits.body_inline_bytes_max) {
                    c.body_kind = if (length == 0) .none else .plain;
                    c.body_bytes = @intCast(length);
                    if (c.in_end - c.in_start >= head_bytes + length) return requestComplete(l, c);
                } else c.body_kind = .decoded;
            } else c.body_kind = .decoded;
            c.to(.body);
            c.body_started_ns = l.now_ns;
            l.deadlines.set(l.indexOf(c), l.now_ns + l.options.body_timeout_ns);
            return .head;
        },
    }
}

fn takeBody(l: *Listener, c: *Connection) ?Step {
    assert(c.head_agreed);
    switch (c.body_kind) {
        .none => unreachable,
        .plain => if (c.in_end - c.in_start >= c.head_bytes + c.body_bytes) return requestComplete(l, c),
        .decoded => switch (c.decode(if (c.body_buffer) |number| l.bodies.bytes(number) else null)) {
            .more => {},
            .done => return requestComplete(l, c),
            .refused => |refusal| {
                if (refusal == .body_too_large) reply.refuseBody(l, c, @intCast(c.decoder.body_bytes_max)) else reply.refuseBytes(l, c, refusal);
                return .none;
            },
            .full => {
                if (!bodyTake(l, c)) return .none;
                const decoded = c.in[c.in_start + c.head_bytes ..][0..c.body_bytes];
                @memcpy(l.bodies.bytes(c.body_buffer.?)[0..decoded.len], decoded);
                const rest = c.in[c.in_start + c.head_bytes + c.body_bytes .. c.in_end];
                @memmove(c.in[c.in_start + c.head_bytes ..][0..rest.len], rest);
                c.in_end -= c.body_bytes;
                return null;
            },
        },
    }
    if (c.held_first != Connection.held_none) return null;
    if (c.ended) {
        l.close(c);
        return .none;
    }
    l.deadlines.set(l.indexOf(c), c.body_started_ns + bodyTimeout(l, c));
    return .none;
}

/// How long the body may take: longer, the more of a large one has arrived.
pub fn bodyTimeout(l: *const Listener, c: *const Connection) u64 {
    const bonus_ns = @as(u64, c.body_bytes) * limits.s_ns / limits.body_bytes_per_s_min;
    return l.options.body_timeout_ns + if (c.body_kind == .decoded) bonus_ns else 0;
}

fn requestComplete(l: *Listener, c: *Connection) Step {
    c.request_bytes = c.head_bytes + if (c.body_buffer == null and c.body_kind != .none) c.body_bytes else 0;
    c.to(.waiting);
    l.deadlines.clear(l.indexOf(c));
    return .request;
}

/// Takes a pool buffer for the connection; false: none is left, and the client has been told.
fn bodyTake(l: *Listener, c: *Connection) bool {
    assert(c.body_buffer == null);
    c.body_buffer = bodyBuffer(l, .request) orelse {
        reply.refuse(l, c, .overloaded, "All buffers for large bodies are in use; try again in a second.", &.{});
        return false;
    };
    return true;
}

/// A buffer for a body that does not fit the connection's own.
pub fn bodyBuffer(l: *Listener, use: Bodies.Use) ?u16 {
    if (l.bodies.room(use) <= limits.body_buffers_spare_count) reclaim(l);
    return l.bodies.take(use);
}

/// The client that moves its own body most slowly gives its buffer up: clients that send or read a byte now and then must
/// not keep everybody's.
pub fn reclaim(l: *Listener) void {
    var slowest: ?*Connection = null;
    var slowest_rate: u64 = std.math.maxInt(u64);
    for (l.connections) |*c| {
        if (c.body_buffer == null or c.state != .body and c.state != .sending) continue;
        const moved = c.bodyMoved();
        const held_ns = l.now_ns -| moved.since_ns;
        if (held_ns < limits.body_buffer_hold_ns) continue;
        const rate = moved.bytes * limits.s_ns / held_ns;
        if (rate < slowest_rate) {
            slowest = c;
            slowest_rate = rate;
        }
    }
    const c = slowest orelse return;
    if (c.state == .sending) return l.close(c); // Its buffer comes back when the kernel has let go of it.
    bodyGiveBack(l, c);
    if (c.ended) l.close(c) else reply.refuse(l, c, .request_timeout, "The body arrived more slowly than others that needed its place.", &.{});
}

pub fn bodyGiveBack(l: *Listener, c: *Connection) void {
    const number = c.body_buffer orelse return;
    c.body_buffer = null;
    l.bodies.giveBack(number);
}

/// The body of the request, complete.
pub fn bodyOf(l: *const Listener, c: *const Connection) []const u8 {
    return c.body(if (c.body_buffer) |number| l.bodies.bytes(number) else null);
}
