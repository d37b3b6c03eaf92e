//! The clients of one reactor: accepts, receives, answers, times out. Drives http/connection through the ring.
//!
//! Called by the reactor with completions and ticks; tells it by `Step` what it must do about a connection (check a head,
//! serve a request, forget an invocation whose client is gone). What always holds: nothing here waits or allocates, a
//! connection's slot is reused only when the kernel has let go of it, and no client can keep one without progress.
const std = @import("std");
const assert = std.debug.assert;
const limits = @import("../limits.zig");
const sys = @import("../io/sys.zig");
const clock = @import("../io/clock.zig");
const Ring = @import("../io/ring.zig");
const Arena = @import("../io/arena.zig");
const Deadlines = @import("../io/deadlines.zig");
const Bodies = @import("bodies.zig");
const Connection = @import("connection.zig");
const Decoder = @import("body.zig").Decoder;
const Refusal = @import("refusal.zig").Refusal;
const Response = @import("response.zig");
const problem = @import("problem.zig");
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
counts: Counts,

pub const Options = struct {
    connections_max: u32,
    body_bytes_max: u32,
    header_timeout_ns: u64,
    body_timeout_ns: u64,
    idle_timeout_ns: u64,
    write_timeout_ns: u64,
    problem_base_url: []const u8,
};

pub const Counts = struct {
    accepted: u64 = 0,
    refused_full: u64 = 0,
    bad_requests: u64 = 0,
    timeouts: u64 = 0,
};

const Held = struct { next: u16, bytes: u16 };

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

pub fn init(ring: *Ring, fd: sys.Fd, arena: *Arena, options: Options, node: u64, counter_first: u64) !Listener {
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
        .accept_again_ns = 0,
        .draining = false,
        .sweeps = 0,
        .now_ns = 0,
        .node = node,
        .counter = counter_first,
        .date = @splat(' '),
        .date_until_ns = 0,
        .date_s = 0,
        .counts = .{},
    };
}

// -- What the reactor calls ---------------------------------------------------------------------------------------

pub fn start(l: *Listener) void {
    assert(!l.accepting);
    l.ring.accept(l.fd, accept_tag);
    l.accepting = true;
}

/// Once per turn of the loop, before anything else.
pub fn tick(l: *Listener, now_ns: u64) void {
    l.now_ns = now_ns;
    if (now_ns >= l.date_until_ns) {
        const realtime_ns = clock.realtime();
        l.date_s = realtime_ns / limits.s_ns;
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
                l.counts.timeouts += 1;
                if (c.ended) l.close(c) else l.refuse(c, .request_timeout, if (c.state == .head)
                    "The head of the request did not arrive in time."
                else
                    "The body of the request did not arrive in time.");
            },
        }
    }
}

pub fn accepted(l: *Listener, completion: Ring.Completion) void {
    if (completion.flags & Ring.more == 0) {
        l.accepting = false;
        // Out of descriptors or memory, perhaps: not at once again.
        l.accept_again_ns = if (completion.res < 0) l.now_ns + accept_retry_ns else l.now_ns;
        if (l.draining) l.sweep(completion.res);
    }
    if (completion.res < 0) return;
    const fd: sys.Fd = completion.res;
    if (l.free_count == 0) {
        l.counts.refused_full += 1;
        l.ring.close(fd);
        return;
    }
    l.counts.accepted += 1;
    l.free_count -= 1;
    const c = &l.connections[l.free[l.free_count]];
    c.open(fd);
    if (l.free_count < spare_connections) {
        l.counts.refused_full += 1;
        transfer.receiveArm(l, c);
        l.refuse(c, .overloaded, "The node's table of connections is full; try again in a second.");
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

/// Bytes from a client, or its end. Call `take` until it says none when this returns the connection.
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
            .head => if (l.takeHead(c)) |step| return step,
            .body => if (l.takeBody(c)) |step| return step,
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
    if ((c.parser.content_length orelse 0) > bytes_max) return l.refuseBody(c, bytes_max);
    if (c.body_kind == .decoded) {
        c.decoder = .init(if (c.parser.chunked) .chunked else .{ .fixed = c.parser.content_length.? }, bytes_max);
        // Decoding in place needs the request at the start of the buffer.
        const used = c.in_end - c.in_start;
        @memmove(c.in[0..used], c.in[c.in_start..c.in_end]);
        c.in_start = 0;
        c.in_end = used;
        if (!c.parser.chunked and !l.bodyTake(c)) return;
    }
    if (c.parser.expect_continue and c.in_end - c.in_start == c.head_bytes) {
        c.continuing = true;
        transfer.partsSend(l, c, &.{"HTTP/1.1 100 Continue\r\n\r\n"});
    }
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
        l.deadlines.set(l.indexOf(c), l.now_ns + l.options.write_timeout_ns);
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
    l.bodyGiveBack(c);
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

pub fn idNext(l: *Listener) [16]u8 {
    var id: [16]u8 = undefined;
    std.mem.writeInt(u64, id[0..8], l.node, .big);
    std.mem.writeInt(u64, id[8..16], l.counter, .big);
    l.counter +%= 1;
    return id;
}

// -- Answers ------------------------------------------------------------------------------------------------------

/// Starts an answer's head: status line, Date, request id. The caller adds its headers, then calls `finish`.
pub fn begin(l: *Listener, c: *Connection, status: u16, id: *const [16]u8) Response {
    assert(!c.sending or c.continuing);
    var response: Response = .init(c.out);
    response.statusLine(status);
    response.header("Date", &l.date);
    response.requestId(id);
    return response;
}

pub const Body = union(enum) {
    /// Copied behind the head.
    bytes: []const u8,
    /// `c.body_buffer` holds it.
    pooled: u32,
};

/// Ends the head and sends the answer. False: it did not fit (a worker's headers): nothing was sent, answer otherwise.
pub fn finish(l: *Listener, c: *Connection, response: *Response, status: u16, body: Body) bool {
    const bytes: usize = switch (body) {
        .bytes => |bytes| bytes.len,
        .pooled => |bytes| bytes,
    };
    // What is still on its way of this request cannot be told from the next one.
    if (c.state != .waiting) c.linger = !c.ended;
    // A node that drains still answers what it has received.
    const last = c.in_end - c.in_start <= c.request_bytes and c.held_first == Connection.held_none;
    const keep_alive = c.keep_alive and c.state == .waiting and !(l.draining and last);
    if (Response.hasBody(status)) response.headerNumber("Content-Length", bytes);
    if (!keep_alive) response.text("Connection: close\r\n") else if (c.parser.version_minor == 0) response.text("Connection: keep-alive\r\n");
    response.text("\r\n");
    const with_body = Response.hasBody(status) and c.parser.method != .HEAD;
    if (with_body and body == .bytes) response.text(body.bytes);
    if (response.overflow) return false;
    c.keep_alive = keep_alive;
    c.to(.sending);
    c.invocation = null;
    l.deadlines.set(l.indexOf(c), l.now_ns + l.options.write_timeout_ns);
    if (with_body and body == .pooled and bytes > 0) {
        c.body_bytes = @intCast(bytes);
        c.body_started_ns = l.now_ns;
        transfer.partsSend(l, c, &.{ response.written(), l.bodies.bytes(c.body_buffer.?)[0..bytes] });
    } else {
        transfer.partsSend(l, c, &.{response.written()});
    }
    return true;
}

/// An answer of the gateway itself about bytes that are no request: problem+json, then the connection ends.
pub fn refuse(l: *Listener, c: *Connection, kind: problem.Type, detail: []const u8) void {
    const id = l.idNext();
    const about = kind.about();
    var buffer: [problem.body_bytes_min]u8 = undefined;
    var body: problem.Body = .init(&buffer, kind, l.options.problem_base_url, &std.fmt.bytesToHex(id, .lower), detail);
    var response = l.begin(c, about.status, &id);
    response.header("Content-Type", problem.content_type);
    if (about.retry_after_s) |seconds| response.headerNumber("Retry-After", seconds);
    c.keep_alive = false;
    if (!l.finish(c, &response, about.status, .{ .bytes = body.finish() })) l.close(c);
}

pub fn refuseBytes(l: *Listener, c: *Connection, refusal: Refusal) void {
    l.counts.bad_requests += 1;
    l.refuse(c, switch (refusal.status()) {
        413 => .content_too_large,
        414 => .uri_too_long,
        417 => .expectation_failed,
        431 => .header_fields_too_large,
        501 => .not_implemented,
        505 => .version_not_supported,
        else => .bad_request,
    }, refusal.detail());
}

fn refuseBody(l: *Listener, c: *Connection, bytes_max: u32) void {
    l.counts.bad_requests += 1;
    var buffer: [128]u8 = undefined;
    const detail = std.fmt.bufPrint(&buffer, "The body is larger than the {d} bytes that are allowed here.", .{bytes_max}) catch unreachable;
    l.refuse(c, .content_too_large, detail);
}

/// Takes a pool buffer for the connection; false: none is left, and the client has been told.
fn bodyTake(l: *Listener, c: *Connection) bool {
    assert(c.body_buffer == null);
    c.body_buffer = l.bodyBuffer() orelse {
        l.refuse(c, .overloaded, "All buffers for large bodies are in use; try again in a second.");
        return false;
    };
    return true;
}

/// A buffer for a large body. When few are left, the client that moves its own body most slowly gives way: clients that
/// send or read a byte now and then must not keep everybody's buffers.
pub fn bodyBuffer(l: *Listener) ?u16 {
    if (l.bodies.free_count <= limits.body_buffers_spare_count) l.bodyReclaim();
    return l.bodies.take();
}

fn bodyReclaim(l: *Listener) void {
    var slowest: ?*Connection = null;
    var slowest_rate: u64 = std.math.maxInt(u64);
    for (l.connections) |*c| {
        if (c.body_buffer == null or c.state != .body and c.state != .sending) continue;
        const held_ns = l.now_ns -| c.body_started_ns;
        if (held_ns < limits.body_buffer_hold_ns) continue;
        const rate = @as(u64, c.bodyMoved()) * limits.s_ns / held_ns;
        if (rate < slowest_rate) {
            slowest = c;
            slowest_rate = rate;
        }
    }
    const c = slowest orelse return;
    l.counts.timeouts += 1;
    if (c.state == .sending) return l.close(c); // Its buffer comes back when the kernel has let go of it.
    l.bodyGiveBack(c);
    if (c.ended) l.close(c) else l.refuse(c, .request_timeout, "The body arrived more slowly than others that needed its place.");
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

// -- Requests -----------------------------------------------------------------------------------------------------

fn takeHead(l: *Listener, c: *Connection) ?Step {
    switch (c.parser.parse(c.received())) {
        .incomplete => {
            if (c.held_first != Connection.held_none) return null;
            if (!c.ended) return .none;
            l.close(c);
            return .none;
        },
        .refused => |refusal| {
            l.refuseBytes(c, refusal);
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
                    if (c.in_end - c.in_start >= head_bytes + length) return l.requestComplete(c);
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
        .plain => if (c.in_end - c.in_start >= c.head_bytes + c.body_bytes) return l.requestComplete(c),
        .decoded => switch (c.decode(if (c.body_buffer) |number| l.bodies.bytes(number) else null)) {
            .more => {},
            .done => return l.requestComplete(c),
            .refused => |refusal| {
                if (refusal == .body_too_large) l.refuseBody(c, @intCast(c.decoder.body_bytes_max)) else l.refuseBytes(c, refusal);
                return .none;
            },
            .full => {
                if (!l.bodyTake(c)) return .none;
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
    const bonus_ns = @as(u64, c.body_bytes) * limits.s_ns / limits.body_bytes_per_s_min;
    l.deadlines.set(l.indexOf(c), c.body_started_ns + l.options.body_timeout_ns + if (c.body_kind == .decoded) bonus_ns else 0);
    return .none;
}

fn requestComplete(l: *Listener, c: *Connection) Step {
    c.request_bytes = c.head_bytes + if (c.body_buffer == null and c.body_kind != .none) c.body_bytes else 0;
    c.to(.waiting);
    l.deadlines.clear(l.indexOf(c));
    return .request;
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

fn closeDone(l: *Listener, c: *Connection) void {
    assert(c.state == .closing);
    if (c.operationsLeft() or c.invocation != null) return;
    l.bodyGiveBack(c);
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
