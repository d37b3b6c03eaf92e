//! Root of `zig build test`: every file with tests, once.
comptime {
    _ = @import("limits.zig");
    _ = @import("pool/frame.zig");
}
