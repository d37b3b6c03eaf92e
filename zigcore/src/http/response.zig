//! Writes the head of an answer, byte by byte, and judges headers that come from a worker.
//!
//! Why its own writer: no formatting machinery on the hot path; what does not fit is an error that the caller answers.
//! Called by connection (our own answers) and pool/answer (a worker's). What always holds: nothing that a worker chose
//! reaches a client without having passed `workerHeader`: token names, values without control bytes, none of ours.
const std = @import("std");
const assert = std.debug.assert;
const cookies = @import("cookies.zig");

const Response = @This();

buffer: []u8,
at: usize = 0,
/// Something did not fit; the answer must not be sent.
overflow: bool = false,

pub fn init(buffer: []u8) Response {
    return .{ .buffer = buffer };
}

pub fn text(r: *Response, bytes: []const u8) void {
    if (r.buffer.len - r.at < bytes.len) {
        r.overflow = true;
        return;
    }
    @memcpy(r.buffer[r.at..][0..bytes.len], bytes);
    r.at += bytes.len;
}

pub fn number(r: *Response, value: u64) void {
    var digits: [20]u8 = undefined;
    var at: usize = digits.len;
    var rest = value;
    while (true) {
        at -= 1;
        digits[at] = '0' + @as(u8, @intCast(rest % 10));
        rest /= 10;
        if (rest == 0) break;
    }
    r.text(digits[at..]);
}

pub fn statusLine(r: *Response, status: u16) void {
    assert(status >= 100 and status <= 999);
    if (status == 200) return r.text("HTTP/1.1 200 OK\r\n");
    r.text("HTTP/1.1 ");
    r.number(status);
    r.text(" ");
    r.text(reason(status));
    r.text("\r\n");
}

/// For names and values of our own.
pub fn header(r: *Response, name: []const u8, value: []const u8) void {
    r.text(name);
    r.text(": ");
    r.text(value);
    r.text("\r\n");
}

/// For a header that `workerHeader` lets through. Names that came in lower case are written as ours are.
pub fn headerOfWorker(r: *Response, name: []const u8, value: []const u8) void {
    const at = r.at;
    r.header(name, value);
    if (r.overflow) return;
    const written_name = r.buffer[at..][0..name.len];
    for (written_name) |byte| if (std.ascii.isUpper(byte)) return;
    for (written_name, 0..) |*byte, place| {
        if (place == 0 or written_name[place - 1] == '-') byte.* = std.ascii.toUpper(byte.*);
    }
}

pub fn headerNumber(r: *Response, name: []const u8, value: u64) void {
    r.text(name);
    r.text(": ");
    r.number(value);
    r.text("\r\n");
}

/// RFC 8288. `url` has been asked `isUrl`.
pub fn link(r: *Response, url: []const u8, relation: []const u8) void {
    r.text("Link: <");
    r.text(url);
    r.text(">; rel=\"");
    r.text(relation);
    r.text("\"\r\n");
}

/// Whether it can stand in a Link header: visible ASCII without angle brackets.
pub fn isUrl(url: []const u8) bool {
    for (url) |byte| if (byte <= ' ' or byte > '~' or byte == '<' or byte == '>') return false;
    return url.len > 0;
}

pub fn requestId(r: *Response, id: *const [16]u8) void {
    const hex = std.fmt.bytesToHex(id, .lower);
    r.header("Tailcut-Request-Id", &hex);
}

pub fn written(r: *const Response) []u8 {
    return r.buffer[0..r.at];
}

pub const Verdict = enum { send, drop, invalid };

/// Whether a header from a worker may go out. `invalid` answers are the function's fault and refused whole.
pub fn workerHeader(name: []const u8, value: []const u8) Verdict {
    if (name.len == 0 or name.len > 256) return .invalid;
    for (name) |byte| if (!tokenByte(byte)) return .invalid;
    for (value) |byte| if (byte < ' ' and byte != '\t' or byte == 0x7f) return .invalid;
    if (reserved(name)) return .drop;
    if (std.ascii.eqlIgnoreCase(name, "set-cookie") and cookies.isOurs(value)) return .drop;
    return .send;
}

/// Ours to say, or of one connection only (RFC 9110 section 7.6.1).
fn reserved(name: []const u8) bool {
    const equal = std.ascii.eqlIgnoreCase;
    return switch (name[0] | 0x20) {
        'c' => equal(name, "connection") or equal(name, "content-length"),
        'd' => equal(name, "date"),
        'k' => equal(name, "keep-alive"),
        'p' => equal(name, "proxy-connection"),
        'r' => std.ascii.startsWithIgnoreCase(name, "ratelimit"),
        't' => equal(name, "transfer-encoding") or equal(name, "te") or equal(name, "trailer") or
            std.ascii.startsWithIgnoreCase(name, "tailcut-"),
        'u' => equal(name, "upgrade"),
        else => false,
    };
}

fn tokenByte(byte: u8) bool {
    return switch (byte) {
        'a'...'z', 'A'...'Z', '0'...'9', '!', '#', '$', '%', '&', '\'', '*', '+', '-', '.', '^', '_', '`', '|', '~' => true,
        else => false,
    };
}

/// Whether an answer of this status has a length (RFC 9112 section 6.3): readers of the others wait for no body.
pub fn hasLength(status: u16) bool {
    return status >= 200 and status != 204 and status != 304;
}

/// Whether it may have content: 205 has a length, and it is 0 (RFC 9110 section 15.3.6).
pub fn hasContent(status: u16) bool {
    return hasLength(status) and status != 205;
}

pub fn reason(status: u16) []const u8 {
    return switch (status) {
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        205 => "Reset Content",
        206 => "Partial Content",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        402 => "Payment Required",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        409 => "Conflict",
        410 => "Gone",
        411 => "Length Required",
        412 => "Precondition Failed",
        413 => "Content Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        417 => "Expectation Failed",
        418 => "I'm a teapot",
        422 => "Unprocessable Content",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        // The phrase may be empty (RFC 9112 section 4); the space before it may not be missing.
        else => "",
    };
}

test "headers of workers" {
    const Case = struct { name: []const u8, value: []const u8, want: Verdict };
    const cases = [_]Case{
        .{ .name = "content-type", .value = "text/plain; charset=utf-8", .want = .send },
        .{ .name = "X-Tab", .value = "a\tb", .want = .send },
        .{ .name = "x-latin", .value = "caf\xe9", .want = .send },
        .{ .name = "x-empty", .value = "", .want = .send },
        .{ .name = "", .value = "a", .want = .invalid },
        .{ .name = "a b", .value = "c", .want = .invalid },
        .{ .name = "a:b", .value = "c", .want = .invalid },
        .{ .name = "x", .value = "a\r\nSet-Cookie: b", .want = .invalid },
        .{ .name = "x", .value = "a\nb", .want = .invalid },
        .{ .name = "x", .value = "a\x00b", .want = .invalid },
        .{ .name = "x", .value = "a\x7fb", .want = .invalid },
        .{ .name = "x\r\ny", .value = "a", .want = .invalid },
        .{ .name = "Content-Length", .value = "5", .want = .drop },
        .{ .name = "TRANSFER-ENCODING", .value = "chunked", .want = .drop },
        .{ .name = "connection", .value = "close", .want = .drop },
        .{ .name = "Date", .value = "now", .want = .drop },
        .{ .name = "tailcut-cpu-us", .value = "0", .want = .drop },
        .{ .name = "RateLimit-Policy", .value = "a", .want = .drop },
        .{ .name = "upgrade", .value = "h2c", .want = .drop },
        .{ .name = "set-cookie", .value = "a=tailcut_session", .want = .send },
        .{ .name = "Set-Cookie", .value = "tailcut_session=x; Path=/", .want = .drop },
        .{ .name = "set-cookie", .value = " =tailcut_session=x", .want = .drop },
        .{ .name = "set-cookie", .value = "__Host-tailcut_session=x", .want = .drop },
    };
    for (cases) |case| try std.testing.expectEqual(case.want, workerHeader(case.name, case.value));
}

test "names in lower case are written like ours, others as they are" {
    const cases = [_][2][]const u8{
        .{ "content-type", "Content-Type" },
        .{ "x-a-1b--c", "X-A-1b--C" },
        .{ "ETag", "ETag" },
        .{ "_-", "_-" },
    };
    for (cases) |case| {
        var buffer: [64]u8 = undefined;
        var r: Response = .init(&buffer);
        r.headerOfWorker(case[0], "v");
        try std.testing.expectEqualStrings(case[1], r.written()[0..case[0].len]);
    }
    var short: [8]u8 = undefined;
    var r: Response = .init(&short);
    r.headerOfWorker("content-type", "v");
    try std.testing.expect(r.overflow);
}

test "a head that does not fit is marked and never written past the end" {
    var buffer: [24]u8 = undefined;
    var r: Response = .init(&buffer);
    r.statusLine(200);
    r.header("a", "b");
    try std.testing.expect(!r.overflow);
    try std.testing.expectEqualStrings("HTTP/1.1 200 OK\r\na: b\r\n", r.written());
    r.number(18446744073709551615);
    try std.testing.expect(r.overflow);
}
