//! Feeds mutated requests to the parser and checks what must hold for every stream of bytes.
//!
//! Run by `zig build fuzz -Dseconds=N [-Dseed=S]` (root: src/fuzz.zig), briefly by `zig build test`, and by Zig's own
//! coverage-guided fuzzer (`zig build test --fuzz`). Every input follows from the seed and its number, so a failure that
//! prints both can be repeated. The properties, for every stream:
//! 1. nothing crashes, and the decoder never writes beyond the room it was given (replay.zig watches its end);
//! 2. however the stream is cut into pieces, the outcome is the same;
//! 3. what is accepted means the same to a second reader written in the most literal way (reference.zig), byte for
//!    byte up to the same end: no differential, no smuggling;
//! 4. what is accepted, written down again from what was understood, is understood as the same.
const std = @import("std");
const assert = std.debug.assert;
const replay = @import("replay.zig");
const reference = @import("reference.zig");
const table = @import("table_test.zig");
const target = @import("target.zig");

/// Long streams of the table would only make the fuzzer slow.
const corpus_stream_bytes_max = 2048;
const input_bytes_max = 8192;

pub const Fuzzer = struct {
    corpus: []const []const u8,
    seed: u64,
    /// Number of the input that is being tried.
    iteration: u64 = 0,
    input: []const u8 = "",
    accepted: u64 = 0,
    input_buffer: [input_bytes_max]u8 = undefined,

    pub fn init(arena: std.mem.Allocator, seed: u64) !Fuzzer {
        const cases = try std.json.parseFromSliceLeaky(std.json.Value, arena, table.table_json, .{});
        var corpus: std.ArrayList([]const u8) = .empty;
        for (cases.array.items) |case| {
            const stream = try table.streamOf(arena, case);
            if (stream.len <= corpus_stream_bytes_max) try corpus.append(arena, stream);
        }
        assert(corpus.items.len > 100);
        return .{ .corpus = corpus.items, .seed = seed };
    }

    /// Makes and tries one input. `arena` is the fuzzer's to reset.
    pub fn step(f: *Fuzzer, arena: *std.heap.ArenaAllocator) !void {
        _ = arena.reset(.retain_capacity);
        var prng: std.Random.DefaultPrng = .init(f.seed +% f.iteration *% 0x9e3779b97f4a7c15);
        f.input = mutate(prng.random(), f.corpus, &f.input_buffer);
        if (try check(arena.allocator(), f.input, prng.random())) f.accepted += 1;
        f.iteration += 1;
    }

    /// What somebody needs to see the failure again.
    pub fn explain(f: *const Fuzzer) void {
        std.debug.print("http fuzz: seed {d}, input {d}:\n\"{f}\"\n", .{ f.seed, f.iteration, std.zig.fmtString(f.input) });
    }
};

/// Whether a request was accepted; an error when a property does not hold.
pub fn check(arena: std.mem.Allocator, stream: []const u8, random: std.Random) !bool {
    const base_domain = if (random.boolean()) "functions.example.com" else "";
    const seen = try replay.play(arena, stream, base_domain, replay.whole());

    var cuts: RandomCuts = .{ .random = random, .piece_bytes_max = random.intRangeAtMost(usize, 1, 64) };
    const cut = try replay.play(arena, stream, base_domain, cuts.cutter(random.intRangeAtMost(usize, 1, 32)));
    try std.testing.expectEqualDeep(seen, cut);

    const literal = try reference.first(arena, stream);
    if (seen.len == 0) {
        if (stream.len > 0) return error.NothingSeen;
        return false;
    }
    try expectAgreement(seen[0], literal);

    for (seen) |outcome| switch (outcome) {
        .request => |request| {
            const again = try replay.play(arena, try serialize(arena, request), base_domain, replay.whole());
            if (again.len != 1 or again[0] != .request) return error.NotAcceptedAgain;
            var same = again[0].request;
            same.end = request.end;
            try std.testing.expectEqualDeep(request, same);
        },
        .incomplete, .refused => {},
    };
    return seen[0] == .request;
}

fn expectAgreement(seen: replay.Outcome, literal: reference.Outcome) !void {
    switch (literal) {
        .request => |want| switch (seen) {
            .request => |got| {
                try std.testing.expectEqualStrings(want.method, @tagName(got.method));
                try std.testing.expectEqualStrings(want.target, got.target);
                try std.testing.expectEqual(want.minor, got.version_minor);
                try std.testing.expectEqualStrings(want.body, got.body);
                try std.testing.expectEqual(want.keep_alive, got.keep_alive);
                try std.testing.expectEqual(want.end, got.end);
                try std.testing.expectEqual(want.headers.len, got.headers.len);
                for (want.headers, got.headers) |pair, header| {
                    try std.testing.expectEqualStrings(pair[0], header.name);
                    try std.testing.expectEqualStrings(pair[1], header.value);
                }
            },
            .incomplete => return error.IncompleteButTheReferenceAccepts,
            // The reference knows nothing of what a path means to us.
            .refused => |refusal| switch (refusal) {
                .path_escape, .path_nul, .path_utf8, .path_dots => {},
                else => return error.RefusedButTheReferenceAccepts,
            },
        },
        .refused => if (seen != .refused) return error.NotRefusedButTheReferenceRefuses,
        // The parser may refuse before everything is there; the reference looks only at whole heads and lines.
        .incomplete => if (seen == .request) return error.AcceptedButTheReferenceWaits,
    }
}

/// The request as we understood it, in our own words.
fn serialize(arena: std.mem.Allocator, request: replay.Request) ![]const u8 {
    var out: std.Io.Writer.Allocating = .init(arena);
    const w = &out.writer;
    try w.print("{t} {s} HTTP/1.{d}\r\n", .{ request.method, request.target, request.version_minor });
    for (request.headers) |header| try w.print("{s}: {s}\r\n", .{ header.name, header.value });
    try w.writeAll("\r\n");
    if (request.chunked) {
        const half = request.body.len / 2;
        for ([_][]const u8{ request.body[0..half], request.body[half..] }) |piece| {
            if (piece.len > 0) try w.print("{x}\r\n{s}\r\n", .{ piece.len, piece });
        }
        try w.writeAll("0\r\n\r\n");
    } else try w.writeAll(request.body);
    return out.written();
}

const RandomCuts = struct {
    random: std.Random,
    piece_bytes_max: usize,

    fn cutter(cuts: *RandomCuts, room_bytes: usize) replay.Cutter {
        return .{ .context = cuts, .next = next, .room_bytes = room_bytes };
    }

    fn next(context: *anyopaque, seen: usize, total: usize) usize {
        const cuts: *RandomCuts = @ptrCast(@alignCast(context));
        return @min(total, seen + cuts.random.intRangeAtMost(usize, 1, cuts.piece_bytes_max));
    }
};

/// What requests are smuggled with.
const tokens = [_][]const u8{
    "\r\n",                           "\r",                             "\n",                              "\r\n\r\n",                   " ",                                  "\t",
    ":",                              ",",                              ";",                               "\x00",                       "\x0b",                               "\x80",
    "\x7f",                           "0\r\n\r\n",                      "1\r\nx\r\n",                      "5\r\nhello\r\n",             "Content-Length: 5\r\n",              "content-length:0\r\n",
    "Content-Length : 5\r\n",         "Transfer-Encoding: chunked\r\n", "transfer-encoding:\tchunked\r\n", "Transfer-Encoding: x\r\n",   "Host: h\r\n",                        "Connection: close\r\n",
    "Expect: 100-continue\r\n",       "GET / HTTP/1.1\r\n",             " HTTP/1.1",                       " HTTP/1.0",                  "http://h",                           "%2e%2E/",
    "%00",                            "%",                              "/-/",                             "@canary",                    "?",                                  "#",
    "ffffffffffffffff",               "+",                              "-",                               "0x",                         "GET /a HTTP/1.1\r\nHost: h\r\n\r\n", "A: b\r\n",
    "POST / HTTP/1.1\r\nHost: h\r\n", "[::1]",                          "chunked, ",                       "acme.functions.example.com",
};

fn mutate(random: std.Random, corpus: []const []const u8, buffer: *[input_bytes_max]u8) []const u8 {
    const first = corpus[random.uintLessThan(usize, corpus.len)];
    @memcpy(buffer[0..first.len], first);
    var len = first.len;
    // The smaller of two: most inputs differ little from a good request and get far.
    for (0..@min(random.uintAtMost(usize, 6), random.uintAtMost(usize, 6))) |_| {
        const at = random.uintAtMost(usize, len);
        switch (random.uintLessThan(u8, 7)) {
            0 => if (at < len) {
                buffer[at] = random.int(u8);
            },
            1 => if (at < len) {
                buffer[at] ^= @as(u8, 1) << random.int(u3);
            },
            2, 3 => len = insert(buffer, len, at, tokens[random.uintLessThan(usize, tokens.len)]),
            4 => {
                const cut = @min(len - at, random.uintAtMost(usize, 16));
                @memmove(buffer[at .. len - cut], buffer[at + cut .. len]);
                len -= cut;
            },
            5 => {
                const other = corpus[random.uintLessThan(usize, corpus.len)];
                const from = random.uintAtMost(usize, other.len);
                len = insert(buffer, len, at, other[from..][0..random.uintAtMost(usize, other.len - from)]);
            },
            6 => {
                // A piece of itself once more: duplicated headers, repeated chunks.
                var piece: [64]u8 = undefined;
                const bytes = @min(len - at, random.uintAtMost(usize, piece.len));
                @memcpy(piece[0..bytes], buffer[at..][0..bytes]);
                len = insert(buffer, len, random.uintAtMost(usize, len), piece[0..bytes]);
            },
            else => unreachable,
        }
    }
    return buffer[0..len];
}

fn insert(buffer: *[input_bytes_max]u8, len: usize, at: usize, piece: []const u8) usize {
    if (len + piece.len > buffer.len) return len;
    @memmove(buffer[at + piece.len .. len + piece.len], buffer[at..len]);
    @memcpy(buffer[at..][0..piece.len], piece);
    return len + piece.len;
}

test "mutated requests, briefly" {
    var corpus_arena: std.heap.ArenaAllocator = .init(std.heap.page_allocator);
    defer corpus_arena.deinit();
    var arena: std.heap.ArenaAllocator = .init(std.heap.page_allocator);
    defer arena.deinit();
    var fuzzer: Fuzzer = try .init(corpus_arena.allocator(), std.testing.random_seed);
    errdefer fuzzer.explain();
    for (0..20_000) |_| try fuzzer.step(&arena);
    // A fuzzer whose every input is refused would look at little.
    try std.testing.expect(fuzzer.accepted > 1000);
}

test "streams of Zig's own fuzzer" {
    const one = struct {
        fn testOne(_: void, smith: *std.testing.Smith) anyerror!void {
            var arena: std.heap.ArenaAllocator = .init(std.heap.page_allocator);
            defer arena.deinit();
            var buffer: [1024]u8 = undefined;
            const stream = buffer[0..smith.slice(&buffer)];
            var prng: std.Random.DefaultPrng = .init(smith.value(u64));
            _ = try check(arena.allocator(), stream, prng.random());
        }
    };
    try std.testing.fuzz({}, one.testOne, .{});
}

test "a decoder may unwrap in place" {
    const body = @import("body.zig");
    const wrapped = "3\r\nabc\r\n0004;x\r\ndefg\r\n0\r\nT: u\r\n\r\n";
    for (1..wrapped.len + 1) |piece| {
        var bytes: [wrapped.len]u8 = wrapped.*;
        var decoder: body.Decoder = .init(.chunked, 100);
        var read: usize = 0;
        var written: usize = 0;
        while (true) {
            const end = @min(bytes.len, read + piece);
            const step = decoder.decode(bytes[read..end], bytes[written..]);
            read += step.consumed;
            written += step.produced;
            if (step.state != .more) break try std.testing.expectEqual(body.State.done, step.state);
        }
        try std.testing.expectEqual(bytes.len, read);
        try std.testing.expectEqualStrings("abcdefg", bytes[0..written]);
    }
}
