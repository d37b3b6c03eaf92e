//! A second HTTP/1.1 reader, written in the most literal way, to compare the parser with. For fuzz.zig only.
//!
//! It shares no code with parser.zig, target.zig and body.zig and no idea either: it looks at a whole stream at once,
//! cuts it at CRLFCRLF, splits lines, and checks rules one after another. Where the two disagree about what is a request,
//! how it is framed or what it says, one of them is wrong: that is how requests are smuggled.
const std = @import("std");
const mem = std.mem;
const limits = @import("../limits.zig");

pub const Outcome = union(enum) {
    incomplete,
    refused,
    request: struct {
        method: []const u8,
        target: []const u8,
        minor: u8,
        headers: []const [2][]const u8,
        body: []const u8,
        keep_alive: bool,
        end: usize,
    },
};

/// The first request of `stream`.
pub fn first(arena: mem.Allocator, stream: []const u8) !Outcome {
    const start: usize = if (mem.startsWith(u8, stream, "\r\n")) 2 else 0;
    const head_end = (mem.find(u8, stream[start..], "\r\n\r\n") orelse return .incomplete) + start;
    if (head_end + 4 > limits.header_bytes_max) return .refused;

    var lines = mem.splitSequence(u8, stream[start..head_end], "\r\n");
    const request_line = lines.next().?;
    if (request_line.len > limits.request_line_bytes_max) return .refused;
    for (request_line) |byte| if (byte < ' ' or byte >= 127) return .refused;
    var words: [3][]const u8 = undefined;
    var count: usize = 0;
    var split = mem.splitScalar(u8, request_line, ' ');
    while (split.next()) |word| : (count += 1) {
        if (count == 3) return .refused;
        words[count] = word;
    }
    if (count != 3) return .refused;
    const methods = [_][]const u8{ "GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS" };
    for (methods) |method| {
        if (mem.eql(u8, method, words[0])) break;
    } else return .refused;
    const minor: u8 = if (mem.eql(u8, words[2], "HTTP/1.1")) 1 else if (mem.eql(u8, words[2], "HTTP/1.0")) 0 else return .refused;
    if (!targetGood(words[1], words[0])) return .refused;

    var headers: std.ArrayList([2][]const u8) = .empty;
    while (lines.next()) |line| {
        const colon = mem.find(u8, line, ":") orelse return .refused;
        const name = line[0..colon];
        if (name.len == 0) return .refused;
        for (name) |byte| if (!std.ascii.isAlphanumeric(byte) and mem.findScalar(u8, "!#$%&'*+-.^_`|~", byte) == null) return .refused;
        const value = mem.trim(u8, line[colon + 1 ..], " \t");
        for (value) |byte| if ((byte < ' ' and byte != '\t') or byte == 127) return .refused;
        try headers.append(arena, .{ name, value });
    }
    if (headers.items.len > limits.headers_max) return .refused;

    const hosts = try valuesOf(arena, headers.items, "host");
    if (hosts.len > 1 or (hosts.len == 0 and minor == 1)) return .refused;
    if (hosts.len == 1 and !hostGood(hosts[0])) return .refused;
    if ((try valuesOf(arena, headers.items, "authorization")).len > 1) return .refused;
    if ((try valuesOf(arena, headers.items, "content-type")).len > 1) return .refused;
    for (try valuesOf(arena, headers.items, "expect")) |value| if (!std.ascii.eqlIgnoreCase(value, "100-continue")) return .refused;

    var close = false;
    var keep = minor == 1;
    for (try valuesOf(arena, headers.items, "connection")) |value| {
        var options = mem.splitScalar(u8, value, ',');
        while (options.next()) |padded| {
            const option = mem.trim(u8, padded, " \t");
            if (std.ascii.eqlIgnoreCase(option, "close")) close = true;
            if (std.ascii.eqlIgnoreCase(option, "keep-alive")) keep = true;
        }
    }

    const codings = try valuesOf(arena, headers.items, "transfer-encoding");
    const lengths = try valuesOf(arena, headers.items, "content-length");
    if (codings.len + lengths.len > 1) return .refused;
    var body: []const u8 = "";
    var end = head_end + 4;
    if (codings.len == 1) {
        if (minor == 0 or !std.ascii.eqlIgnoreCase(codings[0], "chunked")) return .refused;
        switch (try chunked(arena, stream[end..])) {
            .incomplete => return .incomplete,
            .refused => return .refused,
            .body => |decoded| {
                body = decoded.bytes;
                end += decoded.end;
            },
        }
    } else if (lengths.len == 1) {
        var length: u128 = 0;
        if (lengths[0].len == 0) return .refused;
        for (lengths[0]) |byte| {
            if (byte < '0' or byte > '9') return .refused;
            length = @min(length * 10 + byte - '0', 1 << 64);
        }
        if (length > limits.body_bytes_max) return .refused;
        if (stream.len - end < length) return .incomplete;
        body = stream[end..][0..@intCast(length)];
        end += body.len;
    }
    return .{ .request = .{
        .method = words[0],
        .target = words[1],
        .minor = minor,
        .headers = headers.items,
        .body = body,
        .keep_alive = keep and !close,
        .end = end,
    } };
}

fn valuesOf(arena: mem.Allocator, headers: []const [2][]const u8, name: []const u8) ![]const []const u8 {
    var values: std.ArrayList([]const u8) = .empty;
    for (headers) |header| if (std.ascii.eqlIgnoreCase(header[0], name)) try values.append(arena, header[1]);
    return values.items;
}

fn targetGood(target: []const u8, method: []const u8) bool {
    if (target.len == 0 or mem.find(u8, target, "#") != null) return false;
    if (target[0] == '/') return true;
    if (mem.eql(u8, target, "*")) return mem.eql(u8, method, "OPTIONS");
    if (target.len < 7 or !std.ascii.eqlIgnoreCase(target[0..7], "http://")) return false;
    var end: usize = 7;
    while (end < target.len and target[end] != '/' and target[end] != '?') end += 1;
    return hostGood(target[7..end]);
}

fn hostGood(host: []const u8) bool {
    var name = host;
    if (mem.findScalarLast(u8, host, ':')) |colon| {
        const inside = mem.findScalarLast(u8, host, ']') orelse 0;
        if (colon > inside) {
            const port = host[colon + 1 ..];
            if (port.len > 5) return false;
            for (port) |byte| if (byte < '0' or byte > '9') return false;
            if (port.len > 0 and (std.fmt.parseInt(u32, port, 10) catch return false) > 65535) return false;
            name = host[0..colon];
        }
    }
    if (mem.startsWith(u8, name, "[") and mem.endsWith(u8, name, "]")) {
        const address = name[1 .. name.len - 1];
        for (address) |byte| if (!std.ascii.isHex(byte) and byte != ':' and byte != '.') return false;
        return mem.count(u8, address, ":") >= 2 and address.len <= 45;
    }
    if (name.len == 0 or name.len > 255) return false;
    for (name) |byte| if (!std.ascii.isAlphanumeric(byte) and mem.findScalar(u8, "-._~", byte) == null) return false;
    return true;
}

const Chunked = union(enum) { incomplete, refused, body: struct { bytes: []const u8, end: usize } };

fn chunked(arena: mem.Allocator, bytes: []const u8) !Chunked {
    var body: std.ArrayList(u8) = .empty;
    var at: usize = 0;
    while (true) {
        const line_end = mem.find(u8, bytes[at..], "\r\n") orelse return .incomplete;
        const line = bytes[at..][0..line_end];
        if (line.len >= limits.chunk_line_bytes_max) return .refused;
        const semicolon = mem.find(u8, line, ";") orelse line.len;
        if (semicolon == 0 or semicolon > 16) return .refused;
        for (line[0..semicolon]) |byte| if (!std.ascii.isHex(byte)) return .refused;
        for (line[semicolon..]) |byte| if ((byte < ' ' and byte != '\t') or byte == 127) return .refused;
        const size = std.fmt.parseInt(u64, line[0..semicolon], 16) catch return .refused;
        at += line_end + 2;
        if (size == 0) break;
        if (size > limits.body_bytes_max - body.items.len) return .refused;
        if (bytes.len - at < size) return .incomplete;
        try body.appendSlice(arena, bytes[at..][0..@intCast(size)]);
        at += @intCast(size);
        if (bytes.len - at < 2) return .incomplete;
        if (bytes[at] != '\r' or bytes[at + 1] != '\n') return .refused;
        at += 2;
    }
    const trailers_at = at;
    while (true) {
        const line_end = mem.find(u8, bytes[at..], "\r\n") orelse return .incomplete;
        const line = bytes[at..][0..line_end];
        at += line_end + 2;
        if (line.len == 0) break;
        const colon = mem.find(u8, line, ":") orelse return .refused;
        if (colon == 0) return .refused;
        for (line[0..colon]) |byte| if (!std.ascii.isAlphanumeric(byte) and mem.findScalar(u8, "!#$%&'*+-.^_`|~", byte) == null) return .refused;
        for (line[colon..]) |byte| if ((byte < ' ' and byte != '\t') or byte == 127) return .refused;
    }
    // The parser counts no LF of a trailer line.
    const trailer_bytes = at - trailers_at - mem.count(u8, bytes[trailers_at..at], "\n");
    if (trailer_bytes > limits.trailer_bytes_max) return .refused;
    // Streams of the fuzzer are too short for the bound on all framing together; the table covers that.
    return .{ .body = .{ .bytes = body.items, .end = at } };
}
