//! `application/problem+json` (RFC 9457): what every refusal and failure of the gateway looks like.
//!
//! Called by the connection, which gives a buffer; `Body.init` writes the fixed members, the caller adds its own,
//! `finish` returns the body. Texts may be anything (a traceback of a tenant, bytes of a worker).
//! Always holds: the result is one valid JSON object in valid UTF-8, also when the buffer is too small for all of it.
//! Then long texts carry a marker, members that did not fit are left out, and `"truncated":true` says so.
//! Every type is explained in docs/errors.md under its slug.
const std = @import("std");
const assert = std.debug.assert;

pub const content_type = "application/problem+json";

pub const Component = enum {
    gateway,
    function,
};

/// May the caller send the request again?
pub const Retry = enum {
    /// It would fail again.
    no,
    /// Nothing was executed.
    not_executed,
    /// The function has run, wholly or partly: only where it is idempotent.
    executed,
    /// Our fault, before or while the function ran: as with `executed`.
    unknown,
};

pub const Type = enum {
    bad_request,
    length_required,
    content_too_large,
    uri_too_long,
    header_fields_too_large,
    request_timeout,
    expectation_failed,
    not_implemented,
    version_not_supported,
    method_not_allowed,
    unauthorized,
    forbidden,
    not_found,
    invalid_arguments,
    quota_exceeded,
    tier_limit,
    overloaded,
    timeout,
    cpu_limit,
    memory_limit,
    output_limit,
    function_error,
    function_crashed,
    not_ready,
    /// For the owner: the version could not start, with its traceback.
    not_ready_failed,
    table_expired,
    internal,
    /// A worker could not be reached or spoke nonsense for a reason that is ours.
    internal_worker,

    pub fn about(problem: Type) About {
        return abouts.get(problem);
    }
};

pub const About = struct {
    status: u16,
    slug: []const u8,
    title: []const u8,
    component: Component = .gateway,
    retry: Retry = .no,
    /// Retry-After, where there is one.
    retry_after_s: ?u16 = null,
};

const abouts = std.EnumArray(Type, About).init(.{
    .bad_request = .{ .status = 400, .slug = "bad-request", .title = "Malformed request" },
    .length_required = .{ .status = 411, .slug = "length-required", .title = "Length required" },
    .content_too_large = .{ .status = 413, .slug = "content-too-large", .title = "Request body too large" },
    .uri_too_long = .{ .status = 414, .slug = "uri-too-long", .title = "Request target too long" },
    .header_fields_too_large = .{ .status = 431, .slug = "header-fields-too-large", .title = "Request headers too large" },
    .request_timeout = .{ .status = 408, .slug = "request-timeout", .title = "Request took too long to arrive", .retry = .not_executed },
    .expectation_failed = .{ .status = 417, .slug = "expectation-failed", .title = "Expectation not supported" },
    .not_implemented = .{ .status = 501, .slug = "not-implemented", .title = "Not implemented" },
    .version_not_supported = .{ .status = 505, .slug = "version-not-supported", .title = "HTTP version not supported" },
    .method_not_allowed = .{ .status = 405, .slug = "method-not-allowed", .title = "Method not allowed" },
    .unauthorized = .{ .status = 401, .slug = "unauthorized", .title = "Key missing or not valid" },
    .forbidden = .{ .status = 403, .slug = "forbidden", .title = "Key does not allow this" },
    .not_found = .{ .status = 404, .slug = "not-found", .title = "No such tenant or function" },
    .invalid_arguments = .{ .status = 422, .slug = "invalid-arguments", .title = "Invalid arguments", .component = .function },
    .quota_exceeded = .{ .status = 429, .slug = "quota-exceeded", .title = "Over the tier's rate or concurrency", .retry = .not_executed, .retry_after_s = 1 },
    .tier_limit = .{ .status = 402, .slug = "tier-limit", .title = "The tier does not allow this" },
    .overloaded = .{ .status = 503, .slug = "overloaded", .title = "No capacity left", .retry = .not_executed, .retry_after_s = 1 },
    .timeout = .{ .status = 504, .slug = "timeout", .title = "Time limit exceeded", .component = .function, .retry = .executed },
    .cpu_limit = .{ .status = 500, .slug = "cpu-limit", .title = "CPU limit exceeded", .component = .function, .retry = .executed },
    .memory_limit = .{ .status = 500, .slug = "memory-limit", .title = "Memory limit exceeded", .component = .function, .retry = .executed },
    .output_limit = .{ .status = 500, .slug = "output-limit", .title = "Answer too large", .component = .function, .retry = .executed },
    .function_error = .{ .status = 500, .slug = "function-error", .title = "The function raised an exception", .component = .function, .retry = .executed },
    .function_crashed = .{ .status = 500, .slug = "function-crashed", .title = "The function's process died", .component = .function, .retry = .executed },
    .not_ready = .{ .status = 503, .slug = "not-ready", .title = "The function is not ready", .retry = .not_executed, .retry_after_s = 2 },
    .not_ready_failed = .{ .status = 500, .slug = "not-ready", .title = "The function could not start", .component = .function },
    .table_expired = .{ .status = 503, .slug = "table-expired", .title = "The node's table is too old", .retry = .not_executed, .retry_after_s = 5 },
    .internal = .{ .status = 500, .slug = "internal", .title = "Internal error", .retry = .unknown },
    .internal_worker = .{ .status = 502, .slug = "internal", .title = "Internal error", .retry = .unknown },
});

/// A buffer of this size holds the fixed members with a base URL, a request id and a detail of the bounds below.
pub const body_bytes_min = 4096;
pub const base_url_bytes_max = 512;
pub const request_id_bytes_max = 64;
pub const detail_bytes_max = 1024;

/// Which end of a text that is too long is kept: of a traceback the last lines say most.
pub const Keep = enum { head, tail };

pub const Body = struct {
    buffer: []u8,
    bytes: usize = 0,
    /// Open objects and arrays below the outermost one, as their closing bytes.
    closers: [depth_max]u8 = undefined,
    depth: u8 = 0,
    /// Depth of objects and arrays that did not fit: what is in them is left out.
    skipped: u8 = 0,
    comma: bool = false,
    truncated: bool = false,

    const depth_max = 4;
    const ending = ",\"truncated\":true}";

    /// `base_url`: of zc_gateway_config, ends with "/". `request_id` may be empty; `detail` is for people.
    pub fn init(buffer: []u8, problem: Type, base_url: []const u8, request_id: []const u8, detail: []const u8) Body {
        assert(buffer.len >= body_bytes_min);
        assert(base_url.len <= base_url_bytes_max and request_id.len <= request_id_bytes_max);
        const about = problem.about();
        var body: Body = .{ .buffer = buffer };
        body.append("{\"type\":\"");
        body.appendEscaped(base_url);
        body.append(about.slug);
        body.append("\"");
        body.comma = true;
        body.text("title", about.title);
        body.integer("status", about.status);
        body.textBounded("detail", detail, .head, detail_bytes_max);
        body.text("component", @tagName(about.component));
        if (request_id.len > 0) body.text("request_id", request_id);
        assert(!body.truncated or detail.len > 0);
        return body;
    }

    pub fn finish(body: *Body) []const u8 {
        assert(body.skipped == 0 and body.depth == 0);
        if (body.truncated) {
            body.append(ending);
        } else body.append("}");
        return body.buffer[0..body.bytes];
    }

    pub fn text(body: *Body, name: []const u8, value: []const u8) void {
        body.textBounded(name, value, .head, std.math.maxInt(usize));
    }

    /// The value takes at most `escaped_bytes_max` bytes of JSON; what is over it or finds no room is cut, with a marker.
    pub fn textBounded(body: *Body, name: []const u8, value: []const u8, keep: Keep, escaped_bytes_max: usize) void {
        const start, const comma = .{ body.bytes, body.comma };
        if (!body.nameWrite(name, 2)) return;
        const value_room = @min(body.room() - 2, escaped_bytes_max);
        const needed = escapedBytes(value);
        body.append("\"");
        if (needed <= value_room) {
            body.appendEscaped(value);
        } else {
            body.truncated = true;
            var marker_buffer: [64]u8 = undefined;
            const marker = std.fmt.bufPrint(&marker_buffer, "[… cut, {d} bytes in all …]", .{value.len}) catch unreachable;
            if (marker.len > value_room) {
                body.bytes, body.comma = .{ start, comma };
                return;
            }
            if (keep == .tail) body.append(marker);
            body.appendEscaped(cut(value, keep, needed, value_room - marker.len));
            if (keep == .head) body.append(marker);
        }
        body.append("\"");
    }

    pub fn integer(body: *Body, name: []const u8, value: i64) void {
        var digits: [24]u8 = undefined;
        body.raw(name, std.fmt.bufPrint(&digits, "{d}", .{value}) catch unreachable);
    }

    pub fn boolean(body: *Body, name: []const u8, value: bool) void {
        body.raw(name, if (value) "true" else "false");
    }

    /// `name` is empty inside an array.
    pub fn objectBegin(body: *Body, name: []const u8) void {
        body.begin(name, "{", '}');
    }

    pub fn arrayBegin(body: *Body, name: []const u8) void {
        body.begin(name, "[", ']');
    }

    /// Closes what was begun last.
    pub fn end(body: *Body) void {
        if (body.skipped > 0) {
            body.skipped -= 1;
            return;
        }
        assert(body.depth > 0);
        body.depth -= 1;
        body.append(body.closers[body.depth..][0..1]);
        body.comma = true;
    }

    fn begin(body: *Body, name: []const u8, opener: []const u8, closer: u8) void {
        if (body.skipped > 0 or body.depth == depth_max or !body.nameWrite(name, 2)) {
            body.truncated = true;
            body.skipped += 1;
            return;
        }
        body.append(opener);
        body.closers[body.depth] = closer;
        body.depth += 1;
        body.comma = false;
    }

    fn raw(body: *Body, name: []const u8, value: []const u8) void {
        if (body.nameWrite(name, value.len)) body.append(value);
    }

    /// Writes `,"name":` if that and `value_bytes` more fit. Names are ours: letters, digits, "_" and "-".
    fn nameWrite(body: *Body, name: []const u8, value_bytes: usize) bool {
        if (body.skipped > 0) return false;
        const name_bytes = @as(usize, @intFromBool(body.comma)) + (if (name.len > 0) name.len + 3 else 0);
        if (body.room() < name_bytes + value_bytes) {
            body.truncated = true;
            return false;
        }
        if (body.comma) body.append(",");
        body.comma = true;
        if (name.len > 0) {
            body.append("\"");
            body.append(name);
            body.append("\":");
        }
        return true;
    }

    /// What may still be written so that everything open can be closed.
    fn room(body: *const Body) usize {
        const reserved = ending.len + body.depth;
        assert(body.bytes + reserved <= body.buffer.len);
        return body.buffer.len - body.bytes - reserved;
    }

    fn append(body: *Body, part: []const u8) void {
        @memcpy(body.buffer[body.bytes..][0..part.len], part);
        body.bytes += part.len;
    }

    fn appendEscaped(body: *Body, value: []const u8) void {
        var rest = value;
        while (rest.len > 0) {
            const unit = Unit.of(rest);
            body.append(unit.escaped[0..unit.escaped_bytes]);
            rest = rest[unit.bytes..];
        }
    }
};

/// The longest head or tail of `value` whose JSON has at most `room` bytes; `needed` is that of all of it.
fn cut(value: []const u8, keep: Keep, needed: usize, room: usize) []const u8 {
    var at: usize = 0;
    var escaped: usize = 0;
    while (at < value.len) {
        const unit = Unit.of(value[at..]);
        switch (keep) {
            .head => if (escaped + unit.escaped_bytes > room) return value[0..at],
            .tail => if (needed - escaped <= room) return value[at..],
        }
        escaped += unit.escaped_bytes;
        at += unit.bytes;
    }
    return if (keep == .head) value else "";
}

fn escapedBytes(value: []const u8) usize {
    var rest = value;
    var bytes: usize = 0;
    while (rest.len > 0) {
        const unit = Unit.of(rest);
        bytes += unit.escaped_bytes;
        rest = rest[unit.bytes..];
    }
    return bytes;
}

/// One character, or one byte that is none, and how it stands in JSON.
const Unit = struct {
    bytes: u8,
    escaped: [6]u8,
    escaped_bytes: u8,

    /// `text` is not empty.
    fn of(text: []const u8) Unit {
        const byte = text[0];
        switch (byte) {
            '"' => return ascii("\\\""),
            '\\' => return ascii("\\\\"),
            '\n' => return ascii("\\n"),
            '\r' => return ascii("\\r"),
            '\t' => return ascii("\\t"),
            0...8, 11, 12, 14...31, 127 => {
                const digits = "0123456789abcdef";
                return ascii(&.{ '\\', 'u', '0', '0', digits[byte >> 4], digits[byte & 15] });
            },
            ' ', '!', '#'...'[', ']'...'~' => return ascii(&.{byte}),
            128...255 => {},
        }
        const length = std.unicode.utf8ByteSequenceLength(byte) catch return replacement;
        if (length > text.len) return replacement;
        _ = std.unicode.utf8Decode(text[0..length]) catch return replacement;
        var unit: Unit = .{ .bytes = length, .escaped = undefined, .escaped_bytes = length };
        @memcpy(unit.escaped[0..length], text[0..length]);
        return unit;
    }

    const replacement: Unit = .{ .bytes = 1, .escaped = "\u{fffd}".* ++ [_]u8{ 0, 0, 0 }, .escaped_bytes = 3 };

    fn ascii(escaped: []const u8) Unit {
        var unit: Unit = .{ .bytes = 1, .escaped = undefined, .escaped_bytes = @intCast(escaped.len) };
        @memcpy(unit.escaped[0..escaped.len], escaped);
        return unit;
    }
};

test {
    _ = @import("problem_test.zig");
}
