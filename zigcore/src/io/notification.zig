//! What the kernel says about a forbidden system call of a worker: its number (seccomp_unotify(2)).
//!
//! Called by pool/reap with the descriptor of jail/tripwire.zig. The kernel fills in the number: no worker can forge it.
//! What always holds: nothing here waits, and the call is never answered and so never made.
const std = @import("std");
const assert = std.debug.assert;
const linux = std.os.linux;
const sys = @import("sys.zig");

const Notification = extern struct {
    id: u64,
    pid: u32,
    flags: u32,
    number: i32,
    architecture: u32,
    instruction: u64,
    arguments: [6]u64,
};

comptime {
    assert(@sizeOf(Notification) == 80);
}

const receive = 0xC050_2100;

/// The number of the call that waits; null: none does, or whoever made it is gone.
pub fn forbiddenCall(fd: sys.Fd) ?u15 {
    // Without a call to hear of, the next one would wait for one.
    var watched = [1]linux.pollfd{.{ .fd = fd, .events = linux.POLL.IN, .revents = 0 }};
    const ready = sys.check("poll", linux.poll(&watched, 1, 0)) catch return null;
    if (ready == 0 or watched[0].revents & linux.POLL.IN == 0) return null;
    var notification: Notification = std.mem.zeroes(Notification);
    _ = sys.check("ioctl", linux.ioctl(fd, receive, @intFromPtr(&notification))) catch return null;
    return std.math.cast(u15, notification.number);
}

test "what is no such descriptor says nothing" {
    try std.testing.expectEqual(null, forbiddenCall(-1));
    const fd = try sys.eventfd();
    defer sys.close(fd);
    try std.testing.expectEqual(null, forbiddenCall(fd));
    sys.eventfdRaise(fd);
    try std.testing.expectEqual(null, forbiddenCall(fd));
}
