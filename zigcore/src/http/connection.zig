//! One client's socket, from accept to close: a state machine over bytes, with no idea of functions or workers.
//!
//!     idle → head → body → waiting → sending → idle …        (keep-alive, pipelining)
//!                 any of them → sending → lingering → closing (an answer after which nothing more is read)
//!
//! Called by http/listener and its parts, which own the memory and the ring; this file holds what one connection knows and
//! decides. What always holds: at most one request of a connection is in the gateway; its bytes stay at `in_start`
//! until its answer has been sent; bytes behind it wait unparsed. All transitions go through `to`.
const std = @import("std");
const assert = std.debug.assert;
const limits = @import("../limits.zig");
const sys = @import("../io/sys.zig");
const Parser = @import("parser.zig").Parser;
const Refusal = @import("refusal.zig").Refusal;
const Decoder = @import("body.zig").Decoder;

const Connection = @This();

state: State,
fd: sys.Fd,
/// Counts up each time the slot is used again: completions and invocations of the one before are recognised by it.
generation: u32,

// What has been received: in[in_start..in_end], the request being served first.
in: []u8,
in_start: u32,
in_end: u32,
/// The answer's head and a small body.
out: []u8,
parser: Parser,
head_bytes: u32,
/// Bytes at `in_start` that belong to the request, once it is complete.
request_bytes: u32,
/// Decoded bytes of the body so far, behind the head in `in`, or in `body_buffer`; later the answer's if it is there.
body_bytes: u32,
body_kind: BodyKind,
/// From the listener's pool: the request's body while it is read, later the answer's.
body_buffer: ?u16,
decoder: Decoder,
/// When the client began to send the body, or was first sent the answer's.
body_started_ns: u64,
/// Has the listener's caller agreed to the request's head?
head_agreed: bool,
/// May another request follow this one's answer?
keep_alive: bool,
/// The connection ends with its answer, and what the client still sends is dropped (it has not yet sent all of what we
/// refuse, or has pipelined too much): closing at once would reset the connection under the answer.
linger: bool,
/// The client will send nothing more; it may still read.
ended: bool,

// Operations with the kernel: the slot is free only when none is left.
receiving: bool,
receive_cancelled: bool,
sending: bool,
shutting: bool,
/// "100 Continue" is on its way; the answer waits for it.
continuing: bool,
answer_waits: bool,
/// It has sent more behind a running request than fits its own buffer: it is read one receive buffer at a time.
flooding: bool,
/// A place in the list of those that found no receive buffer.
starved: bool,

send_started_ns: u64,
/// Of the answer, so far.
sent_bytes: u64,
parts: [2]sys.Iovec,
parts_count: u8,
message: sys.Message,

/// Received bytes that did not fit `in`, still in the ring's buffers: a chain.
held_first: u16,
held_last: u16,
held_count: u16,

/// Of the listener's caller: what serves this connection's request.
invocation: ?u32,

pub const held_none: u16 = std.math.maxInt(u16);

pub const State = enum { free, idle, head, body, waiting, sending, lingering, closing };

pub const BodyKind = enum {
    none,
    /// Of known length, small: received right behind the head, nothing to decode.
    plain,
    /// Chunked or large.
    decoded,
};

/// Bytes of `in` and `out`.
pub const in_bytes = 64 * limits.kib;
pub const out_bytes = 96 * limits.kib;

comptime {
    // A request that stays inline, and one more buffer behind it, always fit.
    assert(limits.header_bytes_max + limits.body_inline_bytes_max + limits.receive_buffer_bytes <= in_bytes);
    // An answer that came inside a frame, with our own headers, always fits.
    assert(limits.frame_bytes_max + limits.answer_header_bytes_max <= out_bytes);
}

pub fn open(c: *Connection, fd: sys.Fd) void {
    assert(c.state == .free and fd >= 0);
    c.fd = fd;
    c.in_start = 0;
    c.in_end = 0;
    c.linger = false;
    c.ended = false;
    c.receiving = false;
    c.receive_cancelled = false;
    c.sending = false;
    c.shutting = false;
    c.continuing = false;
    c.answer_waits = false;
    c.starved = false;
    c.flooding = false;
    c.held_first = held_none;
    c.held_last = held_none;
    c.held_count = 0;
    c.body_buffer = null;
    c.invocation = null;
    c.to(.idle);
    c.requestReset();
}

pub fn requestReset(c: *Connection) void {
    assert(c.body_buffer == null and c.invocation == null);
    c.parser.reset();
    c.head_bytes = 0;
    c.request_bytes = 0;
    c.body_bytes = 0;
    c.body_kind = .none;
    c.head_agreed = false;
    c.keep_alive = false;
}

/// The only place where the state changes.
pub fn to(c: *Connection, next: State) void {
    const allowed = switch (c.state) {
        .free => next == .idle,
        .idle => next == .head or next == .sending or next == .lingering or next == .closing,
        .head => next == .body or next == .waiting or next == .sending or next == .closing,
        .body => next == .waiting or next == .sending or next == .closing,
        .waiting => next == .sending or next == .closing,
        .sending => next == .idle or next == .lingering or next == .closing,
        .lingering => next == .closing,
        .closing => next == .free,
    };
    assert(allowed);
    c.state = next;
}

/// What has arrived of the current request and behind it.
pub fn received(c: *const Connection) []u8 {
    return c.in[c.in_start..c.in_end];
}

/// The head's bytes: what the parser's offsets refer to.
pub fn head(c: *const Connection) []const u8 {
    return c.in[c.in_start..][0..c.head_bytes];
}

/// Makes room for `bytes` more at the end of `in`, moving what is there if that helps.
pub fn room(c: *Connection, bytes: usize) bool {
    if (c.in.len - c.in_end >= bytes) return true;
    const used = c.in_end - c.in_start;
    if (c.in.len - used < bytes) return false;
    @memmove(c.in[0..used], c.in[c.in_start..c.in_end]);
    c.in_start = 0;
    c.in_end = used;
    return true;
}

pub fn append(c: *Connection, bytes: []const u8) void {
    assert(c.in.len - c.in_end >= bytes.len);
    @memcpy(c.in[c.in_end..][0..bytes.len], bytes);
    c.in_end += @intCast(bytes.len);
}

/// The answer has been sent: the request's bytes go, what is behind them becomes the next request's start.
pub fn requestDrop(c: *Connection) void {
    assert(c.state == .idle);
    c.in_start += c.request_bytes;
    assert(c.in_start <= c.in_end);
    if (c.in_start == c.in_end) {
        c.in_start = 0;
        c.in_end = 0;
    }
}

/// Whether the kernel still works on this connection's memory or descriptor.
pub fn operationsLeft(c: *const Connection) bool {
    return c.receiving or c.sending or c.shutting;
}

pub const Decoded = union(enum) {
    /// More input is needed.
    more,
    /// Does not fit behind the head: continue in a pool buffer.
    full,
    done,
    refused: Refusal,
};

/// Unwraps what has arrived of a body, in place behind the head, or into `target` (a pool buffer).
pub fn decode(c: *Connection, target: ?[]u8) Decoded {
    assert(c.state == .body and c.body_kind == .decoded);
    const inline_bytes: u32 = if (target == null) c.body_bytes else 0;
    const raw_at = c.in_start + c.head_bytes + inline_bytes;
    const raw = c.in[raw_at..c.in_end];
    const out = if (target) |buffer| buffer[c.body_bytes..] else c.in[raw_at..][0 .. limits.body_inline_bytes_max - inline_bytes];
    const step = c.decoder.decode(raw, out);
    c.body_bytes += @intCast(step.produced);
    // What is left of the raw bytes follows the request again.
    const rest = raw[step.consumed..];
    const rest_at = c.in_start + c.head_bytes + if (target == null) c.body_bytes else 0;
    assert(rest_at <= c.in_end - rest.len);
    if (rest.len > 0) @memmove(c.in[rest_at..][0..rest.len], rest);
    c.in_end = @intCast(rest_at + rest.len);
    return switch (step.state) {
        .done => .done,
        .refused => |refusal| .{ .refused = refusal },
        .more => if (step.produced == out.len and target == null) .full else .more,
    };
}

/// How much of the body in `body_buffer` its client has sent, or read, and since when.
pub fn bodyMoved(c: *const Connection) struct { bytes: u64, since_ns: u64 } {
    assert(c.state == .body or c.state == .sending);
    if (c.state == .sending) return .{ .bytes = c.sent_bytes, .since_ns = c.send_started_ns };
    return .{ .bytes = c.body_bytes, .since_ns = c.body_started_ns };
}

/// The request's body, complete.
pub fn body(c: *const Connection, pooled: ?[]const u8) []const u8 {
    if (c.body_kind == .none) return "";
    if (c.body_buffer != null) return pooled.?[0..c.body_bytes];
    return c.in[c.in_start + c.head_bytes ..][0..c.body_bytes];
}
