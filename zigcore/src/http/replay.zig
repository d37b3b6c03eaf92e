//! Plays a stream of bytes through parser, target and body as a connection would, cut into pieces as asked.
//!
//! For table_test.zig and fuzz.zig only. What comes out must be the same for every way of cutting: both compare
//! the `Seen` of different cuts, and with what they expect.
const std = @import("std");
const assert = std.debug.assert;
const limits = @import("../limits.zig");
const parser_file = @import("parser.zig");
const body = @import("body.zig");
const target = @import("target.zig");
const Refusal = @import("refusal.zig").Refusal;

pub const Pair = struct { name: []const u8, value: []const u8 };

/// A request that was accepted whole.
pub const Request = struct {
    method: parser_file.Method,
    version_minor: u1,
    target: []const u8,
    host: []const u8,
    authorization: ?[]const u8,
    content_type: ?[]const u8,
    headers: []const Pair,
    keep_alive: bool,
    expect_continue: bool,
    chunked: bool,
    split: target.Split,
    body: []const u8,
    /// Where it ended in the stream.
    end: usize,
};

pub const Outcome = union(enum) { request: Request, incomplete, refused: Refusal };

/// How bytes arrive and how much room there is for the body at a time.
pub const Cutter = struct {
    context: *anyopaque,
    /// More bytes than `seen`, at most `total`.
    next: *const fn (context: *anyopaque, seen: usize, total: usize) usize,
    room_bytes: usize,
};

/// Everything at once.
pub fn whole() Cutter {
    const cut = struct {
        fn next(_: *anyopaque, _: usize, total: usize) usize {
            return total;
        }
    };
    return .{ .context = undefined, .next = cut.next, .room_bytes = 4096 };
}

/// `bytes` at a time.
pub fn every(bytes: *usize, room_bytes: usize) Cutter {
    const cut = struct {
        fn next(context: *anyopaque, seen: usize, total: usize) usize {
            const step: *usize = @ptrCast(@alignCast(context));
            return @min(total, seen + step.*);
        }
    };
    return .{ .context = bytes, .next = cut.next, .room_bytes = room_bytes };
}

/// Two pieces.
pub fn splitAt(position: *usize) Cutter {
    const cut = struct {
        fn next(context: *anyopaque, seen: usize, total: usize) usize {
            const at: *usize = @ptrCast(@alignCast(context));
            return if (seen < at.*) @min(at.*, total) else total;
        }
    };
    return .{ .context = position, .next = cut.next, .room_bytes = 4096 };
}

/// Ends after a refusal, after a request that closes, or with the stream. What it returns lives in `arena`.
pub fn play(arena: std.mem.Allocator, stream: []const u8, base_domain: []const u8, cutter: Cutter) ![]const Outcome {
    assert(cutter.room_bytes > 0);
    var outcomes: std.ArrayList(Outcome) = .empty;
    var parser: parser_file.Parser = .init;
    var decoder: ?body.Decoder = null;
    var request: Request = undefined;
    var body_bytes: std.ArrayList(u8) = .empty;
    var start: usize = 0; // of the request
    var at: usize = 0; // the decoder's place
    var have: usize = 0;

    while (have < stream.len) {
        const more = cutter.next(cutter.context, have, stream.len);
        assert(more > have and more <= stream.len);
        have = more;
        while (start < have) {
            if (decoder == null) switch (parser.parse(stream[start..have])) {
                .incomplete => break,
                .refused => |refusal| {
                    try outcomes.append(arena, .{ .refused = refusal });
                    return outcomes.items;
                },
                .complete => |head_bytes| {
                    assert(head_bytes <= have - start);
                    request = try collect(arena, &parser, stream[start..][0..head_bytes], base_domain);
                    switch (request.split) {
                        .refused => |refusal| {
                            try outcomes.append(arena, .{ .refused = refusal });
                            return outcomes.items;
                        },
                        else => {},
                    }
                    at = start + head_bytes;
                    body_bytes = .empty;
                    decoder = .init(if (parser.chunked) .chunked else .{ .fixed = parser.content_length orelse 0 }, limits.body_bytes_max);
                },
            };
            const step = try decodeAll(arena, &decoder.?, stream[at..have], &body_bytes, cutter.room_bytes);
            at += step.consumed;
            switch (step.state) {
                .more => break,
                .refused => |refusal| {
                    try outcomes.append(arena, .{ .refused = refusal });
                    return outcomes.items;
                },
                .done => {},
            }
            request.body = body_bytes.items;
            request.end = at;
            try outcomes.append(arena, .{ .request = request });
            if (!request.keep_alive) return outcomes.items;
            start = at;
            decoder = null;
            parser.reset();
        }
    }
    if (start < stream.len) try outcomes.append(arena, .incomplete);
    return outcomes.items;
}

/// Decodes until the input is used up, into rooms of `room_bytes` whose end a guard watches.
fn decodeAll(arena: std.mem.Allocator, decoder: *body.Decoder, in: []const u8, out: *std.ArrayList(u8), room_bytes: usize) !body.Step {
    var room: [4096 + 1]u8 = undefined;
    assert(room_bytes < room.len);
    var consumed: usize = 0;
    while (true) {
        room[room_bytes] = 0x5a;
        const step = decoder.decode(in[consumed..], room[0..room_bytes]);
        assert(room[room_bytes] == 0x5a);
        assert(step.produced <= room_bytes and step.produced <= step.consumed);
        consumed += step.consumed;
        try out.appendSlice(arena, room[0..step.produced]);
        if (step.state == .more and step.produced == room_bytes) continue;
        if (step.state == .more) assert(consumed == in.len);
        return .{ .consumed = consumed, .produced = out.items.len, .state = step.state };
    }
}

/// Copies what the parser says into the arena: its slices die with the connection's buffer.
fn collect(arena: std.mem.Allocator, parser: *const parser_file.Parser, head: []const u8, base_domain: []const u8) !Request {
    // A copy at another address: offsets are all that may be kept.
    const bytes = try arena.dupe(u8, head);
    const headers = try arena.alloc(Pair, parser.headers_count);
    for (headers, parser.headersAll()) |*pair, header| pair.* = .{ .name = header.name(bytes), .value = header.value(bytes) };
    const scratch = try arena.alloc(u8, target.scratch_bytes);
    return .{
        .method = parser.method,
        .version_minor = parser.version_minor,
        .target = parser.target(bytes),
        .host = parser.host(bytes),
        .authorization = parser.authorization(bytes),
        .content_type = parser.contentType(bytes),
        .headers = headers,
        .keep_alive = parser.keep_alive,
        .expect_continue = parser.expect_continue,
        .chunked = parser.chunked,
        .split = target.split(target.read(parser.target(bytes)).ok, parser.host(bytes), base_domain, scratch),
        .body = "",
        .end = 0,
    };
}
