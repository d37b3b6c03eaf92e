//! The answers of a connection: how each begins and ends, and the gateway's own about bytes that are no request.
//!
//! Called by http/ (refusals) and pool/ (everything else). What always holds: an answer is started only when the one
//! before it has been sent; whether the connection lives on is decided here, once, in `finish`; a refusal is counted
//! like any other answer.
const std = @import("std");
const assert = std.debug.assert;
const limits = @import("../limits.zig");
const Connection = @import("connection.zig");
const Listener = @import("listener.zig");
const Refusal = @import("refusal.zig").Refusal;
const Response = @import("response.zig");
const problem = @import("problem.zig");
const transfer = @import("transfer.zig");

pub fn idNext(l: *Listener) [16]u8 {
    var id: [16]u8 = undefined;
    std.mem.writeInt(u64, id[0..8], l.node, .big);
    std.mem.writeInt(u64, id[8..16], l.counter, .big);
    l.counter +%= 1;
    return id;
}

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

/// Ends the head and sends the answer. What a worker says behind a status that has no content is left out. False: it did
/// not fit (a worker's headers): nothing was sent, answer otherwise.
pub fn finish(l: *Listener, c: *Connection, response: *Response, status: u16, body: Body) bool {
    const bytes: usize = if (!Response.hasContent(status)) 0 else switch (body) {
        .bytes => |bytes| bytes.len,
        .pooled => |bytes| bytes,
    };
    // What is still on its way of this request cannot be told from the next one.
    if (c.state != .waiting) c.linger = !c.ended;
    // A node that drains still answers what it has received.
    const last = c.in_end - c.in_start <= c.request_bytes and c.held_first == Connection.held_none;
    const keep_alive = c.keep_alive and c.state == .waiting and !(l.draining and last);
    if (Response.hasLength(status)) response.headerNumber("Content-Length", bytes);
    if (!keep_alive) response.text("Connection: close\r\n") else if (c.parser.version_minor == 0) response.text("Connection: keep-alive\r\n");
    response.text("\r\n");
    const with_body = Response.hasContent(status) and c.parser.method != .HEAD;
    if (with_body and body == .bytes) response.text(body.bytes);
    if (response.overflow) return false;
    c.keep_alive = keep_alive;
    c.to(.sending);
    c.invocation = null;
    c.send_started_ns = l.now_ns;
    c.sent_bytes = 0;
    l.deadlines.set(l.indexOf(c), l.now_ns + l.options.write_timeout_ns);
    if (with_body and body == .pooled and bytes > 0) {
        transfer.partsSend(l, c, &.{ response.written(), l.bodies.bytes(c.body_buffer.?)[0..bytes] });
    } else {
        transfer.partsSend(l, c, &.{response.written()});
    }
    return true;
}

/// A member of a problem document: the name carries the unit.
pub const Figure = struct { name: []const u8, value: i64 };

/// An answer of the gateway itself about bytes that are no request: problem+json, then the connection ends.
pub fn refuse(l: *Listener, c: *Connection, kind: problem.Type, detail: []const u8, figures: []const Figure) void {
    const id = idNext(l);
    const about = kind.about();
    var buffer: [problem.body_bytes_min]u8 = undefined;
    var body: problem.Body = .init(&buffer, kind, l.options.problem_base_url, &std.fmt.bytesToHex(id, .lower), detail);
    for (figures) |figure| body.integer(figure.name, figure.value);
    var response = begin(l, c, about.status, &id);
    response.header("Content-Type", problem.content_type);
    if (about.retry_after_s) |seconds| response.headerNumber("Retry-After", seconds);
    c.keep_alive = false;
    l.counters.answered(about.status);
    if (!finish(l, c, &response, about.status, .{ .bytes = body.finish() })) l.close(c);
}

pub fn refuseBytes(l: *Listener, c: *Connection, refusal: Refusal) void {
    if (refusal == .body_too_large) return refuseBody(l, c, l.options.body_bytes_max);
    refuse(l, c, switch (refusal.status()) {
        414 => .uri_too_long,
        417 => .expectation_failed,
        431 => .header_fields_too_large,
        501 => .not_implemented,
        505 => .version_not_supported,
        else => .bad_request,
    }, refusal.detail(), if (refusal.allowed()) |allowed| &.{.{ .name = allowed.name, .value = allowed.value }} else &.{});
}

pub fn refuseBody(l: *Listener, c: *Connection, bytes_max: u32) void {
    var buffer: [128]u8 = undefined;
    const detail = std.fmt.bufPrint(&buffer, "The body is larger than the {d} bytes that are allowed here.", .{bytes_max}) catch unreachable;
    const allowed: Figure = .{ .name = "allowed_bytes", .value = bytes_max };
    const used_bytes = c.parser.content_length orelse return refuse(l, c, .content_too_large, detail, &.{allowed});
    refuse(l, c, .content_too_large, detail, &.{ allowed, .{ .name = "used_bytes", .value = std.math.lossyCast(i64, used_bytes) } });
}
