//! The request parser: from the bytes of a request's start to its method, target, headers and framing (RFC 9112).
//!
//! Called by the connection, each time bytes arrive, with everything received since the request's start. It goes on
//! where it stopped, so a request that arrives byte by byte costs no more than a whole one. It keeps offsets, never
//! pointers: the caller may move the bytes between calls.
//!
//! What always holds:
//! - The answer depends on the bytes alone, never on how they were cut into pieces (table_test.zig, fuzz.zig).
//! - It is strict: what two readers could understand differently is refused, so that nobody can smuggle a request
//!   past us or past a proxy before us. Lines end with CRLF; whitespace stands only where the grammar puts it;
//!   a body has exactly one length.
//! - No byte at or after `limits.header_bytes_max` is ever looked at, and nothing is allocated.
const std = @import("std");
const assert = std.debug.assert;
const limits = @import("../limits.zig");
const frame = @import("../pool/frame.zig");
const chars = @import("chars.zig");
const target_form = @import("target.zig");

pub const Refusal = @import("refusal.zig").Refusal;
pub const Method = frame.Method;

pub const Result = union(enum) {
    /// More bytes are needed.
    incomplete,
    /// The head's bytes, the empty line included; the body starts there.
    complete: u32,
    refused: Refusal,
};

/// Headers that somebody on the way looks at, so that nobody compares names twice.
pub const Known = enum(u8) {
    other,
    host,
    content_length,
    transfer_encoding,
    connection,
    expect,
    authorization,
    content_type,
    // Of this connection only (RFC 9110 section 7.6.1): never passed on.
    keep_alive,
    proxy_connection,
    te,
    trailer,
    upgrade,

    /// About this connection or its framing, not about the request: a function does not get to see it.
    pub fn isHopByHop(known: Known) bool {
        return switch (known) {
            .connection, .transfer_encoding, .keep_alive, .proxy_connection, .te, .trailer, .upgrade, .expect => true,
            .other, .host, .content_length, .authorization, .content_type => false,
        };
    }
};

pub const Header = struct {
    name_at: u16,
    name_bytes: u16,
    value_at: u16,
    value_bytes: u16,
    known: Known,

    pub fn name(header: Header, bytes: []const u8) []const u8 {
        return bytes[header.name_at..][0..header.name_bytes];
    }

    /// Without the whitespace around it.
    pub fn value(header: Header, bytes: []const u8) []const u8 {
        return bytes[header.value_at..][0..header.value_bytes];
    }
};

comptime {
    assert(limits.header_bytes_max <= std.math.maxInt(u16));
    assert(limits.headers_max < absent);
    assert(limits.request_line_bytes_max + 4 < limits.header_bytes_max);
}

const absent: u8 = 255;

pub const Parser = struct {
    phase: enum { start, header, complete, refused },
    refusal: Refusal,
    /// Start of the line that is being looked for.
    line_at: u32,
    /// No byte before this one ends that line.
    scanned: u32,
    head_bytes: u32,

    // Valid once the phase is `complete`.
    method: Method,
    /// 1 for HTTP/1.1, 0 for HTTP/1.0.
    version_minor: u1,
    /// There is a body of unknown length in chunks; `content_length` is null then.
    chunked: bool,
    /// The client waits for "100 Continue" before it sends the body (never set without a body or in HTTP/1.0).
    expect_continue: bool,
    /// The connection may serve another request after this one.
    keep_alive: bool,
    connection_close: bool,
    connection_keep_alive: bool,
    content_length: ?u64,
    target_at: u16,
    target_bytes: u16,
    host_index: u8,
    authorization_index: u8,
    content_type_index: u8,
    transfer_encoding_index: u8,
    headers_count: u8,
    headers: [limits.headers_max]Header,

    pub const init: Parser = .{
        .phase = .start,
        .refusal = .request_line,
        .line_at = 0,
        .scanned = 0,
        .head_bytes = 0,
        .method = .GET,
        .version_minor = 1,
        .chunked = false,
        .expect_continue = false,
        .keep_alive = false,
        .connection_close = false,
        .connection_keep_alive = false,
        .content_length = null,
        .target_at = 0,
        .target_bytes = 0,
        .host_index = absent,
        .authorization_index = absent,
        .content_type_index = absent,
        .transfer_encoding_index = absent,
        .headers_count = 0,
        .headers = undefined,
    };

    /// Before each request. Leaves the header table as it is: `headers_count` says what of it is valid.
    pub fn reset(p: *Parser) void {
        inline for (comptime @typeInfo(Parser).@"struct".field_names) |field| {
            if (comptime !std.mem.eql(u8, field, "headers")) @field(p, field) = @field(init, field);
        }
    }

    /// `bytes`: everything received since the request's start, at least as much as in the call before.
    /// After `complete` or `refused` the answer stays the same until `reset`.
    pub fn parse(p: *Parser, bytes: []const u8) Result {
        const window = bytes[0..@min(bytes.len, limits.header_bytes_max)];
        assert(p.scanned <= window.len);
        p.advance(window) catch |stop| switch (stop) {
            error.Incomplete => return .incomplete,
            error.Refused => p.phase = .refused,
        };
        switch (p.phase) {
            .complete => return .{ .complete = p.head_bytes },
            .refused => return .{ .refused = p.refusal },
            .start, .header => unreachable, // advance goes on until it is complete or stops with an error
        }
    }

    pub fn target(p: *const Parser, bytes: []const u8) []const u8 {
        assert(p.phase == .complete);
        return bytes[p.target_at..][0..p.target_bytes];
    }

    /// Whom the request is for, port included: of an absolute target its authority, else the header Host.
    /// Empty only in HTTP/1.0.
    pub fn host(p: *const Parser, bytes: []const u8) []const u8 {
        const authority = target_form.read(p.target(bytes)).ok.authority;
        if (authority.len > 0) return authority;
        return p.valueAt(bytes, p.host_index) orelse "";
    }

    pub fn authorization(p: *const Parser, bytes: []const u8) ?[]const u8 {
        return p.valueAt(bytes, p.authorization_index);
    }

    pub fn contentType(p: *const Parser, bytes: []const u8) ?[]const u8 {
        return p.valueAt(bytes, p.content_type_index);
    }

    pub fn headersAll(p: *const Parser) []const Header {
        assert(p.phase == .complete);
        return p.headers[0..p.headers_count];
    }

    pub fn hasBody(p: *const Parser) bool {
        assert(p.phase == .complete);
        return p.chunked or (p.content_length orelse 0) > 0;
    }

    fn valueAt(p: *const Parser, bytes: []const u8, index: u8) ?[]const u8 {
        assert(p.phase == .complete);
        return if (index == absent) null else p.headers[index].value(bytes);
    }

    fn advance(p: *Parser, window: []const u8) Stop!void {
        while (true) switch (p.phase) {
            .start => {
                const line = try p.lineNext(.request, window);
                if (line.len > 0) {
                    try p.requestLine(line);
                    p.phase = .header;
                } else if (p.line_at != 2) {
                    // RFC 9112 section 2.2: one empty line before a request is forgiven.
                    return p.refuse(.leading_lines);
                }
            },
            .header => {
                const line = try p.lineNext(.header, window);
                if (line.len > 0) {
                    try p.headerLine(line, p.line_at - @as(u32, @intCast(line.len)) - 2);
                } else {
                    try p.finish();
                    p.head_bytes = p.line_at;
                    p.phase = .complete;
                }
            },
            .complete => return,
            .refused => return error.Refused,
        };
    }

    /// The next whole line, without its CRLF; `line_at` is after it then. Every byte in it is allowed in such a line.
    fn lineNext(p: *Parser, comptime kind: chars.Line, window: []const u8) Stop![]const u8 {
        const stop = chars.lineStop(kind, window, p.scanned);
        p.scanned = @intCast(stop);
        if (kind == .request and stop - p.line_at > limits.request_line_bytes_max) return p.refuse(.request_line_too_long);
        if (stop + 1 < window.len and window[stop] == '\r') {
            if (window[stop + 1] != '\n') return p.refuse(.bare_cr);
            const line = window[p.line_at..stop];
            p.line_at = @intCast(stop + 2);
            p.scanned = p.line_at;
            return line;
        }
        if (stop < window.len and window[stop] != '\r') return p.refuse(switch (window[stop]) {
            '\n' => .bare_lf,
            0x16 => if (stop == 0) .tls else .control_byte,
            0x80...0xff => .not_ascii,
            else => .control_byte,
        });
        return if (window.len == limits.header_bytes_max) p.refuse(.head_too_long) else error.Incomplete;
    }

    fn requestLine(p: *Parser, line: []const u8) Stop!void {
        assert(line.len > 0 and line.len <= limits.request_line_bytes_max);
        const first = std.mem.findScalar(u8, line, ' ') orelse return p.refuse(.request_line);
        const last = std.mem.findScalarLast(u8, line, ' ').?;
        const method = line[0..first];
        if (method.len == 0 or last <= first + 1) return p.refuse(.request_line);
        for (method) |byte| if (!chars.isToken(byte)) return p.refuse(.method_syntax);

        const version = line[last + 1 ..];
        if (version.len != 8 or !std.mem.eql(u8, version[0..5], "HTTP/") or !std.ascii.isDigit(version[5]) or
            version[6] != '.' or !std.ascii.isDigit(version[7])) return p.refuse(.version_syntax);
        if (version[5] != '1' or version[7] > '1') return p.refuse(.version_unsupported);
        p.version_minor = @intCast(version[7] - '0');

        // CONNECT and TRACE are known but served for no target at all: 501 like any other (405 would owe an Allow).
        p.method = std.meta.stringToEnum(Method, method) orelse return p.refuse(.method_unsupported);

        const target_line = line[first + 1 .. last];
        if (std.mem.findScalar(u8, target_line, ' ') != null) return p.refuse(.request_line);
        p.target_at = @intCast(p.line_at - 2 - line.len + first + 1);
        p.target_bytes = @intCast(target_line.len);
        switch (target_form.read(target_line)) {
            .refused => |refusal| return p.refuse(refusal),
            .ok => |form| if (form.form == .asterisk and p.method != .OPTIONS) return p.refuse(.target_form),
        }
    }

    fn headerLine(p: *Parser, line: []const u8, line_at: u32) Stop!void {
        assert(line.len > 0);
        if (chars.isSpace(line[0])) return p.refuse(.header_folded);
        const colon = for (line, 0..) |byte, index| {
            if (!chars.isToken(byte)) break index;
        } else return p.refuse(.header_no_colon);
        if (line[colon] != ':') return p.refuse(refusal: {
            const named = std.mem.findScalar(u8, line, ':') orelse break :refusal .header_no_colon;
            const gap = for (line[colon..named]) |byte| {
                if (!chars.isSpace(byte)) break false;
            } else true;
            break :refusal if (gap) .header_space_before_colon else .header_name;
        });
        if (colon == 0) return p.refuse(.header_name);
        if (p.headers_count == limits.headers_max) return p.refuse(.headers_too_many);

        const name = line[0..colon];
        const value = chars.trim(line[colon + 1 ..]);
        const known = knownOf(name);
        try p.headerKnown(known, value);
        p.headers[p.headers_count] = .{
            .name_at = @intCast(line_at),
            .name_bytes = @intCast(name.len),
            .value_at = @intCast(line_at + (@intFromPtr(value.ptr) - @intFromPtr(line.ptr))),
            .value_bytes = @intCast(value.len),
            .known = known,
        };
        p.headers_count += 1;
    }

    /// What a header means for the framing, the connection or the caller's identity. It gets the index `headers_count`.
    fn headerKnown(p: *Parser, known: Known, value: []const u8) Stop!void {
        switch (known) {
            .host => {
                if (p.host_index != absent) return p.refuse(.host_duplicate);
                if (!target_form.isAuthority(value)) return p.refuse(.host_invalid);
                p.host_index = p.headers_count;
            },
            .content_length => {
                // Also when it says the same twice: whoever sends that is confused, or hopes that we are.
                if (p.content_length != null) return p.refuse(.content_length_duplicate);
                if (value.len == 0) return p.refuse(.content_length_invalid);
                for (value) |byte| if (!std.ascii.isDigit(byte)) return p.refuse(.content_length_invalid);
                const length = std.fmt.parseInt(u64, value, 10) catch return p.refuse(.body_too_large);
                // Kept for the refusal, too: it says what was announced.
                p.content_length = length;
                if (length > limits.body_bytes_max) return p.refuse(.body_too_large);
            },
            .transfer_encoding => {
                if (p.transfer_encoding_index != absent) return p.refuse(.transfer_encoding_duplicate);
                p.transfer_encoding_index = p.headers_count;
                if (chars.eqlFold(value, "chunked")) {
                    p.chunked = true;
                } else return p.refuse(transferEncodingRefusal(value));
            },
            .connection => {
                var options = std.mem.splitScalar(u8, value, ',');
                while (options.next()) |option| {
                    if (chars.eqlFold(chars.trim(option), "close")) p.connection_close = true;
                    if (chars.eqlFold(chars.trim(option), "keep-alive")) p.connection_keep_alive = true;
                }
            },
            .expect => {
                if (!chars.eqlFold(value, "100-continue")) return p.refuse(.expectation);
                p.expect_continue = true;
            },
            .authorization => {
                if (p.authorization_index != absent) return p.refuse(.header_duplicate);
                p.authorization_index = p.headers_count;
            },
            .content_type => {
                if (p.content_type_index != absent) return p.refuse(.header_duplicate);
                p.content_type_index = p.headers_count;
            },
            .other, .keep_alive, .proxy_connection, .te, .trailer, .upgrade => {},
        }
    }

    /// What only the whole head can say.
    fn finish(p: *Parser) Stop!void {
        if (p.version_minor == 1 and p.host_index == absent) return p.refuse(.host_missing);
        if (p.chunked) {
            if (p.version_minor == 0) return p.refuse(.transfer_encoding_in_1_0);
            if (p.content_length != null) return p.refuse(.content_length_with_transfer_encoding);
        }
        const body = p.chunked or (p.content_length orelse 0) > 0;
        p.expect_continue = p.expect_continue and body and p.version_minor == 1;
        p.keep_alive = !p.connection_close and (p.version_minor == 1 or p.connection_keep_alive);
    }

    fn refuse(p: *Parser, refusal: Refusal) error{Refused} {
        p.refusal = refusal;
        return error.Refused;
    }
};

const Stop = error{ Incomplete, Refused };

/// RFC 9112 section 6.3: without chunked at the end nobody can find the body's end (400); codings before it are
/// well-formed but not served (501).
fn transferEncodingRefusal(value: []const u8) Refusal {
    var codings = std.mem.splitScalar(u8, value, ',');
    while (codings.next()) |coding| {
        const chunked = chars.eqlFold(chars.trim(coding), "chunked");
        if (chunked and codings.peek() == null) return .transfer_encoding_unsupported;
        if (chunked) break; // chunked, and then something else (or chunked again)
    }
    return .transfer_encoding_invalid;
}

fn knownOf(name: []const u8) Known {
    const fold = chars.eqlFold;
    return switch (name.len) {
        2 => if (fold(name, "te")) .te else .other,
        4 => if (fold(name, "host")) .host else .other,
        6 => if (fold(name, "expect")) .expect else .other,
        7 => if (fold(name, "upgrade")) .upgrade else if (fold(name, "trailer")) .trailer else .other,
        10 => if (fold(name, "connection")) .connection else if (fold(name, "keep-alive")) .keep_alive else .other,
        12 => if (fold(name, "content-type")) .content_type else .other,
        13 => if (fold(name, "authorization")) .authorization else .other,
        14 => if (fold(name, "content-length")) .content_length else .other,
        16 => if (fold(name, "proxy-connection")) .proxy_connection else .other,
        17 => if (fold(name, "transfer-encoding")) .transfer_encoding else .other,
        else => .other,
    };
}
