//! The clients of one reactor, from accept to close: what the ring says about them, their time-outs, the drain.
//!
//! Called by the reactor with completions and ticks. Its parts: intake (bytes → request), reply (answer → bytes), transfer
//! (both → the kernel). What always holds: nothing here waits or allocates, a connection's slot is reused only when the
//! kernel has let go of it, and no client can keep one without progress.
const std = @import("std");
const assert = std.debug.assert;
const limits = @import("../limits.zig");
const sys = @import("../io/sys.zig");
const clock = @import("../io/clock.zig");
const Ring = @import("../io/ring.zig");
const Arena = @import("../io/arena.zig");
const Deadlines = @import("../io/deadlines.zig");
const Counters = @import("../meter/counters.zig").Counters;
const Bodies = @import("bodies.zig");
const Connection = @import("connection.zig");
const intake = @import("intake.zig");
const reply = @import("reply.zig");
const transfer = @import("transfer.zig");

const Listener = @This();

ring: *Ring,
fd: sys.Fd,
options: Options,
connections: []Connection,
free: []u16,
free_count: u32,
deadlines: Deadlines,
receive_buffers: Ring.Buffers,
held: []Held,
held_count: u32,
bodies: Bodies,
/// Connections whose receive found no buffer, to be armed again; may name ones that have been closed since.
starved: []u16,
starved_count: u32,
/// Answers are kept back now, and the connections whose answers have been.
gathering: bool = false,
late: [limits.answers_late_max]u16 = undefined,
late_count: u32 = 0,
/// Since when the first of them waits.
late_ns: u64 = 0,
accepting: bool,
accept_again_ns: u64,
draining: bool,
/// Accepts without waiting, after the drain began.
sweeps: u32,
now_ns: u64,
/// First half of every id; the counter is the second.
node: u64,
counter: u64,
date: [clock.date_bytes]u8,
date_until_ns: u64,
date_s: u64,
realtime_offset_ns: u64,
counters: *Counters,

pub const Options = struct {
    connections_max: u32,
    body_bytes_max: u32,
    header_timeout_ns: u64,
    body_timeout_ns: u64,
    idle_timeout_ns: u64,
    write_timeout_ns: u64,
    problem_base_url: []const u8,
};

const Held = struct { next: u16, bytes: u16 };

/// Slots above `connections_max` that only ever answer 503 and close.
const spare_connections = 32;
pub const receive_group = 0;
const accept_tag: Ring.Tag = .{ .kind = .accept, .index = 0, .generation = 0 };
const accept_retry_ns = 100 * limits.ms_ns;
const deadline_granularity_ns = 20 * limits.ms_ns;

pub fn memoryBytes(connections_max: u32) usize {
    const slots: usize = connections_max + spare_connections;
    return slots * (Connection.in_bytes + Connection.out_bytes + @sizeOf(Connection) + 64) +
        Bodies.memory_bytes + limits.receive_buffers_count * (limits.receive_buffer_bytes + 64) + limits.mib;
}

pub fn init(ring: *Ring, fd: sys.Fd, arena: *Arena, options: Options, node: u64, counter_first: u64, counters: *Counters) !Listener {
    assert(options.connections_max >= 1 and options.connections_max <= limits.connections_max);
    const slots = options.connections_max + spare_connections;
    const connections = try arena.take(Connection, slots);
    const free = try arena.take(u16, slots);
    const in = try arena.take(u8, slots * Connection.in_bytes);
    const out = try arena.take(u8, slots * Connection.out_bytes);
    for (connections, 0..) |*c, index| {
        c.state = .free;
        c.generation = 0;
        c.in = in[index * Connection.in_bytes ..][0..Connection.in_bytes];
        c.out = out[index * Connection.out_bytes ..][0..Connection.out_bytes];
        free[slots - 1 - index] = @intCast(index);
    }
    const ring_memory = try arena.takePages(limits.receive_buffers_count * 16);
    const receive_memory = try arena.takePages(limits.receive_buffers_count * limits.receive_buffer_bytes);
    return .{
        .ring = ring,
        .fd = fd,
        .options = options,
        .connections = connections,
        .free = free,
        .free_count = slots,
        .deadlines = .init(try arena.take(u64, slots), deadline_granularity_ns),
        .receive_buffers = try .init(ring, receive_group, ring_memory, receive_memory, limits.receive_buffer_bytes),
        .held = try arena.take(Held, limits.receive_buffers_count),
        .held_count = 0,
        .bodies = .init(try arena.take(u8, Bodies.memory_bytes)),
        .starved = try arena.take(u16, slots),
        .starved_count = 0,
        .accepting = false,
        .accept_again_ns = std.math.maxInt(u64),
        .draining = false,
        .sweeps = 0,
        .now_ns = 0,
        .node = node,
        .counter = counter_first,
        .date = @splat(' '),
        .date_until_ns = 0,
        .date_s = 0,
        .realtime_offset_ns = 0,
        .counters = counters,
    };
}

// -- What the reactor calls ---------------------------------------------------------------------------------------

fn start(l: *Listener) void {
    assert(!l.accepting);
    l.ring.accept(l.fd, accept_tag);
    l.accepting = true;
}

/// Accepts from the next tick on; until then connections wait in the socket's queue.
pub fn listen(l: *Listener) void {
    if (!l.accepting) l.accept_again_ns = 0;
}

/// Now, as the calendar has it: no clock is read for it; a step of the calendar's clock shows within a second.
pub fn realtime(l: *const Listener) u64 {
    return l.now_ns +% l.realtime_offset_ns;
}

/// Once per turn of the loop, before anything else.
pub fn tick(l: *Listener, now_ns: u64) void {
    l.now_ns = now_ns;
    if (now_ns >= l.date_until_ns) {
        const realtime_ns = clock.realtime();
        l.date_s = realtime_ns / limits.s_ns;
        l.realtime_offset_ns = realtime_ns -% now_ns;
        clock.httpDate(realtime_ns, &l.date);
        l.date_until_ns = now_ns + limits.s_ns - realtime_ns % limits.s_ns;
    }
    if (!l.accepting and !l.draining and now_ns >= l.accept_again_ns) l.start();
    if (l.starved_count > 0 and l.receive_buffers.free_count > 0) transfer.feedStarved(l);
}

/// Time-outs of clients. Requests being served have none here.
pub fn expire(l: *Listener) void {
    if (!l.deadlines.due(l.now_ns)) return;
    var expired = l.deadlines.expire(l.now_ns);
    while (expired.next()) |index| {
        const c = &l.connections[index];
        switch (c.state) {
            .free, .waiting, .closing => {},
            // Not closed at once: a request that crosses our end must not be met by a reset.
            .idle => l.lingerStart(c),
            .sending, .lingering => l.close(c),
            .head, .body => {
                if (c.ended) l.close(c) else l.refuseLate(c);
            },
        }
    }
}

fn refuseLate(l: *Listener, c: *Connection) void {
    const head = c.state == .head;
    const allowed_ns = if (head) l.options.header_timeout_ns else intake.bodyTimeout(l, c);
    const detail = if (head) "The head of the request did not arrive in time." else "The body of the request did not arrive in time.";
    reply.refuse(l, c, .request_timeout, detail, &.{.{ .name = "allowed_ms", .value = @intCast(allowed_ns / limits.ms_ns) }});
}

pub fn accepted(l: *Listener, completion: Ring.Completion) void {
    if (completion.flags & Ring.more == 0) {
        l.accepting = false;
        // Out of descriptors or memory, perhaps: not at once again.
        l.accept_again_ns = if (completion.res < 0) l.now_ns + accept_retry_ns else l.now_ns;
        if (l.draining) l.sweep(completion.res);
    }
    if (completion.res >= 0) l.open(completion.res);
}

/// A connected socket becomes a client: accepted, or the host's own.
pub fn open(l: *Listener, fd: sys.Fd) void {
    if (l.free_count == 0) {
        l.counters.add(.connections_refused_total, 1);
        l.ring.close(fd);
        return;
    }
    l.counters.add(.connections_accepted_total, 1);
    l.free_count -= 1;
    const c = &l.connections[l.free[l.free_count]];
    c.open(fd);
    if (l.free_count < spare_connections) {
        l.counters.add(.connections_refused_total, 1);
        transfer.receiveArm(l, c);
        reply.refuse(l, c, .overloaded, "The node's table of connections is full; try again in a second.", &.{});
        return;
    }
    l.idleDeadline(c);
    transfer.receiveArm(l, c);
}

/// A client has pipelined more than can be kept: its connection ends with the answer to the request being served.
fn overflow(l: *Listener, c: *Connection) void {
    // Before a request is complete its bytes fit the connection's own buffer (connection.zig).
    assert(c.state == .waiting or c.state == .sending);
    transfer.unholdAll(l, c);
    c.linger = true;
    c.keep_alive = false;
}

/// The accept was cancelled. Connections that came just before may have woken it and nobody else (waiting in accept is
/// exclusive), so the next gateway, which shares the socket, would not notice them: they are taken here, without waiting.
fn sweep(l: *Listener, result: i32) void {
    if (l.sweeps == 0 or result >= 0 or result == Ring.result_cancelled) {
        if (l.sweeps == limits.drain_sweeps_max or l.free_count <= spare_connections) return;
        l.sweeps += 1;
        l.ring.acceptOne(l.fd, accept_tag);
        l.accepting = true;
    }
}

/// Bytes from a client, or its end. Call `intake.take` until it says none when this returns the connection.
pub fn received(l: *Listener, tag: Ring.Tag, completion: Ring.Completion) ?*Connection {
    const c = &l.connections[tag.index];
    assert(c.generation == tag.generation and c.receiving);
    if (completion.flags & Ring.more == 0) c.receiving = false;
    if (l.receive_buffers.of(completion)) |buffer| {
        if (c.state == .lingering or c.state == .closing or c.linger or buffer.bytes.len == 0) {
            l.receive_buffers.giveBack(buffer.number);
        } else if (c.held_first == Connection.held_none and c.room(buffer.bytes.len)) {
            c.append(buffer.bytes);
            l.receive_buffers.giveBack(buffer.number);
        } else if (!transfer.hold(l, c, buffer.number, buffer.bytes.len)) {
            l.receive_buffers.giveBack(buffer.number);
            l.overflow(c);
        }
    }
    if (completion.res == 0) c.ended = true;
    const broken = completion.res < 0 and completion.res != Ring.result_cancelled and completion.res != Ring.result_no_buffers;
    switch (c.state) {
        .free => unreachable,
        .closing => {
            l.closeDone(c);
            return null;
        },
        .lingering => {
            if (c.ended or broken) l.close(c) else if (!c.receiving) transfer.receiveArm(l, c);
            return null;
        },
        .idle => if (broken or c.ended and c.in_start == c.in_end) {
            l.close(c);
            return null;
        },
        .head, .body, .sending => if (broken) {
            l.close(c);
            return null;
        },
        .waiting => if (broken) {
            // The caller still has to forget the invocation: `take` says so.
            c.ended = true;
            l.closeLater(c);
            return c;
        },
    }
    transfer.receiveContinue(l, c, completion.res == Ring.result_no_buffers);
    return c;
}

pub fn sent(l: *Listener, tag: Ring.Tag, completion: Ring.Completion) ?*Connection {
    const c = &l.connections[tag.index];
    assert(c.generation == tag.generation and c.sending);
    c.sending = false;
    if (c.state == .closing) {
        l.closeDone(c);
        return null;
    }
    if (completion.res <= 0) {
        if (c.state == .waiting) {
            c.ended = true;
            l.closeLater(c);
            return c;
        }
        l.close(c);
        return null;
    }
    if (!transfer.partsAdvance(l, c, @intCast(completion.res))) {
        // A client that reads a few bytes now and then may not keep a large buffer for ever.
        c.sent_bytes += @intCast(completion.res);
        const until_ns = c.send_started_ns + l.options.write_timeout_ns + c.sent_bytes * limits.s_ns / limits.body_bytes_per_s_min;
        l.deadlines.set(l.indexOf(c), @min(until_ns, l.now_ns + l.options.write_timeout_ns));
        transfer.partsSubmit(l, c);
        return null;
    }
    if (c.continuing) {
        c.continuing = false;
        if (c.answer_waits) {
            c.answer_waits = false;
            transfer.partsSubmit(l, c);
        }
        return null;
    }
    assert(c.state == .sending);
    intake.bodyGiveBack(l, c);
    if (c.linger) {
        l.lingerStart(c);
        return null;
    }
    if (!c.keep_alive) {
        // Everything that was asked has been read: no reset can follow, unless more came than was asked for.
        if (c.in_end - c.in_start > c.request_bytes or c.held_first != Connection.held_none) l.lingerStart(c) else l.close(c);
        return null;
    }
    c.to(.idle);
    c.requestDrop();
    c.requestReset();
    l.idleDeadline(c);
    transfer.receiveContinue(l, c, false);
    return c;
}

pub fn shutdownDone(l: *Listener, tag: Ring.Tag) void {
    const c = &l.connections[tag.index];
    assert(c.generation == tag.generation and c.shutting);
    c.shutting = false;
    if (c.state == .closing) l.closeDone(c);
}

/// No new connections. Each that is there ends with its next answer (`Connection: close`), or after a grace without a
/// request: one may be on its way, and ending the connection now would lose it.
pub fn drain(l: *Listener) void {
    if (l.draining) return;
    l.draining = true;
    if (l.accepting) l.ring.cancel(accept_tag);
    for (l.connections) |*c| if (c.state == .idle) l.idleDeadline(c);
}

/// A connection waits for a request.
fn idleDeadline(l: *Listener, c: *const Connection) void {
    assert(c.state == .idle);
    l.deadlines.set(l.indexOf(c), l.now_ns + if (l.draining) limits.drain_grace_ns else l.options.idle_timeout_ns);
}

/// Whether no connection is left.
pub fn empty(l: *const Listener) bool {
    return l.free_count == l.connections.len;
}

// -- Ends ---------------------------------------------------------------------------------------------------------

/// Our side is done; the client gets the time to read the answer and to stop sending.
fn lingerStart(l: *Listener, c: *Connection) void {
    if (c.ended) return l.close(c);
    c.to(.lingering);
    transfer.unholdAll(l, c);
    c.shutting = true;
    l.ring.shutdownWrites(c.fd, l.tagOf(c, .client_shutdown));
    if (!c.receiving and !c.starved) transfer.receiveArm(l, c);
    l.deadlines.set(l.indexOf(c), l.now_ns + limits.linger_timeout_ns);
}

pub fn close(l: *Listener, c: *Connection) void {
    assert(c.invocation == null);
    l.closeLater(c);
    l.closeDone(c);
}

/// Stops everything; the slot is freed by the last completion, or by `forgotten`.
fn closeLater(l: *Listener, c: *Connection) void {
    c.to(.closing);
    l.deadlines.clear(l.indexOf(c));
    transfer.unholdAll(l, c);
    if (c.receiving and !c.receive_cancelled) l.ring.cancel(l.tagOf(c, .client_receive));
    if (c.sending) l.ring.cancel(l.tagOf(c, .client_send));
}

/// After `Step.gone`: the caller has forgotten the connection.
pub fn forgotten(l: *Listener, c: *Connection) void {
    assert(c.state == .closing);
    c.invocation = null;
    l.closeDone(c);
}

pub fn closeDone(l: *Listener, c: *Connection) void {
    assert(c.state == .closing);
    if (c.operationsLeft() or c.invocation != null) return;
    intake.bodyGiveBack(l, c);
    l.ring.close(c.fd);
    c.to(.free);
    c.generation +%= 1;
    l.free[l.free_count] = @intCast(l.indexOf(c));
    l.free_count += 1;
}

pub fn indexOf(l: *const Listener, c: *const Connection) u32 {
    return @intCast((@intFromPtr(c) - @intFromPtr(l.connections.ptr)) / @sizeOf(Connection));
}

pub fn tagOf(l: *const Listener, c: *const Connection, kind: Ring.Kind) Ring.Tag {
    return .{ .kind = kind, .index = @intCast(l.indexOf(c)), .generation = c.generation };
}
