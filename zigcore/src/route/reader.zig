//! Reads a JSON document of known shape, token by token: fields by name, values by rule, messages with their place.
//!
//! Called by route/revision.zig, which knows the shape. Texts are copied, unescaped, to memory that the caller gives;
//! nothing else is kept and nothing is allocated. A field is never entered deeper than the shape says, an unknown,
//! missing or repeated one is an error, and every error says where, which value and what is allowed.
const std = @import("std");
const assert = std.debug.assert;
const limits = @import("../limits.zig");

pub const Error = error{ Invalid, TooLarge };

pub const Rule = union(enum) {
    /// A DNS label: gateway/contract/table.py, NAME_PATTERN.
    name,
    /// A version's id: letters, digits, "_" and "-".
    id,
    /// A name or an id.
    qualifier,
    sha256,
    flag,
    /// Any text of at most so many bytes.
    text: usize,
    integer: struct { i64, i64 },
};

pub const Field = struct {
    name: []const u8,
    rule: Rule,
    /// What stands for a field that is not there; `.absent`: it must be.
    default: Value = .absent,
};

pub const Value = union(enum) { absent, text: []const u8, integer: i64, flag: bool };

pub const Reader = struct {
    scanner: std.json.Scanner = undefined,
    /// One bit a level.
    nesting: [512]u8 = undefined,
    nesting_allocator: std.heap.FixedBufferAllocator = undefined,
    text: []u8,
    text_bytes: usize = 0,
    message: *[512]u8,
    /// Where we are, for messages; the caller sets section and row.
    section: []const u8 = "",
    row: ?usize = null,
    field: []const u8 = "",

    /// The reader stays where it is: the scanner points into it.
    pub fn begin(r: *Reader, document: []const u8) void {
        r.nesting_allocator = .init(&r.nesting);
        r.scanner = .initCompleteInput(r.nesting_allocator.allocator(), document);
    }

    pub fn rowRead(r: *Reader, fields: []const Field, values: []Value) Error!void {
        assert(fields.len == values.len);
        try r.expect(.object_begin, "an object");
        var name_buffer: [24]u8 = undefined;
        while (try r.nameRead(&name_buffer)) |name| {
            const at = for (fields, 0..) |field, i| {
                if (std.mem.eql(u8, field.name, name)) break i;
            } else return r.invalid("\"{f}\" is not a field of this row", .{quoted(name)});
            r.field = fields[at].name;
            if (values[at] != .absent) return r.invalid("appears twice", .{});
            values[at] = try r.valueRead(fields[at].rule);
            r.field = "";
        }
        for (fields, values) |field, *value| {
            if (value.* != .absent) continue;
            if (field.default == .absent) return r.invalid("the field \"{s}\" is missing", .{field.name});
            value.* = field.default;
        }
    }

    pub fn valueRead(r: *Reader, rule: Rule) Error!Value {
        const kind = try r.peek();
        switch (rule) {
            .flag => switch (kind) {
                .true, .false => {
                    _ = try r.next();
                    return .{ .flag = kind == .true };
                },
                else => return r.invalid("true or false is expected, not {s}", .{kindName(kind)}),
            },
            .integer => |range| {
                if (kind != .number) return r.invalid("an integer is expected, not {s}", .{kindName(kind)});
                return .{ .integer = try r.integerRead(range[0], range[1]) };
            },
            .name, .id, .qualifier, .sha256, .text => {
                if (kind != .string) return r.invalid("a string is expected, not {s}", .{kindName(kind)});
                const text = try r.textRead();
                try r.textCheck(rule, text);
                return .{ .text = text };
            },
        }
    }

    fn textCheck(r: *Reader, rule: Rule, text: []const u8) Error!void {
        switch (rule) {
            .name => if (!isName(text)) return r.invalid(
                "\"{f}\" is not a name: 1 … {d} of a–z, 0–9 and \"-\", a letter first, no \"-\" last",
                .{ quoted(text), limits.name_bytes_max },
            ),
            .id => if (!isId(text)) return r.invalid(
                "\"{f}\" is not an id: 1 … {d} letters, digits, \"_\" and \"-\"",
                .{ quoted(text), limits.name_bytes_max },
            ),
            .qualifier => if (!isName(text) and !isId(text)) return r.invalid(
                "\"{f}\" is neither an alias nor a version's id: 1 … {d} letters, digits, \"_\" and \"-\"",
                .{ quoted(text), limits.name_bytes_max },
            ),
            .sha256 => if (!isSha256(text)) return r.invalid(
                "{d} bytes are not a SHA-256: 64 digits of 0–9 and a–f are expected",
                .{text.len},
            ),
            .text => |bytes_max| if (text.len > bytes_max) return r.tooLarge(
                "{d} bytes, at most {d} are allowed",
                .{ text.len, bytes_max },
            ),
            .flag, .integer => unreachable,
        }
    }

    fn integerRead(r: *Reader, min: i64, max: i64) Error!i64 {
        var digits: [24]u8 = undefined;
        var digits_count: usize = 0;
        while (true) {
            const part, const last = switch (try r.next()) {
                .number => |part| .{ part, true },
                .partial_number => |part| .{ part, false },
                else => return r.invalid("a number is expected", .{}),
            };
            if (digits_count + part.len > digits.len) return r.invalid("a number of more than {d} digits", .{digits.len});
            @memcpy(digits[digits_count..][0..part.len], part);
            digits_count += part.len;
            if (last) break;
        }
        const text = digits[0..digits_count];
        const value = std.fmt.parseInt(i64, text, 10) catch
            return r.invalid("{f} is not an integer from {d} to {d}", .{ quoted(text), min, max });
        if (value < min or value > max) return r.invalid("{d} is not within {d} … {d}", .{ value, min, max });
        return value;
    }

    /// Copies the string that comes next, unescaped, to the region's text.
    fn textRead(r: *Reader) Error![]const u8 {
        const start = r.text_bytes;
        while (true) {
            switch (try r.next()) {
                .string => |part| {
                    try r.textAppend(part);
                    return r.text[start..r.text_bytes];
                },
                .partial_string => |part| try r.textAppend(part),
                .partial_string_escaped_1 => |part| try r.textAppend(&part),
                .partial_string_escaped_2 => |part| try r.textAppend(&part),
                .partial_string_escaped_3 => |part| try r.textAppend(&part),
                .partial_string_escaped_4 => |part| try r.textAppend(&part),
                else => return r.invalid("a string is expected", .{}),
            }
        }
    }

    fn textAppend(r: *Reader, part: []const u8) Error!void {
        // A string is never longer than its JSON, so this holds for every document within its bound.
        if (part.len > r.text.len - r.text_bytes) return r.tooLarge("more than {d} bytes of text", .{r.text.len});
        @memcpy(r.text[r.text_bytes..][0..part.len], part);
        r.text_bytes += part.len;
    }

    /// The name of the object's next field; null at its end. A name longer than ours can be is cut: it is unknown anyway.
    pub fn nameRead(r: *Reader, buffer: []u8) Error!?[]const u8 {
        var bytes: usize = 0;
        while (true) {
            var escaped: [4]u8 = undefined;
            const part: []const u8, const last = switch (try r.next()) {
                .object_end => return null,
                .string => |part| .{ part, true },
                .partial_string => |part| .{ part, false },
                .partial_string_escaped_1 => |part| .{ copied(&escaped, &part), false },
                .partial_string_escaped_2 => |part| .{ copied(&escaped, &part), false },
                .partial_string_escaped_3 => |part| .{ copied(&escaped, &part), false },
                .partial_string_escaped_4 => |part| .{ copied(&escaped, &part), false },
                else => return r.invalid("the name of a field is expected", .{}),
            };
            const taken = part[0..@min(part.len, buffer.len - bytes)];
            @memcpy(buffer[bytes..][0..taken.len], taken);
            bytes += taken.len;
            if (last) return buffer[0..bytes];
        }
    }

    pub fn expect(r: *Reader, kind: std.json.TokenType, what: []const u8) Error!void {
        const found = try r.peek();
        if (found != kind) return r.invalid("{s} is expected, not {s}", .{ what, kindName(found) });
        _ = try r.next();
    }

    pub fn peek(r: *Reader) Error!std.json.TokenType {
        return r.scanner.peekNextTokenType() catch |e| r.syntax(e);
    }

    fn next(r: *Reader) Error!std.json.Token {
        return r.scanner.next() catch |e| r.syntax(e);
    }

    fn syntax(r: *Reader, e: std.json.Scanner.NextError) Error {
        return switch (e) {
            error.SyntaxError => r.invalid("not JSON at byte {d}", .{r.scanner.cursor}),
            error.UnexpectedEndOfInput, error.BufferUnderrun => r.invalid("the document ends too early, after {d} bytes", .{r.scanner.input.len}),
            error.OutOfMemory => r.invalid("nested too deeply at byte {d}", .{r.scanner.cursor}),
        };
    }

    // -- Messages -----------------------------------------------------------------------------------------------

    pub fn invalid(r: *Reader, comptime format: []const u8, arguments: anytype) Error {
        r.say(format, arguments);
        return error.Invalid;
    }

    pub fn tooLarge(r: *Reader, comptime format: []const u8, arguments: anytype) Error {
        r.say(format, arguments);
        return error.TooLarge;
    }

    /// "revision: tenants[3].name: …", cut to the message's size.
    fn say(r: *Reader, comptime format: []const u8, arguments: anytype) void {
        var writer: std.Io.Writer = .fixed(r.message[0 .. r.message.len - 1]);
        r.sayPath(&writer) catch {};
        writer.print(format, arguments) catch {};
        r.message[writer.end] = 0;
    }

    fn sayPath(r: *Reader, writer: *std.Io.Writer) std.Io.Writer.Error!void {
        try writer.writeAll("revision: ");
        if (r.section.len == 0) return;
        try writer.writeAll(r.section);
        if (r.row) |row| try writer.print("[{d}]", .{row});
        if (r.field.len > 0) try writer.print(".{s}", .{r.field});
        try writer.writeAll(": ");
    }
};

pub fn isName(text: []const u8) bool {
    if (text.len == 0 or text.len > limits.name_bytes_max) return false;
    for (text) |byte| switch (byte) {
        'a'...'z', '0'...'9', '-' => {},
        else => return false,
    };
    return std.ascii.isLower(text[0]) and text[text.len - 1] != '-';
}

pub fn isId(text: []const u8) bool {
    if (text.len == 0 or text.len > limits.name_bytes_max) return false;
    for (text) |byte| switch (byte) {
        'A'...'Z', 'a'...'z', '0'...'9', '-', '_' => {},
        else => return false,
    };
    return std.ascii.isAlphanumeric(text[0]);
}

fn isSha256(text: []const u8) bool {
    if (text.len != 64) return false;
    for (text) |byte| switch (byte) {
        '0'...'9', 'a'...'f' => {},
        else => return false,
    };
    return true;
}

fn copied(buffer: *[4]u8, part: []const u8) []const u8 {
    @memcpy(buffer[0..part.len], part);
    return buffer[0..part.len];
}

fn kindName(kind: std.json.TokenType) []const u8 {
    return switch (kind) {
        .object_begin => "an object",
        .object_end => "the end of an object",
        .array_begin => "an array",
        .array_end => "the end of an array",
        .true => "true",
        .false => "false",
        .null => "null",
        .number => "a number",
        .string => "a string",
        .end_of_document => "the end of the document",
    };
}

/// A value of the document in a message: printable ASCII, at most 40 bytes of it.
const Quoted = struct {
    text: []const u8,

    pub fn format(q: Quoted, writer: *std.Io.Writer) std.Io.Writer.Error!void {
        for (q.text[0..@min(q.text.len, 40)]) |byte| {
            try writer.writeByte(if (std.ascii.isPrint(byte) and byte != '"') byte else '?');
        }
        if (q.text.len > 40) try writer.writeAll("…");
    }
};

pub fn quoted(text: []const u8) Quoted {
    return .{ .text = text };
}
