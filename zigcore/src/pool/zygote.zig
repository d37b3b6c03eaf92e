//! One reactor's connection to the zygote: asks for workers, hears what became of them; reconnects when it dies.
//!
//! Called by pool/pool.zig. The zygote is ours, but it runs an interpreter: what it says is checked and never asserted
//! on. Connecting and asking are rare and never wait, so they are plain system calls; hearing goes through the ring.
//! What always holds: every descriptor that arrives is either handed on or closed.
const std = @import("std");
const assert = std.debug.assert;
const limits = @import("../limits.zig");
const sys = @import("../io/sys.zig");
const Ring = @import("../io/ring.zig");
const frame = @import("frame.zig");

const Zygote = @This();

ring: *Ring,
path: []const u8,
cpu: u32,
fd: sys.Fd = sys.none,
receiving: bool = false,
closing: bool = false,
generation: u32 = 0,
connect_after_ns: u64 = 0,
failures: u32 = 0,
rights: sys.Rights = .{ .bytes = 0 },
iovec: sys.Iovec = undefined,
message: sys.Message = undefined,
buffer: [reply_bytes_max]u8 = undefined,

/// A refusal's text may follow the reply.
const reply_bytes_max = @sizeOf(frame.ZygoteReply) + 512;
const connect_pause_first_ns = 10 * limits.ms_ns;
const connect_pause_last_ns = 1000 * limits.ms_ns;

pub const Heard = union(enum) {
    nothing,
    /// All descriptors are the caller's now; `memory` and `cpu` may be `sys.none`.
    spawned: struct { request: u64, pid: i32, pidfd: sys.Fd, memory: sys.Fd, cpu: sys.Fd, movable: bool },
    /// Where the worker's forbidden calls are heard of; the caller's now.
    tripwire: struct { request: u64, fd: sys.Fd },
    refused: struct { request: u64, errno: i32, text: []const u8 },
    exited: struct { request: u64, pid: i32, status: i32, oom_kills: u32, memory_peak_bytes: u64, cpu_ns: u64 },
    /// It is gone; `tick` connects again.
    lost,
};

pub fn connected(z: *const Zygote) bool {
    return z.fd != sys.none and !z.closing;
}

/// Connects when it is time to; true when a connection was made just now.
pub fn tick(z: *Zygote, now_ns: u64) bool {
    if (z.fd != sys.none or now_ns < z.connect_after_ns) return false;
    z.fd = sys.connectUnix(z.path) catch {
        z.connect_after_ns = now_ns + @min(@as(u64, connect_pause_first_ns) << @as(u6, @intCast(@min(z.failures, 10))), connect_pause_last_ns);
        z.failures +|= 1;
        return false;
    };
    z.failures = 0;
    z.listen();
    return true;
}

/// When `tick` wants to be called again, if at all.
pub fn wakeAt(z: *const Zygote) u64 {
    return if (z.fd == sys.none) z.connect_after_ns else std.math.maxInt(u64);
}

/// Asks for a worker; `channel` and `memory` are sent along (the caller closes its own copies).
pub fn spawn(z: *Zygote, request: u64, spec: []const u8, cpu: u32, reserved: bool, channel: sys.Fd, memory: sys.Fd) sys.Error!void {
    assert(z.connected());
    assert(spec.len <= limits.spawn_bytes_max);
    const ask: frame.Spawn = .{ .request = request, .cpu = cpu, .reserved_cpu = @intFromBool(reserved), .spec_bytes = @intCast(spec.len) };
    const parts = [_]sys.Iovec{ .from(std.mem.asBytes(&ask)), .from(spec) };
    try sys.sendWithRights(z.fd, &parts, .{ channel, memory });
}

pub fn heard(z: *Zygote, completion: Ring.Completion) Heard {
    assert(z.receiving);
    z.receiving = false;
    if (z.closing or completion.res <= 0) {
        z.lose();
        return .lost;
    }
    const bytes = z.buffer[0..@intCast(completion.res)];
    const fds = z.rights.received(z.message.control_bytes);
    const result = decode(bytes, fds);
    const kept: usize = switch (result) {
        .spawned => 3,
        .tripwire => 1,
        else => 0,
    };
    for (fds[@min(kept, fds.len)..]) |fd| if (fd >= 0) sys.close(fd);
    if (result == .nothing) {
        z.lose();
        return .lost;
    }
    // The text of a refusal lies in the buffer that is filled next: the caller reads it before the next submission.
    z.listen();
    return result;
}

fn decode(bytes: []const u8, fds: []const sys.Fd) Heard {
    var three: [3]sys.Fd = @splat(sys.none);
    for (three[0..@min(fds.len, three.len)], fds[0..@min(fds.len, three.len)]) |*one, fd| one.* = fd;
    const fd = three[0];
    if (bytes.len < @sizeOf(frame.ZygoteReply)) return .nothing;
    var reply: frame.ZygoteReply = undefined;
    @memcpy(std.mem.asBytes(&reply), bytes[0..@sizeOf(frame.ZygoteReply)]);
    if (reply.magic != frame.magic) return .nothing;
    return switch (reply.kind) {
        .spawned => if (fd >= 0 and reply.pid > 0) .{ .spawned = .{
            .request = reply.request,
            .pid = reply.pid,
            .pidfd = fd,
            .memory = three[1],
            .cpu = three[2],
            .movable = reply.status == frame.spawned_movable,
        } } else .nothing,
        .tripwire => if (fd >= 0) .{ .tripwire = .{ .request = reply.request, .fd = fd } } else .nothing,
        .refused => .{ .refused = .{ .request = reply.request, .errno = reply.status, .text = bytes[@sizeOf(frame.ZygoteReply)..] } },
        .exited => .{ .exited = .{
            .request = reply.request,
            .pid = reply.pid,
            .status = reply.status,
            .oom_kills = reply.oom_kills,
            .memory_peak_bytes = reply.memory_peak_bytes,
            .cpu_ns = reply.cpu_ns,
        } },
        _ => .nothing,
    };
}

fn listen(z: *Zygote) void {
    assert(z.fd != sys.none and !z.receiving);
    z.receiving = true;
    z.rights = .{ .bytes = 0 };
    z.iovec = .from(&z.buffer);
    z.message = .{ .parts = @ptrCast(&z.iovec), .parts_count = 1, .control = &z.rights, .control_bytes = @sizeOf(sys.Rights) };
    z.ring.receiveMessage(z.fd, &z.message, .{ .kind = .zygote_receive, .index = 0, .generation = z.generation });
}

fn lose(z: *Zygote) void {
    z.ring.close(z.fd);
    z.fd = sys.none;
    z.closing = false;
    z.generation +%= 1;
    z.connect_after_ns = 0;
}

test "what the zygote says is checked" {
    var reply: frame.ZygoteReply = .{ .kind = .exited, .request = 7, .pid = 9, .status = 256, .oom_kills = 1, .memory_peak_bytes = 4096, .cpu_ns = 11 };
    try std.testing.expectEqual(Heard{ .exited = .{ .request = 7, .pid = 9, .status = 256, .oom_kills = 1, .memory_peak_bytes = 4096, .cpu_ns = 11 } }, decode(std.mem.asBytes(&reply), &.{}));
    try std.testing.expectEqual(Heard.nothing, decode(std.mem.asBytes(&reply)[0..47], &.{}));
    reply.kind = .spawned;
    try std.testing.expectEqual(Heard.nothing, decode(std.mem.asBytes(&reply), &.{}));
    const spawned = decode(std.mem.asBytes(&reply), &.{ 5, 6, 7 }).spawned;
    try std.testing.expectEqual([3]sys.Fd{ 5, 6, 7 }, .{ spawned.pidfd, spawned.memory, spawned.cpu });
    const alone = decode(std.mem.asBytes(&reply), &.{5}).spawned;
    try std.testing.expectEqual([2]sys.Fd{ sys.none, sys.none }, .{ alone.memory, alone.cpu });
    reply.kind = .tripwire;
    try std.testing.expectEqual(Heard.nothing, decode(std.mem.asBytes(&reply), &.{}));
    try std.testing.expectEqual(5, decode(std.mem.asBytes(&reply), &.{5}).tripwire.fd);
    reply.kind = @fromBackingInt(@intCast(200));
    try std.testing.expectEqual(Heard.nothing, decode(std.mem.asBytes(&reply), &.{}));
    reply.magic = 0;
    try std.testing.expectEqual(Heard.nothing, decode(std.mem.asBytes(&reply), &.{}));
}
