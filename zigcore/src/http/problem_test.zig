//! Tests of problem bodies: always one valid JSON object, whatever the texts and the room.
const std = @import("std");
const testing = std.testing;
const problem = @import("problem.zig");
const Body = problem.Body;
const Type = problem.Type;

const base_url = "http://127.0.0.1:8000/errors/";

fn parse(body: []const u8) !std.json.Parsed(std.json.Value) {
    try testing.expect(std.unicode.utf8ValidateSlice(body));
    return std.json.parseFromSlice(std.json.Value, testing.allocator, body, .{ .duplicate_field_behavior = .@"error" });
}

test "every type has a sane status, slug and component" {
    for (std.enums.values(Type)) |kind| {
        const about = kind.about();
        try testing.expect(about.status >= 400 and about.status <= 599);
        for (about.slug) |byte| try testing.expect(std.ascii.isLower(byte) or byte == '-');
        try testing.expect(about.title.len > 0 and about.title[about.title.len - 1] != '.');
        // What was not executed may be repeated; what the function did may not be, blindly.
        if (about.retry_after_s != null) try testing.expectEqual(.not_executed, about.retry);
        if (about.status == 429 or about.status == 503) try testing.expect(about.retry_after_s != null);
        if (about.component == .gateway) try testing.expect(about.retry != .executed);
    }
}

test "the members of a limit, in order" {
    var buffer: [problem.body_bytes_min]u8 = undefined;
    var body: Body = .init(&buffer, .timeout, base_url, "0123456789abcdef0123456789abcdef", "The function ran for longer than 3000 ms.");
    body.text("limit", "wall-clock");
    body.integer("allowed_ms", 3000);
    body.integer("used_ms", 3004);
    body.boolean("executed", true);
    try testing.expectEqualStrings(
        \\{"type":"http://127.0.0.1:8000/errors/timeout","title":"Time limit exceeded","status":504,
    ++
        \\"detail":"The function ran for longer than 3000 ms.","component":"function",
    ++
        \\"request_id":"0123456789abcdef0123456789abcdef","limit":"wall-clock","allowed_ms":3000,"used_ms":3004,"executed":true}
    , body.finish());
}

test "nested members: the error of a function, the list of bad arguments" {
    var buffer: [problem.body_bytes_min]u8 = undefined;
    var body: Body = .init(&buffer, .invalid_arguments, base_url, "", "2 arguments are wrong.");
    body.objectBegin("error");
    body.text("type", "ValidationError");
    body.end();
    body.arrayBegin("arguments");
    for ([_][2][]const u8{ .{ "amount", "not a number" }, .{ "x\"y", "" } }) |argument| {
        body.objectBegin("");
        body.text("name", argument[0]);
        body.text("message", argument[1]);
        body.end();
    }
    body.end();
    body.arrayBegin("empty");
    body.end();
    const parsed = try parse(body.finish());
    defer parsed.deinit();
    const root = parsed.value.object;
    try testing.expectEqual(422, root.get("status").?.integer);
    try testing.expectEqual(null, root.get("request_id"));
    try testing.expectEqual(null, root.get("truncated"));
    try testing.expectEqualStrings("ValidationError", root.get("error").?.object.get("type").?.string);
    try testing.expectEqualStrings("x\"y", root.get("arguments").?.array.items[1].object.get("name").?.string);
    try testing.expectEqual(0, root.get("empty").?.array.items.len);
}

test "texts: what goes in, what a JSON reader gets" {
    const Case = struct { in: []const u8, out: []const u8 };
    const cases = [_]Case{
        .{ .in = "", .out = "" },
        .{ .in = "plain", .out = "plain" },
        .{ .in = "\"\\/", .out = "\"\\/" },
        .{ .in = "a\nb\r\tc", .out = "a\nb\r\tc" },
        .{ .in = "\x00\x01\x1f\x7f\x08\x0c", .out = "\x00\x01\x1f\x7f\x08\x0c" },
        .{ .in = "</script>", .out = "</script>" },
        .{ .in = "grün 🧾 \u{2028}", .out = "grün 🧾 \u{2028}" },
        .{ .in = "\u{fffd}", .out = "\u{fffd}" },
        .{ .in = "\u{10ffff}", .out = "\u{10ffff}" },
        // Not UTF-8: stray and missing continuation, overlong, surrogate, above the last, cut at the end.
        .{ .in = "a\x80b", .out = "a\u{fffd}b" },
        .{ .in = "\xc3(", .out = "\u{fffd}(" },
        .{ .in = "\xc0\xaf", .out = "\u{fffd}\u{fffd}" },
        .{ .in = "\xed\xa0\x80", .out = "\u{fffd}\u{fffd}\u{fffd}" },
        .{ .in = "\xf4\x90\x80\x80", .out = "\u{fffd}\u{fffd}\u{fffd}\u{fffd}" },
        .{ .in = "\xff\xfe", .out = "\u{fffd}\u{fffd}" },
        .{ .in = "x\xf0\x9f\xa7", .out = "x\u{fffd}\u{fffd}\u{fffd}" },
        .{ .in = "\xe2\x82", .out = "\u{fffd}\u{fffd}" },
    };
    for (cases) |case| {
        var buffer: [problem.body_bytes_min]u8 = undefined;
        var body: Body = .init(&buffer, .function_error, base_url, "id", case.in);
        body.textBounded("traceback", case.in, .tail, std.math.maxInt(usize));
        const parsed = try parse(body.finish());
        defer parsed.deinit();
        try testing.expectEqualStrings(case.out, parsed.value.object.get("detail").?.string);
        try testing.expectEqualStrings(case.out, parsed.value.object.get("traceback").?.string);
    }
}

test "a long traceback keeps its end, a long detail its beginning, and both say that they were cut" {
    var buffer: [problem.body_bytes_min]u8 = undefined;
    const lines: [9000]u8 = comptime @splat('\n');
    const traceback = "FIRST" ++ lines ++ "LAST";
    var body: Body = .init(&buffer, .function_error, base_url, "id", traceback);
    body.textBounded("traceback", traceback, .tail, std.math.maxInt(usize));
    body.integer("left_out", 1);
    const written = body.finish();
    try testing.expect(written.len <= buffer.len and written.len > buffer.len - 16);
    const parsed = try parse(written);
    defer parsed.deinit();
    const root = parsed.value.object;
    try testing.expect(root.get("truncated").?.bool);
    try testing.expectEqual(null, root.get("left_out"));
    const detail = root.get("detail").?.string;
    try testing.expect(std.mem.startsWith(u8, detail, "FIRST\n") and std.mem.endsWith(u8, detail, "[… cut, 9009 bytes in all …]"));
    const shown = root.get("traceback").?.string;
    try testing.expect(std.mem.startsWith(u8, shown, "[… cut, 9009 bytes in all …]\n") and std.mem.endsWith(u8, shown, "\nLAST"));
}

test "objects and arrays that find no room are left out whole" {
    var buffer: [problem.body_bytes_min]u8 = undefined;
    const filler: [8000]u8 = @splat('f');
    var body: Body = .init(&buffer, .function_error, base_url, "id", "");
    body.text("filler", &filler);
    body.objectBegin("error");
    body.text("type", "ValueError");
    body.arrayBegin("inner");
    body.objectBegin("");
    body.end();
    body.end();
    body.end();
    body.arrayBegin("arguments");
    body.end();
    const parsed = try parse(body.finish());
    defer parsed.deinit();
    try testing.expectEqual(null, parsed.value.object.get("error"));
    try testing.expectEqual(null, parsed.value.object.get("arguments"));
    try testing.expect(parsed.value.object.get("truncated").?.bool);
}

test "whatever members in whatever room: one valid object within the buffer" {
    var random_state = std.Random.DefaultPrng.init(0x7072_6f62);
    const random = random_state.random();
    const buffer = try testing.allocator.alloc(u8, problem.body_bytes_min + 3000);
    defer testing.allocator.free(buffer);
    var value: [3000]u8 = undefined;
    for (0..3000) |_| {
        const room = buffer[0 .. problem.body_bytes_min + random.uintLessThan(usize, 3000)];
        const kind = random.enumValue(Type);
        var body: Body = .init(room, kind, base_url, "0123456789abcdef", fill(random, &value));
        var open: usize = 0;
        var names: usize = 0;
        for (0..random.uintLessThan(usize, 30)) |_| {
            var name_buffer: [16]u8 = undefined;
            names += 1;
            const name = try std.fmt.bufPrint(&name_buffer, "m{d}", .{names});
            switch (random.uintLessThan(u8, 6)) {
                0 => body.text(name, fill(random, &value)),
                1 => body.textBounded(name, fill(random, &value), .tail, random.uintLessThan(usize, 2000)),
                2 => body.integer(name, random.int(i64)),
                3 => body.boolean(name, random.boolean()),
                4 => {
                    body.objectBegin(name);
                    open += 1;
                },
                else => if (open > 0) {
                    body.end();
                    open -= 1;
                },
            }
        }
        for (0..open) |_| body.end();
        const written = body.finish();
        try testing.expect(written.len <= room.len);
        const parsed = try parse(written);
        defer parsed.deinit();
        try testing.expectEqual(kind.about().status, parsed.value.object.get("status").?.integer);
        try testing.expectEqualStrings("0123456789abcdef", parsed.value.object.get("request_id").?.string);
    }
}

/// Text of the nasty kind: control bytes, quotes, halves of characters, runs of plain letters.
fn fill(random: std.Random, buffer: []u8) []const u8 {
    const pieces = [_][]const u8{ "\"", "\\", "\x00", "\n", "\xff", "\xe2\x82", "\xf0\x9f\xa7\xbe", "ü", "plain text ", "\xed\xa0\x80", "\x7f" };
    var bytes: usize = 0;
    const want = random.uintLessThan(usize, if (random.boolean()) 60 else buffer.len);
    while (bytes < want) {
        const piece = pieces[random.uintLessThan(usize, pieces.len)];
        const count = @min(piece.len, want - bytes);
        @memcpy(buffer[bytes..][0..count], piece[0..count]);
        bytes += count;
    }
    return buffer[0..bytes];
}
