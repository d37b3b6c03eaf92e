//! The body decoder: from the bytes after a request's head to the body's bytes (RFC 9112 sections 6 and 7).
//!
//! Called by the connection with whatever has arrived and whatever room it has; goes on where it stopped. A body of
//! known length is counted and copied, a chunked one is unwrapped; trailers are checked and dropped.
//!
//! What always holds: never writes past `out`, never takes a byte that belongs to the next request, and what it says
//! depends on the bytes alone, never on how they were cut into pieces. `out` may be `in` itself (unwrapping in place):
//! no byte is written before it has been read. Framing may not take much more than the body itself (see limits.zig).
const std = @import("std");
const assert = std.debug.assert;
const limits = @import("../limits.zig");
const chars = @import("chars.zig");
const Refusal = @import("refusal.zig").Refusal;

pub const Length = union(enum) {
    /// No body is a fixed one of zero bytes.
    fixed: u64,
    chunked,
};

pub const State = union(enum) {
    /// The body goes on: give more input, or more room when `produced` filled `out`.
    more,
    /// The byte after the consumed ones is the next request's.
    done,
    refused: Refusal,
};

pub const Step = struct { consumed: usize, produced: usize, state: State };

pub const Decoder = struct {
    phase: Phase,
    refusal: Refusal = .chunk_size,
    /// Of the fixed body, or of the chunk being read.
    remaining: u64 = 0,
    /// Bytes of the body that chunks have announced so far.
    announced: u64 = 0,
    body_bytes_max: u64,
    /// Bytes of this size line, or of the trailers.
    line_bytes: u32 = 0,
    digits: u32 = 0,
    overhead_bytes: u64 = 0,

    const Phase = enum {
        fixed,
        size,
        extension,
        size_lf,
        data,
        data_cr,
        data_lf,
        trailer_start,
        trailer_name,
        trailer_value,
        trailer_lf,
        end_lf,
        done,
        refused,
    };

    /// A body longer than `body_bytes_max` is refused with 413, a fixed one at once, a chunked one when a chunk announces it.
    pub fn init(length: Length, body_bytes_max: u64) Decoder {
        assert(body_bytes_max <= limits.body_bytes_max);
        return switch (length) {
            .fixed => |bytes| .{
                .phase = if (bytes > body_bytes_max) .refused else if (bytes == 0) .done else .fixed,
                .refusal = .body_too_large,
                .remaining = bytes,
                .body_bytes_max = body_bytes_max,
            },
            .chunked => .{ .phase = .size, .body_bytes_max = body_bytes_max },
        };
    }

    pub fn decode(d: *Decoder, in: []const u8, out: []u8) Step {
        var at: usize = 0;
        var produced: usize = 0;
        while (true) {
            switch (d.phase) {
                .done => return .{ .consumed = at, .produced = produced, .state = .done },
                .refused => return .{ .consumed = at, .produced = produced, .state = .{ .refused = d.refusal } },
                .fixed, .data => {
                    assert(d.remaining > 0);
                    const bytes: usize = @intCast(@min(d.remaining, in.len - at, out.len - produced));
                    if (bytes == 0) return .{ .consumed = at, .produced = produced, .state = .more };
                    if (&out[produced] != &in[at]) @memmove(out[produced..][0..bytes], in[at..][0..bytes]);
                    at += bytes;
                    produced += bytes;
                    d.remaining -= bytes;
                    if (d.remaining == 0) d.phase = if (d.phase == .fixed) .done else .data_cr;
                },
                else => {
                    if (at == in.len) return .{ .consumed = at, .produced = produced, .state = .more };
                    d.phase = d.framing(in[at]) catch .refused;
                    // The byte that was refused is not consumed.
                    if (d.phase != .refused) at += 1;
                },
            }
        }
    }

    /// One byte of framing: the phase after it.
    fn framing(d: *Decoder, byte: u8) error{Refused}!Phase {
        d.overhead_bytes += 1;
        if (d.overhead_bytes > limits.chunk_overhead_bytes_max + d.announced) return d.refuse(.chunk_overhead);
        switch (d.phase) {
            .size => {
                try d.lineCount();
                if (chars.hexValue(byte)) |digit| {
                    d.digits += 1;
                    if (d.digits > 16) return d.refuse(.chunk_size_overflow);
                    d.remaining = d.remaining << 4 | digit;
                    return .size;
                }
                if (d.digits == 0) return d.refuse(.chunk_size);
                if (byte == ';') return .extension;
                return if (byte == '\r') .size_lf else d.refuse(.chunk_size);
            },
            .extension => {
                try d.lineCount();
                if (byte == '\r') return .size_lf;
                return if (chars.isValue(byte)) .extension else d.refuse(.chunk_extension);
            },
            .size_lf => {
                if (byte != '\n') return d.refuse(.chunk_size);
                d.line_bytes = 0;
                d.digits = 0;
                if (d.remaining == 0) return .trailer_start;
                if (d.remaining > d.body_bytes_max - d.announced) return d.refuse(.body_too_large);
                d.announced += d.remaining;
                return .data;
            },
            .data_cr => return if (byte == '\r') .data_lf else d.refuse(.chunk_end),
            .data_lf => return if (byte == '\n') .size else d.refuse(.chunk_end),
            .trailer_start => {
                try d.trailerCount();
                if (byte == '\r') return .end_lf;
                return if (chars.isToken(byte)) .trailer_name else d.refuse(.trailer);
            },
            .trailer_name => {
                try d.trailerCount();
                if (byte == ':') return .trailer_value;
                return if (chars.isToken(byte)) .trailer_name else d.refuse(.trailer);
            },
            .trailer_value => {
                try d.trailerCount();
                if (byte == '\r') return .trailer_lf;
                return if (chars.isValue(byte)) .trailer_value else d.refuse(.trailer);
            },
            .trailer_lf => return if (byte == '\n') .trailer_start else d.refuse(.trailer),
            .end_lf => return if (byte == '\n') .done else d.refuse(.trailer),
            .fixed, .data, .done, .refused => unreachable,
        }
    }

    fn lineCount(d: *Decoder) error{Refused}!void {
        d.line_bytes += 1;
        if (d.line_bytes > limits.chunk_line_bytes_max) return d.refuse(.chunk_line_too_long);
    }

    fn trailerCount(d: *Decoder) error{Refused}!void {
        d.line_bytes += 1;
        if (d.line_bytes > limits.trailer_bytes_max) return d.refuse(.trailers_too_long);
    }

    fn refuse(d: *Decoder, refusal: Refusal) error{Refused} {
        d.refusal = refusal;
        return error.Refused;
    }
};
