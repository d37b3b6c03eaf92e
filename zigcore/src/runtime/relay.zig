//! What the process of a forked invocation says while it runs: lines of output, and where it was interrupted.
//!
//! Called by runtime/loop in the worker that waits for it. The process has one end of a stream where its worker has the
//! channel: with the channel itself it could answer before its end, and would be sent the next caller's request.
//! What always holds: all that comes is hostile; nothing but these two kinds of frames, with this invocation's sequence,
//! goes on to the gateway; of what came nothing is left for the next process (`clear`).
const std = @import("std");
const limits = @import("../limits.zig");
const channel = @import("../io/channel.zig");
const self = @import("../io/self.zig");
const frame = @import("../pool/frame.zig");

const Relay = @This();

/// Our end; the process has the other.
fd: self.Fd = -1,
filled: usize = 0,
used: usize = 0,
buffer: [limits.frame_bytes_max]u8 align(8) = undefined,

pub const Heard = enum { nothing, something, closed };

/// The process's end, which is the caller's to close.
pub fn open(relay: *Relay) self.Error!self.Fd {
    const ends = try self.streamPair();
    relay.fd = ends[0];
    relay.filled = 0;
    relay.used = 0;
    return ends[1];
}

/// Takes what has come, without waiting, and sends whole frames on.
pub fn carry(relay: *Relay, to: self.Fd, sequence: u64) (channel.Error || error{Malformed})!Heard {
    const bytes = self.receiveNow(relay.fd, relay.buffer[relay.filled..]) orelse return .nothing;
    if (bytes == 0) return .closed;
    relay.filled += bytes;
    relay.used = @max(relay.used, relay.filled);
    var at: usize = 0;
    while (try frameAt(relay.buffer[at..relay.filled], sequence)) |one| {
        try channel.send(to, one);
        at += one.len;
    }
    std.mem.copyForwards(u8, &relay.buffer, relay.buffer[at..relay.filled]);
    relay.filled -= at;
    return .something;
}

/// The frame that `bytes` begin with, when it is whole.
fn frameAt(bytes: []const u8, sequence: u64) error{Malformed}!?[]const u8 {
    if (bytes.len < @sizeOf(frame.Answer)) return null;
    var header: frame.Answer = undefined;
    @memcpy(std.mem.asBytes(&header), bytes[0..@sizeOf(frame.Answer)]);
    const known = header.kind == .log or header.kind == .interrupted;
    if (!known or header.magic != frame.magic or header.sequence != sequence or header.headers_bytes != 0) return error.Malformed;
    const whole = @sizeOf(frame.Answer) + @as(usize, header.body_bytes);
    if (whole > limits.frame_bytes_max) return error.Malformed;
    return if (bytes.len < whole) null else bytes[0..whole];
}

/// After the process and all that it started have ended.
pub fn clear(relay: *Relay) void {
    @memset(relay.buffer[0..relay.used], 0);
    self.close(relay.fd);
    relay.fd = -1;
}

test "only output and interruptions of the invocation that runs are frames" {
    var buffer: [@sizeOf(frame.Answer) + 3]u8 = @splat('x');
    const Case = struct { head: frame.Answer, passes: bool };
    const body_bytes = 3;
    for ([_]Case{
        .{ .head = .{ .kind = .log, .status = 1, .sequence = 7, .body_bytes = body_bytes }, .passes = true },
        .{ .head = .{ .kind = .interrupted, .status = 0, .sequence = 7, .body_bytes = body_bytes }, .passes = true },
        .{ .head = .{ .kind = .log, .status = 1, .sequence = 8, .body_bytes = body_bytes }, .passes = false },
        .{ .head = .{ .kind = .answer, .status = 200, .sequence = 7, .body_bytes = body_bytes }, .passes = false },
        .{ .head = .{ .kind = .failure, .status = 500, .sequence = 7, .body_bytes = body_bytes }, .passes = false },
        .{ .head = .{ .kind = .ready, .status = 0, .sequence = 7, .body_bytes = body_bytes }, .passes = false },
        .{ .head = .{ .kind = .log, .status = 1, .sequence = 7, .headers_bytes = body_bytes }, .passes = false },
        .{ .head = .{ .kind = .log, .status = 1, .sequence = 7, .body_bytes = std.math.maxInt(u32) }, .passes = false },
        .{ .head = .{ .magic = 0, .kind = .log, .status = 1, .sequence = 7, .body_bytes = body_bytes }, .passes = false },
    }) |case| {
        @memcpy(buffer[0..@sizeOf(frame.Answer)], std.mem.asBytes(&case.head));
        if (case.passes) {
            try std.testing.expectEqual(buffer.len, (try frameAt(&buffer, 7)).?.len);
            try std.testing.expectEqual(null, try frameAt(buffer[0 .. buffer.len - 1], 7));
        } else try std.testing.expectError(error.Malformed, frameAt(&buffer, 7));
        try std.testing.expectEqual(null, try frameAt(buffer[0..8], 7));
    }
}
