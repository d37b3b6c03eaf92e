//! Builds `libzigcore.so` (the data plane and the worker's loop, loaded by CPython) and runs the Zig tests.
//!   python -m ziglang build            → zig-out/lib/libzigcore.so
//!   python -m ziglang build test       → unit tests, parser tables, brief fuzzing
//! `safe` (once called ReleaseSafe) is the default: asserts and bounds checks stay on in production (docs/decisions/).
const std = @import("std");

pub fn build(b: *std.Build) void {
    const target = b.standardTargetOptions(.{});
    const optimize = b.option(std.lang.Optimize, "optimize", "default: safe") orelse .safe;

    const core = b.createModule(.{
        .root_source_file = b.path("src/zigcore.zig"),
        .target = target,
        .optimize = optimize,
        // pthreads: the reactor threads live in a process that also runs CPython and glibc.
        .link_libc = true,
        .pic = true,
    });
    const library = b.addLibrary(.{ .name = "zigcore", .linkage = .dynamic, .root_module = core });
    // The Py* functions of runtime/ are found in the process that loads the library: CPython itself.
    library.linker_allow_shlib_undefined = true;
    b.installArtifact(library);

    const tests = b.addTest(.{
        .root_module = b.createModule(.{
            .root_source_file = b.path("src/tests.zig"),
            .target = target,
            .optimize = optimize,
            .link_libc = true,
        }),
    });
    const test_step = b.step("test", "Run the Zig tests");
    test_step.dependOn(&b.addRunArtifact(tests).step);

    @import("build_fuzz.zig").add(b, target);
}
