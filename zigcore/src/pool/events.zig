//! What happened, from one reactor to the Python host: a ring of bytes with one writer and one reader.
//!
//! The reactor pushes (`push`) and once per batch asks whether to raise the host's eventfd (`flush`); the host's thread
//! drains whole events (`drain`, from zc_gateway_events). Neither waits for the other.
//! When the host is slow: logs are dropped and counted, and a `lost` event with their number follows. The last part of
//! the ring is kept for what must arrive (ready, start_failed, exited, drained): no worker is started while it is small
//! (`startAllowed`), so what can still happen fits. Of these, only a payload may be lost, and the event says so.
const std = @import("std");
const assert = std.debug.assert;
const limits = @import("../limits.zig");
const pages = @import("../io/pages.zig");

/// zc_event in zigcore.h.
pub const Event = extern struct {
    bytes: u32,
    kind: Kind,
    stream: u16,
    version: u32,
    payload_bytes: u32,
    time_ns: u64,
    invocation_id: [16]u8,
    pid: i32,
    status: i32,
};

pub const Kind = enum(u16) { ready = 1, start_failed = 2, log = 3, exited = 4, drained = 5, lost = 6, _ };

comptime {
    assert(@sizeOf(Event) == 48);
    assert(limits.event_bytes_max >= @sizeOf(Event) + limits.frame_bytes_max);
    assert(std.math.isPowerOfTwo(limits.events_bytes));
    // Every worker of a reactor can say that it is ready or not, and exit, while the host does not drain at all.
    const worker_bytes = @sizeOf(Event) + std.mem.alignForward(usize, payload_lost.len, 8) + @sizeOf(Event);
    assert(limits.workers_max * worker_bytes + @sizeOf(Event) <= limits.events_header_reserve_bytes);
}

pub const payload_bytes_max = limits.event_bytes_max - @sizeOf(Event);

/// Stands in for a payload that found no room.
pub const payload_lost = "{\"type\":\"PayloadLost\",\"message\":\"the ring of events was full: the host does not drain it\",\"traceback\":\"\"}";

pub const Options = struct {
    kind: Kind,
    /// CLOCK_REALTIME
    time_ns: u64,
    stream: u16 = 0,
    version: u32 = 0,
    invocation_id: [16]u8 = @splat(0),
    pid: i32 = 0,
    status: i32 = 0,
};

/// All-zero is empty.
pub const Ring = struct {
    bytes: [limits.events_bytes]u8,
    /// Bytes ever written and made visible; the reactor's.
    written: std.atomic.Value(u64) align(64),
    /// Bytes ever read; the host's.
    read: std.atomic.Value(u64) align(64),
    /// The reactor's own, from here on.
    tail: u64 align(64),
    flushed: u64,
    dropped: u64,
    /// Dropped logs since the start, for the metrics.
    dropped_total: u64,

    pub fn create() error{OutOfMemory}!*Ring {
        return pages.create(Ring);
    }

    pub fn destroy(ring: *Ring) void {
        pages.destroy(Ring, ring);
    }

    /// The reactor's. A log that finds no room is dropped and counted; a payload longer than `payload_bytes_max` is cut
    /// (logs) or replaced. false: the event itself was dropped.
    pub fn push(ring: *Ring, options: Options, payload: []const u8) bool {
        switch (options.kind) {
            .log => {
                ring.lostPush(options.time_ns);
                const cut = payload[0..@min(payload.len, payload_bytes_max)];
                // While some are lost the order must show it: no log passes the event that tells.
                if (ring.dropped == 0 and ring.write(options, cut, limits.events_reserve_bytes)) return true;
                ring.dropped += 1;
                @atomicStore(u64, &ring.dropped_total, ring.dropped_total + 1, .monotonic);
                return false;
            },
            .ready, .start_failed, .exited, .drained => {
                if (payload.len <= payload_bytes_max and
                    ring.write(options, payload, if (payload.len == 0) 0 else limits.events_header_reserve_bytes)) return true;
                const substitute = if (payload.len == 0) payload else payload_lost;
                return ring.write(options, substitute, 0);
            },
            .lost, _ => unreachable, // Pushed by the ring alone.
        }
    }

    /// The reactor's, once per batch. true: raise the host's eventfd.
    pub fn flush(ring: *Ring, time_ns: u64) bool {
        ring.lostPush(time_ns);
        if (ring.flushed == ring.tail) return false;
        ring.flushed = ring.tail;
        return true;
    }

    /// The reactor's, before a worker is started: is there room for what will have to be said about it?
    pub fn startAllowed(ring: *const Ring) bool {
        return ring.free() >= limits.events_reserve_bytes / 2;
    }

    /// The host's. Moves whole events into `buffer`; 0: none, or the next one does not fit (a buffer of
    /// `limits.event_bytes_max` always holds one).
    pub fn drain(ring: *Ring, buffer: []u8) usize {
        const written = ring.written.load(.acquire);
        const start = ring.read.raw;
        var at = start;
        while (at != written) {
            var event_bytes: u32 = undefined;
            ring.copyOut(at, std.mem.asBytes(&event_bytes));
            assert(event_bytes >= @sizeOf(Event) and event_bytes <= limits.event_bytes_max and event_bytes % 8 == 0);
            if (at - start + event_bytes > buffer.len) break;
            ring.copyOut(at, buffer[@intCast(at - start)..][0..event_bytes]);
            at += event_bytes;
        }
        ring.read.store(at, .release);
        return @intCast(at - start);
    }

    fn lostPush(ring: *Ring, time_ns: u64) void {
        if (ring.dropped == 0) return;
        const count: i32 = @intCast(@min(ring.dropped, std.math.maxInt(i32)));
        // Room for this event and a log after it, or the next log would only be the next one lost.
        const room = limits.events_reserve_bytes + limits.event_bytes_max;
        if (ring.write(.{ .kind = .lost, .time_ns = time_ns, .status = count }, "", room)) ring.dropped = 0;
    }

    fn free(ring: *const Ring) u64 {
        return limits.events_bytes - (ring.tail - ring.read.load(.acquire));
    }

    /// Writes if at least `keep_bytes` stay free afterwards.
    fn write(ring: *Ring, options: Options, payload: []const u8, keep_bytes: u64) bool {
        assert(payload.len <= payload_bytes_max);
        const bytes = std.mem.alignForward(usize, @sizeOf(Event) + payload.len, 8);
        assert(bytes <= limits.event_bytes_max);
        if (ring.free() < bytes + keep_bytes) return false;
        const event: Event = .{
            .bytes = @intCast(bytes),
            .kind = options.kind,
            .stream = options.stream,
            .version = options.version,
            .payload_bytes = @intCast(payload.len),
            .time_ns = options.time_ns,
            .invocation_id = options.invocation_id,
            .pid = options.pid,
            .status = options.status,
        };
        ring.copyIn(ring.tail, std.mem.asBytes(&event));
        ring.copyIn(ring.tail + @sizeOf(Event), payload);
        ring.tail += bytes;
        ring.written.store(ring.tail, .release);
        return true;
    }

    fn copyIn(ring: *Ring, position: u64, source: []const u8) void {
        const at: usize = @intCast(position % limits.events_bytes);
        const first = @min(source.len, limits.events_bytes - at);
        @memcpy(ring.bytes[at..][0..first], source[0..first]);
        @memcpy(ring.bytes[0 .. source.len - first], source[first..]);
    }

    fn copyOut(ring: *const Ring, position: u64, target: []u8) void {
        const at: usize = @intCast(position % limits.events_bytes);
        const first = @min(target.len, limits.events_bytes - at);
        @memcpy(target[0..first], ring.bytes[at..][0..first]);
        @memcpy(target[first..], ring.bytes[0 .. target.len - first]);
    }
};

const testing = std.testing;

const Reader = struct {
    bytes: []const u8,

    fn next(r: *Reader) ?struct { Event, []const u8 } {
        if (r.bytes.len == 0) return null;
        var event: Event = undefined;
        @memcpy(std.mem.asBytes(&event), r.bytes[0..@sizeOf(Event)]);
        const payload = r.bytes[@sizeOf(Event)..][0..event.payload_bytes];
        r.bytes = r.bytes[event.bytes..];
        return .{ event, payload };
    }
};

test "events come out as they went in, across the end of the ring" {
    const ring = try Ring.create();
    defer ring.destroy();
    var random = std.Random.DefaultPrng.init(7);
    var payload: [payload_bytes_max]u8 = undefined;
    for (&payload, 0..) |*byte, i| byte.* = @truncate(i *% 31);
    const buffer = try testing.allocator.alloc(u8, limits.events_bytes);
    defer testing.allocator.free(buffer);
    var sent: u32 = 0;
    var received: u32 = 0;
    while (sent < 2000) {
        for (0..random.random().uintLessThan(usize, 20)) |_| {
            const bytes = random.random().uintLessThan(usize, payload.len + 1);
            try testing.expect(ring.push(.{ .kind = .log, .time_ns = sent, .version = sent, .stream = 1 }, payload[0..bytes]));
            sent += 1;
        }
        _ = ring.flush(0);
        var reader: Reader = .{ .bytes = buffer[0..ring.drain(buffer)] };
        while (reader.next()) |item| {
            const event, const got = item;
            try testing.expectEqual(received, event.version);
            try testing.expectEqual(Kind.log, event.kind);
            try testing.expectEqualSlices(u8, payload[0..got.len], got);
            received += 1;
        }
    }
    try testing.expectEqual(sent, received);
    try testing.expect(ring.written.raw > 3 * limits.events_bytes);
}

test "the eventfd is raised once per batch and not for nothing" {
    const ring = try Ring.create();
    defer ring.destroy();
    try testing.expect(!ring.flush(0));
    for (0..3) |_| try testing.expect(ring.push(.{ .kind = .log, .time_ns = 1 }, "x"));
    try testing.expect(ring.flush(0));
    try testing.expect(!ring.flush(0));
}

test "a full ring drops logs, counts them, says so, and still takes what must arrive" {
    const ring = try Ring.create();
    defer ring.destroy();
    const line: [1000]u8 = @splat('x');
    var kept: u32 = 0;
    while (ring.push(.{ .kind = .log, .time_ns = 1 }, &line)) kept += 1;
    for (0..9) |_| try testing.expect(!ring.push(.{ .kind = .log, .time_ns = 1 }, "short"));
    try testing.expect(kept > 2000);
    try testing.expect(ring.startAllowed());

    const big: [payload_bytes_max]u8 = @splat('r');
    var ready: u32 = 0;
    while (ring.startAllowed()) : (ready += 1) try testing.expect(ring.push(.{ .kind = .ready, .time_ns = 2 }, &big));
    // Every worker of the reactor becomes ready with the largest payload, then exits, and nobody drains.
    for (0..limits.workers_max) |_| try testing.expect(ring.push(.{ .kind = .ready, .time_ns = 3 }, &big));
    for (0..limits.workers_max) |_| try testing.expect(ring.push(.{ .kind = .exited, .time_ns = 4 }, ""));
    try testing.expect(ring.push(.{ .kind = .drained, .time_ns = 5 }, ""));
    try testing.expect(!ring.startAllowed());

    const buffer = try testing.allocator.alloc(u8, limits.events_bytes);
    defer testing.allocator.free(buffer);
    var counts: [7]u32 = @splat(0);
    var substituted: u32 = 0;
    var reader: Reader = .{ .bytes = buffer[0..ring.drain(buffer)] };
    while (reader.next()) |item| {
        counts[@backingInt(item[0].kind)] += 1;
        substituted += @intFromBool(std.mem.eql(u8, item[1], payload_lost));
    }
    try testing.expectEqual(kept, counts[@backingInt(Kind.log)]);
    try testing.expectEqual(ready + limits.workers_max, counts[@backingInt(Kind.ready)]);
    try testing.expect(substituted > 0 and substituted < limits.workers_max);
    try testing.expectEqual(limits.workers_max, counts[@backingInt(Kind.exited)]);
    try testing.expectEqual(1, counts[@backingInt(Kind.drained)]);
    try testing.expectEqual(0, counts[@backingInt(Kind.lost)]);

    try testing.expect(ring.flush(6));
    reader = .{ .bytes = buffer[0..ring.drain(buffer)] };
    const lost, _ = reader.next().?;
    try testing.expectEqual(Kind.lost, lost.kind);
    try testing.expectEqual(10, lost.status);
    try testing.expectEqual(10, ring.dropped_total);
    try testing.expectEqual(null, reader.next());
    try testing.expect(ring.push(.{ .kind = .log, .time_ns = 7 }, "again"));
}

test "a small buffer gets whole events only, an oversized payload is cut or replaced" {
    const ring = try Ring.create();
    defer ring.destroy();
    const huge: [payload_bytes_max + 100]u8 = @splat('h');
    try testing.expect(ring.push(.{ .kind = .log, .time_ns = 1 }, &huge));
    try testing.expect(ring.push(.{ .kind = .ready, .time_ns = 1 }, &huge));
    var buffer: [limits.event_bytes_max]u8 = undefined;
    try testing.expectEqual(0, ring.drain(buffer[0..100]));
    try testing.expectEqual(limits.event_bytes_max, ring.drain(&buffer));
    var reader: Reader = .{ .bytes = buffer[0..ring.drain(&buffer)] };
    try testing.expectEqualStrings(payload_lost, reader.next().?[1]);
    try testing.expectEqual(null, reader.next());
}

test "one writer and one reader in two threads" {
    const ring = try Ring.create();
    defer ring.destroy();
    const total = 50_000;
    const Writer = struct {
        fn run(shared: *Ring) void {
            var i: u32 = 0;
            while (i < total) {
                if (shared.push(.{ .kind = .exited, .time_ns = 0, .version = i }, std.mem.asBytes(&i)[0 .. i % 5])) i += 1;
                _ = shared.flush(0);
            }
        }
    };
    const thread = try std.Thread.spawn(.{}, Writer.run, .{ring});
    const buffer = try testing.allocator.alloc(u8, limits.event_bytes_max);
    defer testing.allocator.free(buffer);
    var expected: u32 = 0;
    while (expected < total) {
        var reader: Reader = .{ .bytes = buffer[0..ring.drain(buffer)] };
        while (reader.next()) |item| {
            // A payload is replaced only when the header reserve is reached, and then the version still counts up.
            try testing.expectEqual(expected, item[0].version);
            expected += 1;
        }
    }
    thread.join();
}
