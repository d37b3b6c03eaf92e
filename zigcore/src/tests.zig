//! Root of `zig build test`: every file with tests, once.
comptime {
    _ = @import("limits.zig");
    _ = @import("io/pages.zig");
    _ = @import("meter/histogram.zig");
    _ = @import("meter/counters.zig");
    _ = @import("http/problem.zig");
    _ = @import("route/table.zig");
    _ = @import("route/key.zig");
    _ = @import("route/revision.zig");
    _ = @import("admit/slots.zig");
    _ = @import("admit/admit.zig");
    _ = @import("pool/frame.zig");
    _ = @import("pool/events.zig");
}
