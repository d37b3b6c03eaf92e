//! `zig build fuzz -Dseconds=N [-Dseed=S]` and `zig build bench-parser`. Called by build.zig.
const std = @import("std");

pub fn add(b: *std.Build, target: std.Build.ResolvedTarget) void {
    const seconds = b.option(u32, "seconds", "fuzz: how long (default 10)") orelse 10;
    const seed = b.option(u64, "seed", "fuzz: repeat this run (default: by the clock)") orelse 0;
    // Like production: asserts and bounds checks are on, and a failed one is a finding.
    const fuzz = program(b, target, "fuzz", "src/fuzz.zig");
    fuzz.addArg(b.fmt("{d}", .{seconds}));
    fuzz.addArg(b.fmt("{d}", .{seed}));
    b.step("fuzz", "Feed mutated requests to the HTTP parser").dependOn(&fuzz.step);

    const bench = program(b, target, "bench-parser", "src/bench_parser.zig");
    b.step("bench-parser", "Time the HTTP parser").dependOn(&bench.step);
}

fn program(b: *std.Build, target: std.Build.ResolvedTarget, name: []const u8, root: []const u8) *std.Build.Step.Run {
    const run = b.addRunArtifact(b.addExecutable(.{
        .name = name,
        .root_module = b.createModule(.{ .root_source_file = b.path(root), .target = target, .optimize = .safe }),
    }));
    // Its output is for people, and the same build may be run again.
    run.has_side_effects = true;
    return run;
}
