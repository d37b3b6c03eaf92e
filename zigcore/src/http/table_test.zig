//! The table of byte streams (testdata/requests.json), each fed whole, byte by byte and split at every position.
//!
//! The same file is sent to a live gateway by tests/http/test_table.py. Its strings are bytes: each character is the
//! byte of its number (ISO 8859-1). `bytes` is a list of strings and of repeats {"repeat", "times"}.
const std = @import("std");
const limits = @import("../limits.zig");
const replay = @import("replay.zig");
const target = @import("target.zig");
const Refusal = @import("refusal.zig").Refusal;
const Value = std.json.Value;

pub const table_json = @embedFile("testdata/requests.json");

test "the table holds, whole, byte by byte and split at every position" {
    var arena_state: std.heap.ArenaAllocator = .init(std.testing.allocator);
    defer arena_state.deinit();
    const table = try std.json.parseFromSliceLeaky(Value, arena_state.allocator(), table_json, .{});
    try std.testing.expect(table.array.items.len >= 150);
    var failed: usize = 0;
    for (table.array.items) |case| {
        const name = case.object.get("name").?.string;
        caseCheck(case) catch |err| {
            std.debug.print("table case \"{s}\": {t}\n", .{ name, err });
            failed += 1;
        };
    }
    try std.testing.expectEqual(0, failed);
}

test "every refusal is in the table" {
    for (std.enums.values(Refusal)) |refusal| {
        var buffer: [64]u8 = undefined;
        const entry = try std.fmt.bufPrint(&buffer, "\"refusal\": \"{t}\"", .{refusal});
        if (std.mem.find(u8, table_json, entry) == null) {
            std.debug.print("no case ends in {t}\n", .{refusal});
            return error.NotCovered;
        }
    }
}

fn caseCheck(case: Value) !void {
    var arena_state: std.heap.ArenaAllocator = .init(std.testing.allocator);
    defer arena_state.deinit();
    const arena = arena_state.allocator();
    const stream = try streamOf(arena, case);
    const base_domain = if (case.object.get("base_domain")) |value| value.string else "";

    const seen = try replay.play(arena, stream, base_domain, replay.whole());
    try expectSeen(arena, case, stream, seen);

    // Every cut of short streams; of long ones enough around both ends and a grid between.
    var cut_arena: std.heap.ArenaAllocator = .init(std.testing.allocator);
    defer cut_arena.deinit();
    var step: usize = 1;
    const single = try replay.play(cut_arena.allocator(), stream, base_domain, replay.every(&step, 1));
    try std.testing.expectEqualDeep(seen, single);
    var position: usize = 1;
    while (position < stream.len) : (position += if (stream.len < 1024 or position < 64 or stream.len - position < 64) 1 else 61) {
        _ = cut_arena.reset(.retain_capacity);
        const cut = try replay.play(cut_arena.allocator(), stream, base_domain, replay.splitAt(&position));
        try std.testing.expectEqualDeep(seen, cut);
    }
}

fn expectSeen(arena: std.mem.Allocator, case: Value, stream: []const u8, seen: []const replay.Outcome) !void {
    const expected = case.object.get("expect").?.array.items;
    const common = @min(expected.len, seen.len);
    for (expected[0..common], seen[0..common]) |want, got| switch (got) {
        .incomplete => if (want.object.get("incomplete") == null) return error.UnexpectedlyIncomplete,
        .refused => |refusal| {
            const wanted = want.object.get("refusal") orelse {
                std.debug.print("refused: {t}\n", .{refusal});
                return error.UnexpectedlyRefused;
            };
            try std.testing.expectEqualStrings(wanted.string, @tagName(refusal));
            try std.testing.expectEqual(want.object.get("status").?.integer, refusal.status());
        },
        .request => |request| {
            if (want.object.get("method") == null) return error.UnexpectedlyAccepted;
            try expectRequest(arena, want, request);
        },
    };
    try std.testing.expectEqual(expected.len, seen.len);
    // Not a byte more or less than the requests was consumed.
    if (seen.len == 0 or seen[seen.len - 1] != .request) return;
    const rest = if (case.object.get("rest")) |value| try bytesOf(arena, value.string) else "";
    try std.testing.expectEqualStrings(rest, stream[seen[seen.len - 1].request.end..]);
}

fn expectRequest(arena: std.mem.Allocator, want: Value, got: replay.Request) !void {
    const equal = std.testing.expectEqualStrings;
    const object = want.object;
    try equal(object.get("method").?.string, @tagName(got.method));
    try equal(try bytesOf(arena, object.get("target").?.string), got.target);
    try equal(try bytesOf(arena, object.get("body").?.string), got.body);
    try std.testing.expectEqual(object.get("version").?.integer, got.version_minor);
    try std.testing.expectEqual(object.get("keep_alive").?.bool, got.keep_alive);
    if (object.get("host")) |value| try equal(value.string, got.host);
    if (object.get("authorization")) |value| try equal(value.string, got.authorization orelse "(none)");
    if (object.get("content_type")) |value| try equal(value.string, got.content_type orelse "(none)");
    if (object.get("expect_continue")) |value| try std.testing.expectEqual(value.bool, got.expect_continue);
    if (object.get("headers")) |value| {
        try std.testing.expectEqual(value.array.items.len, got.headers.len);
        for (value.array.items, got.headers) |pair, header| {
            try equal(try bytesOf(arena, pair.array.items[0].string), header.name);
            try equal(try bytesOf(arena, pair.array.items[1].string), header.value);
        }
    }
    if (object.get("route")) |route| try expectRoute(arena, route.object, got.split);
}

fn expectRoute(arena: std.mem.Allocator, want: std.json.ObjectMap, got: target.Split) !void {
    const Field = struct { []const u8, []const u8 };
    const fields: []const Field = switch (got) {
        .function => |f| &.{
            .{ "tenant", f.tenant }, .{ "function", f.function }, .{ "qualifier", f.qualifier },
            .{ "rest", f.rest },     .{ "query", f.query },
        },
        .builtin => |b| &.{ .{ "name", b.name }, .{ "query", b.query } },
        .tenant_builtin => |b| &.{ .{ "tenant", b.tenant }, .{ "name", b.name }, .{ "query", b.query } },
        .server, .unknown, .refused => &.{},
    };
    try std.testing.expectEqualStrings(want.get("kind").?.string, @tagName(got));
    for (fields) |field| try std.testing.expectEqualStrings(try bytesOf(arena, want.get(field[0]).?.string), field[1]);
    try std.testing.expectEqual(fields.len + 1, want.count());
}

/// The bytes of one case.
pub fn streamOf(arena: std.mem.Allocator, case: Value) ![]const u8 {
    var stream: std.ArrayList(u8) = .empty;
    for (case.object.get("bytes").?.array.items) |part| switch (part) {
        .string => |text| try stream.appendSlice(arena, try bytesOf(arena, text)),
        else => {
            const piece = try bytesOf(arena, part.object.get("repeat").?.string);
            for (0..@intCast(part.object.get("times").?.integer)) |_| try stream.appendSlice(arena, piece);
        },
    };
    return stream.items;
}

fn bytesOf(arena: std.mem.Allocator, text: []const u8) ![]const u8 {
    var bytes: std.ArrayList(u8) = .empty;
    var points = (try std.unicode.Utf8View.init(text)).iterator();
    while (points.nextCodepoint()) |point| {
        if (point > 0xff) return error.NotAByte;
        try bytes.append(arena, @intCast(point));
    }
    return bytes.items;
}
