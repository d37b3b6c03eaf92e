//! Root of `zig build test`: every file with tests, once.
comptime {
    _ = @import("limits.zig");
    _ = @import("pool/frame.zig");
    _ = @import("http/chars.zig");
    _ = @import("http/refusal.zig");
    _ = @import("http/parser.zig");
    _ = @import("http/body.zig");
    _ = @import("http/target.zig");
    _ = @import("http/table_test.zig");
    _ = @import("http/fuzz.zig");
}
