//! What one reactor knows about a version: its workers, its queue, whether its starts fail.
//!
//! Called by pool/. Kept by `VersionRow.index` in one array, so finding it costs nothing; all-zero means unknown here.
//! What always holds: `workers` counts starting, idle and busy ones; idle ones form a stack, the last used on top, so
//! that the others can reach their idle time-out.
const std = @import("std");
const limits = @import("../limits.zig");
const Queue = @import("invocation.zig").Queue;
const table = @import("../route/table.zig");

const Version = @This();

/// Known to this reactor: in the revision, or with workers of an older one left.
known: bool = false,
/// In the revision in use.
current: bool = false,
/// In the pool's list of versions that want something.
wanting: bool = false,
/// Start one worker whether or not anybody calls; cleared once that has been decided.
probe: bool = false,
id_bytes: u8 = 0,
id_buffer: [limits.name_bytes_max]u8 = undefined,
concurrency_max: u32 = 0,
workers_min: u32 = 0,
/// Of the revision in use; refreshed by each swap.
spawn: []const u8 = "",
/// Its workers may have processes of their own.
children: bool = false,
/// What its workers are started with.
open_files_max: u32 = 0,
processes_max: u32 = 0,
workers: u32 = 0,
starting: u32 = 0,
idle: u32 = 0,
idle_top: u16 = 0,
idle_bottom: u16 = 0,
queue: Queue = .{},
/// In a row; each doubles the pause before the next start.
failures: u32 = 0,
/// Workers that died in the middle of an invocation, in a row.
crashes: u32 = 0,
start_after_ns: u64 = 0,
/// How long its longest invocation took, forgotten slowly: what the next one may be expected to take.
run_recent_ns: u64 = 0,
/// Of the tenant, in the revision in use.
reservation: table.Reservation = .{},
cpu_weight: u32 = table.cpu_weight_default,
/// Hash of the tenant's name: whose claims its workers' are.
tenant_key: u64 = 0,
/// It has a worker without the reservation that it should have: start a better one, if there is room.
improving: bool = false,
improve_after_ns: u64 = 0,

pub fn id(version: *const Version) []const u8 {
    return version.id_buffer[0..version.id_bytes];
}

/// How long the next start waits after `failures` failed ones in a row.
pub fn backoff(failures: u32) u64 {
    if (failures == 0) return 0;
    const doublings: u6 = @intCast(@min(failures - 1, 20));
    return @min(@as(u64, limits.start_backoff_first_ns) << doublings, limits.start_backoff_last_ns);
}

/// How many workers it may have on this reactor.
pub fn workersMax(version: *const Version) u32 {
    return @max(version.concurrency_max, 1);
}

test "the pause doubles up to a bound" {
    try std.testing.expectEqual(0, backoff(0));
    try std.testing.expectEqual(limits.start_backoff_first_ns, backoff(1));
    try std.testing.expectEqual(4 * limits.start_backoff_first_ns, backoff(3));
    try std.testing.expectEqual(limits.start_backoff_last_ns, backoff(4_000_000));
}
