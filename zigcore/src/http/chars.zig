//! Which bytes may stand where in HTTP/1.1, and the vector search that finds the first one that may not.
//!
//! Called by parser, body and target. Two questions only: "is this byte in that class?" (a 256-entry table) and
//! "where is the first byte that ends a line?" (`lineStop`, the hot loop of the parser). CR and LF are never part of
//! a line, so the search for a line's end and the check for forbidden bytes are one pass over the memory.
const std = @import("std");
const assert = std.debug.assert;

/// What a line may be made of.
pub const Line = enum {
    /// Visible ASCII and space: the request line.
    request,
    /// Also HTAB and obs-text (0x80 and up): header lines.
    header,
};

/// Bytes looked at in one step. 32 lets one step cover most header lines; every 64-bit machine lowers it well.
const step_bytes = 32;
const Step = @Vector(step_bytes, u8);
const Mask = @Int(.unsigned, step_bytes);

/// Index of the first byte of `bytes[from..]` that may not stand in such a line (CR and LF among them), else `bytes.len`.
pub fn lineStop(comptime line: Line, bytes: []const u8, from: usize) usize {
    assert(from <= bytes.len);
    var at = from;
    while (at + step_bytes <= bytes.len) : (at += step_bytes) {
        const mask = stopMask(line, bytes[at..][0..step_bytes].*);
        if (mask != 0) return at + @ctz(mask);
    }
    if (bytes.len - at >= step_bytes / 4 and bytes.len >= step_bytes) {
        // The last step again covers bytes that were seen (or lie before `from`); their bits are shifted out.
        const last = bytes.len - step_bytes;
        const mask = stopMask(line, bytes[last..][0..step_bytes].*) >> @intCast(at - last);
        return if (mask != 0) at + @ctz(mask) else bytes.len;
    }
    while (at < bytes.len) : (at += 1) {
        if (isLineStop(line, bytes[at])) return at;
    }
    return bytes.len;
}

inline fn stopMask(comptime line: Line, step: Step) Mask {
    const splat = struct {
        inline fn of(byte: u8) Step {
            return @splat(byte);
        }
    }.of;
    return switch (line) {
        // One comparison: below 0x20 wraps around to a large value.
        .request => @bitCast(step -% splat(0x20) > splat(0x7e - 0x20)),
        .header => (@as(Mask, @bitCast(step < splat(0x20))) & @as(Mask, @bitCast(step != splat('\t')))) |
            @as(Mask, @bitCast(step == splat(0x7f))),
    };
}

fn isLineStop(comptime line: Line, byte: u8) bool {
    return switch (line) {
        .request => byte < 0x20 or byte > 0x7e,
        .header => (byte < 0x20 and byte != '\t') or byte == 0x7f,
    };
}

/// tchar of RFC 9110 section 5.6.2: method and header names.
pub fn isToken(byte: u8) bool {
    return token_table[byte];
}

const token_table = table: {
    var table: [256]bool = @splat(false);
    for ("!#$%&'*+-.^_`|~") |byte| table[byte] = true;
    for ('0'..'9' + 1) |byte| table[byte] = true;
    for ('A'..'Z' + 1) |byte| table[byte] = true;
    for ('a'..'z' + 1) |byte| table[byte] = true;
    break :table table;
};

/// What a header value, a chunk extension or a trailer may contain (field-content and the whitespace between).
pub fn isValue(byte: u8) bool {
    return !isLineStop(.header, byte);
}

pub fn hexValue(byte: u8) ?u4 {
    return switch (byte) {
        '0'...'9' => @intCast(byte - '0'),
        'a'...'f' => @intCast(byte - 'a' + 10),
        'A'...'F' => @intCast(byte - 'A' + 10),
        else => null,
    };
}

/// Optional whitespace (RFC 9110 section 5.6.3) cut off at both ends.
pub fn trim(bytes: []const u8) []const u8 {
    var start: usize = 0;
    var end = bytes.len;
    while (start < end and isSpace(bytes[start])) start += 1;
    while (end > start and isSpace(bytes[end - 1])) end -= 1;
    return bytes[start..end];
}

pub fn isSpace(byte: u8) bool {
    return byte == ' ' or byte == '\t';
}

/// Equal but for the case of ASCII letters; `lower` is in lower case.
pub fn eqlFold(bytes: []const u8, comptime lower: []const u8) bool {
    if (bytes.len != lower.len) return false;
    // No early exit: for a comptime length this becomes a handful of wide comparisons.
    var difference: u8 = 0;
    inline for (lower, 0..) |expected, index| {
        const letter = comptime std.ascii.isLower(expected);
        difference |= (if (letter) bytes[index] | 0x20 else bytes[index]) ^ expected;
    }
    return difference == 0;
}

test "the vector search agrees with the byte by byte one at every position and for every byte" {
    var bytes: [3 * step_bytes + 7]u8 = @splat('a');
    inline for (.{ Line.request, Line.header }) |line| {
        for (0..bytes.len) |position| {
            for (0..256) |byte| {
                bytes[position] = @intCast(byte);
                defer bytes[position] = 'a';
                const expected = if (isLineStop(line, @intCast(byte))) position else bytes.len;
                try std.testing.expectEqual(expected, lineStop(line, &bytes, 0));
                try std.testing.expectEqual(expected, lineStop(line, &bytes, position / 2));
                try std.testing.expectEqual(bytes.len, lineStop(line, &bytes, @min(position + 1, bytes.len)));
            }
        }
    }
}

test "classes of bytes" {
    for ("(),/:;<=>?@[\\]{}\" \t\r\n\x00\x7f\x80\xff") |byte| try std.testing.expect(!isToken(byte));
    for ("aZ09!~`|") |byte| try std.testing.expect(isToken(byte));
    try std.testing.expectEqualStrings("a b", trim(" \t a b\t"));
    try std.testing.expectEqualStrings("", trim(" \t"));
    try std.testing.expect(eqlFold("HoSt", "host") and !eqlFold("h\x4fs\x54x", "host"));
    // '-' | 0x20 is '-', but 0x0d | 0x20 is '-' as well: only letters are folded.
    try std.testing.expect(!eqlFold("content\rtype", "content-type"));
    // '@' | 0x20 is '`', no letter: folding a letter never makes another byte equal to one but its own two cases.
    for (0..256) |byte| {
        const one = [1]u8{@intCast(byte)};
        try std.testing.expectEqual(byte == 'k' or byte == 'K', eqlFold(&one, "k"));
    }
}
