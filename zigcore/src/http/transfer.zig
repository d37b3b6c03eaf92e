//! Bytes in and bytes out of a connection: when it is read from, what waits where, what is being sent.
//!
//! Called by http/listener. Backpressure is here: while a request is being served, what comes behind it is kept up to a
//! bound (in the connection's buffer, then in the ring's own), and the socket is not read any further until there is room.
//! The kernel delivers dozens of buffers before it hears that it should stop; to a client that has made use of that once,
//! it delivers one at a time from then on.
//! What always holds: a receive buffer is the kernel's, or in exactly one connection's chain; one send is under way at most.
const std = @import("std");
const assert = std.debug.assert;
const limits = @import("../limits.zig");
const sys = @import("../io/sys.zig");
const Connection = @import("connection.zig");
const Listener = @import("listener.zig");

/// Waiting bytes of a connection whose request is being served: above this it is not read any further.
const waiting_bytes_max = 16 * limits.kib;

// -- Receiving ----------------------------------------------------------------------------------------------------

pub fn receiveArm(l: *Listener, c: *Connection) void {
    assert(!c.receiving and !c.ended);
    c.receiving = true;
    c.receive_cancelled = false;
    l.ring.receive(c.fd, Listener.receive_group, if (c.flooding) .one else .many, l.tagOf(c, .client_receive));
}

/// Reads on, or stops reading when enough waits already.
pub fn receiveContinue(l: *Listener, c: *Connection, no_buffers: bool) void {
    const behind = c.in_end - c.in_start -| c.request_bytes;
    const busy = c.state == .waiting or c.state == .sending;
    const enough = c.held_first != Connection.held_none or busy and behind >= waiting_bytes_max;
    if (c.receiving) {
        if (enough and !c.receive_cancelled) {
            c.receive_cancelled = true;
            l.ring.cancel(l.tagOf(c, .client_receive));
        }
    } else if (!enough and !c.ended) {
        if (no_buffers) starve(l, c) else if (!c.starved) receiveArm(l, c);
    }
}

pub fn starve(l: *Listener, c: *Connection) void {
    if (c.starved) return;
    c.starved = true;
    l.starved[l.starved_count] = @intCast(l.indexOf(c));
    l.starved_count += 1;
}

/// Buffers have come back: those that found none read on, each once per tick.
pub fn feedStarved(l: *Listener) void {
    const count = l.starved_count;
    l.starved_count = 0;
    for (l.starved[0..count]) |index| {
        const c = &l.connections[index];
        c.starved = false;
        switch (c.state) {
            .idle, .head, .body, .waiting, .sending => receiveContinue(l, c, false),
            .lingering => if (!c.receiving and !c.ended) receiveArm(l, c),
            .free, .closing => {},
        }
    }
}

/// Keeps a receive buffer for later. False: more would be held than one connection, or all together, may.
pub fn hold(l: *Listener, c: *Connection, number: u16, bytes: usize) bool {
    if (c.held_count == limits.connection_buffers_held_max or l.held_count == limits.receive_buffers_held_max) return false;
    l.held[number] = .{ .next = Connection.held_none, .bytes = @intCast(bytes) };
    if (c.held_first == Connection.held_none) c.held_first = number else l.held[c.held_last].next = number;
    c.held_last = number;
    c.flooding = true;
    c.held_count += 1;
    l.held_count += 1;
    return true;
}

/// The first of the chain goes back to the kernel.
fn release(l: *Listener, c: *Connection) void {
    const number = c.held_first;
    c.held_first = l.held[number].next;
    c.held_count -= 1;
    l.held_count -= 1;
    assert((c.held_count == 0) == (c.held_first == Connection.held_none));
    l.receive_buffers.giveBack(number);
}

/// Moves held bytes into the connection's buffer as far as they fit.
pub fn unhold(l: *Listener, c: *Connection) void {
    if (c.held_first == Connection.held_none) return;
    while (c.held_first != Connection.held_none) {
        const number = c.held_first;
        const bytes = l.receive_buffers.memory[@as(usize, number) * limits.receive_buffer_bytes ..][0..l.held[number].bytes];
        if (!c.room(bytes.len)) return;
        c.append(bytes);
        release(l, c);
    }
    if (c.state != .closing and c.state != .lingering) receiveContinue(l, c, false);
}

pub fn unholdAll(l: *Listener, c: *Connection) void {
    while (c.held_first != Connection.held_none) release(l, c);
}

// -- Sending ------------------------------------------------------------------------------------------------------

pub fn partsSend(l: *Listener, c: *Connection, parts: []const []const u8) void {
    assert(parts.len >= 1 and parts.len <= 2);
    // "100 Continue" still waits in the socket: it is 25 bytes and its storage is static, so only its turn matters.
    const waits = c.sending;
    assert(!waits or c.continuing);
    for (parts, 0..) |part, at| c.parts[at] = .from(part);
    c.parts_count = @intCast(parts.len);
    if (waits) c.answer_waits = true else partsSubmit(l, c);
}

pub fn partsSubmit(l: *Listener, c: *Connection) void {
    assert(!c.sending);
    c.sending = true;
    if (!l.gathering or l.late_count == l.late.len) return submit(l, c);
    if (l.late_count == 0) l.late_ns = l.now_ns;
    l.late[l.late_count] = @intCast(l.indexOf(c));
    l.late_count += 1;
}

/// Whether no more may be kept back.
pub fn lateEnough(l: *const Listener) bool {
    return l.late_count == l.late.len or l.now_ns - l.late_ns >= limits.answers_late_ns;
}

/// Answers that were kept back for a moment, so that the client is woken once for several. Whoever gathers sends: before
/// it sleeps, and before anything that may take long.
pub fn sendLate(l: *Listener) void {
    for (l.late[0..l.late_count]) |index| {
        const c = &l.connections[index];
        if (c.state != .closing) {
            submit(l, c);
            continue;
        }
        // Its end could cancel nothing yet.
        c.sending = false;
        l.closeDone(c);
    }
    l.late_count = 0;
}

fn submit(l: *Listener, c: *Connection) void {
    if (c.parts_count == 1) {
        l.ring.send(c.fd, c.parts[0].base[0..c.parts[0].len], l.tagOf(c, .client_send));
    } else {
        c.message = .{ .parts = &c.parts, .parts_count = c.parts_count };
        l.ring.sendMessage(c.fd, &c.message, l.tagOf(c, .client_send));
    }
}

/// Counts what has been sent; true when it was all.
pub fn partsAdvance(l: *Listener, c: *Connection, sent_bytes: usize) bool {
    _ = l;
    // An answer replaced "100 Continue" in `parts` while that was on its way: it was sent whole, or the client is odd enough to lose it.
    if (c.continuing and c.answer_waits) return true;
    var left = sent_bytes;
    while (left > 0) {
        const part = &c.parts[0];
        const step = @min(left, part.len);
        part.base += step;
        part.len -= step;
        left -= step;
        if (part.len > 0) break;
        c.parts_count -= 1;
        if (c.parts_count == 0) {
            assert(left == 0);
            return true;
        }
        c.parts[0] = c.parts[1];
    }
    return false;
}
