//! The worker's end of its channel: blocking datagrams, and the mapping of its shared memory.
//!
//! Called by runtime/loop. Through libc and not io/sys, whose calls never wait: a worker has nothing to do but wait.
//! What always holds: a signal never looks like an error (`Interrupted` is its own answer), a dead gateway never kills
//! with SIGPIPE.
const std = @import("std");
const assert = std.debug.assert;
const c = std.c;

pub const Error = error{
    /// A signal arrived first: handle it, call again.
    Interrupted,
    /// The gateway is gone or has closed the channel.
    Closed,
    /// The datagram is longer than the buffer: nothing of ours sends that.
    TooLarge,
    /// The kernel refused; `failed_errno` says why.
    System,
};

/// Errno of the last `System`, for the message to people.
pub var failed_errno: u32 = 0;

const msg_trunc = 0x20;
const msg_nosignal = 0x4000;

/// Waits for something to receive, no longer than so long. True, too, when a signal came first.
pub fn ready(fd: c.fd_t, wait_ms: u31) bool {
    var fds = [_]c.pollfd{.{ .fd = fd, .events = c.POLL.IN, .revents = 0 }};
    return c.poll(&fds, fds.len, wait_ms) != 0;
}

/// Whether nothing will come any more. Waits for nothing.
pub fn isClosed(fd: c.fd_t) bool {
    var byte: [1]u8 = undefined;
    return c.recv(fd, &byte, byte.len, c.MSG.PEEK | c.MSG.DONTWAIT) == 0;
}

/// Waits for one datagram. An empty one does not exist in our wire format: zero bytes mean that the channel is closed.
pub fn receive(fd: c.fd_t, buffer: []u8) Error![]u8 {
    const result = c.recv(fd, buffer.ptr, buffer.len, msg_trunc);
    if (result < 0) return failure();
    if (result == 0) return error.Closed;
    const bytes: usize = @intCast(result);
    if (bytes > buffer.len) return error.TooLarge;
    return buffer[0..bytes];
}

/// Sends one datagram, waiting while the gateway's queue is full; on a stream, all of it.
pub fn send(fd: c.fd_t, bytes: []const u8) Error!void {
    assert(bytes.len > 0);
    var rest = bytes;
    while (true) {
        const sent = c.send(fd, rest.ptr, rest.len, msg_nosignal);
        if (sent >= 0) {
            rest = rest[@intCast(sent)..];
            if (rest.len == 0) return;
            continue;
        }
        switch (failure()) {
            error.Interrupted => continue,
            else => |err| return err,
        }
    }
}

/// Maps the whole shared memory; it stays for the life of the process.
pub fn map(fd: c.fd_t, bytes: usize) Error![]u8 {
    const address = c.mmap(null, bytes, .{ .READ = true, .WRITE = true }, .{ .TYPE = .SHARED }, fd, 0);
    if (address == c.MAP_FAILED) return failure();
    return @as([*]u8, @ptrCast(address))[0..bytes];
}

fn failure() Error {
    const errno = c._errno().*;
    failed_errno = @intCast(errno);
    return switch (@as(c.E, @fromBackingInt(@intCast(errno)))) {
        .INTR => error.Interrupted,
        .PIPE, .CONNRESET, .NOTCONN => error.Closed,
        .MSGSIZE => error.TooLarge,
        else => error.System,
    };
}
