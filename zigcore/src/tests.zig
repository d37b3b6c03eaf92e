//! Root of `zig build test`: every file with tests, once.
comptime {
    _ = @import("limits.zig");
    _ = @import("io/pages.zig");
    _ = @import("io/arena.zig");
    _ = @import("io/sys.zig");
    _ = @import("io/clock.zig");
    _ = @import("io/deadlines.zig");
    _ = @import("meter/histogram.zig");
    _ = @import("meter/counters.zig");
    _ = @import("meter/usage.zig");
    _ = @import("http/problem.zig");
    _ = @import("http/chars.zig");
    _ = @import("http/refusal.zig");
    _ = @import("http/parser.zig");
    _ = @import("http/body.zig");
    _ = @import("http/target.zig");
    _ = @import("http/table_test.zig");
    _ = @import("http/response.zig");
    _ = @import("http/bodies.zig");
    _ = @import("route/table.zig");
    _ = @import("route/key.zig");
    _ = @import("route/reader.zig");
    _ = @import("route/revision.zig");
    _ = @import("admit/slots.zig");
    _ = @import("admit/admit.zig");
    _ = @import("pool/frame.zig");
    _ = @import("http/fuzz.zig");
    _ = @import("pool/events.zig");
    _ = @import("pool/invocation.zig");
    _ = @import("pool/version.zig");
    _ = @import("pool/worker.zig");
    _ = @import("pool/zygote.zig");
    _ = @import("jail/apply.zig");
    _ = @import("jail/seccomp.zig");
    _ = @import("runtime/layout.zig");
    _ = @import("runtime/heap.zig");
}
