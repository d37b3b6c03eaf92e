//! Root of `zig build fuzz`: seconds, and perhaps a seed. Ends with 1 and the way to repeat it when a property fails.
//!
//! Called by `make fuzz`. A panic prints the input as well: it is a finding like any other.
const std = @import("std");
const http = @import("http/fuzz.zig");

pub const panic = std.debug.FullPanic(panicked);

var fuzzer: ?*const http.Fuzzer = null;

fn panicked(message: []const u8, first_trace_address: ?usize) noreturn {
    if (fuzzer) |running| running.explain();
    std.debug.defaultPanic(message, first_trace_address);
}

pub fn main(init: std.process.Init) !u8 {
    const arguments = try init.minimal.args.toSlice(init.arena.allocator());
    if (arguments.len != 3) {
        std.debug.print("usage: fuzz SECONDS SEED (0: by the clock)\n", .{});
        return 2;
    }
    const seconds = try std.fmt.parseInt(i64, arguments[1], 10);
    const asked = try std.fmt.parseInt(u64, arguments[2], 10);
    const start = std.Io.Timestamp.now(init.io, .awake);
    const seed: u64 = if (asked != 0) asked else @truncate(@as(u96, @bitCast(std.Io.Timestamp.now(init.io, .real).toNanoseconds())));
    std.debug.print("http fuzz: seed {d}, {d} s\n", .{ seed, seconds });

    var running: http.Fuzzer = try .init(init.arena.allocator(), seed);
    fuzzer = &running;
    var arena: std.heap.ArenaAllocator = .init(std.heap.page_allocator);
    while (running.iteration % 256 != 0 or start.untilNow(init.io, .awake).toSeconds() < seconds) {
        running.step(&arena) catch |err| {
            running.explain();
            std.debug.print("http fuzz: {t}\n", .{err});
            return 1;
        };
    }
    std.debug.print("http fuzz: {d} streams, {d} of them accepted\n", .{ running.iteration, running.accepted });
    return 0;
}
