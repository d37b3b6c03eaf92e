//! One invocation between its admission and its answer, and the fixed set of all of a reactor's.
//!
//! Called by pool/. It refers to no row of a revision: limits are copied when it is admitted, so a swap does not touch
//! it. What always holds: it is queued (in one version's queue), running (on one worker), settled (answered or
//! forgotten), and leaves the set through `Set.give` exactly once; its client may go away at any time.
const std = @import("std");
const assert = std.debug.assert;
const limits = @import("../limits.zig");
const Connection = @import("../http/connection.zig");
const Admission = @import("../admit/admit.zig").Admission;

const Invocation = @This();

state: State,
/// null: the client is gone; what comes back is dropped.
connection: ?*Connection,
version: u32,
worker: u16,
admission: Admission,
id: [16]u8,
/// The caller has the tenant's key: may see tracebacks.
owner: bool,
/// No worker of the version was ready when it came.
cold: bool,
/// The token of ours in Authorization is not the function's business.
authorization_hidden: bool,
arrived_ns: u64,
dispatched_ns: u64,
/// Its limits.
timeout_ns: u64,
/// Bound of the worker's memory.
memory_bytes_max: u64,
cpu_ns_max: u64,
output_bytes_max: u32,
log_bytes_max: u32,
open_files_max: u32,
processes_max: u32,
/// What it has used, as far as it is known (meter/usage.zig).
arrived_unix_ns: u64,
start_ns: u64 = 0,
cpu_ns: u64 = 0,
memory_bytes: u64 = 0,
request_bytes: u32,
response_bytes: u32 = 0,
log_bytes: u32 = 0,
/// Of its answer.
status: u16 = 0,
/// In the version's queue, or in the list of free ones.
next: u32,
previous: u32,

pub const State = enum { free, queued, running };

pub const none: u32 = std.math.maxInt(u32);

pub const Set = struct {
    items: []Invocation,
    free_first: u32,

    pub fn init(items: []Invocation) Set {
        for (items, 0..) |*item, index| {
            item.state = .free;
            item.next = if (index + 1 < items.len) @intCast(index + 1) else none;
        }
        return .{ .items = items, .free_first = 0 };
    }

    pub fn full(set: *const Set) bool {
        return set.free_first == none;
    }

    pub fn take(set: *Set) ?*Invocation {
        if (set.free_first == none) return null;
        const item = &set.items[set.free_first];
        assert(item.state == .free);
        set.free_first = item.next;
        return item;
    }

    pub fn give(set: *Set, item: *Invocation) void {
        assert(item.state != .free);
        item.state = .free;
        item.connection = null;
        item.next = set.free_first;
        set.free_first = set.indexOf(item);
    }

    pub fn indexOf(set: *const Set, item: *const Invocation) u32 {
        return @intCast((@intFromPtr(item) - @intFromPtr(set.items.ptr)) / @sizeOf(Invocation));
    }
};

/// First in, first out; any may leave the middle.
pub const Queue = struct {
    first: u32 = none,
    last: u32 = none,
    count: u32 = 0,

    pub fn push(queue: *Queue, set: *Set, item: *Invocation) void {
        const index = set.indexOf(item);
        item.next = none;
        item.previous = queue.last;
        if (queue.last == none) queue.first = index else set.items[queue.last].next = index;
        queue.last = index;
        queue.count += 1;
    }

    pub fn head(queue: *const Queue, set: *Set) ?*Invocation {
        return if (queue.first == none) null else &set.items[queue.first];
    }

    pub fn remove(queue: *Queue, set: *Set, item: *Invocation) void {
        assert(queue.count > 0);
        if (item.previous == none) queue.first = item.next else set.items[item.previous].next = item.next;
        if (item.next == none) queue.last = item.previous else set.items[item.next].previous = item.previous;
        queue.count -= 1;
        assert((queue.count == 0) == (queue.first == none));
    }
};

test "queues keep their order when one leaves the middle, and sets give back what was given" {
    var items: [4]Invocation = undefined;
    var set: Set = .init(&items);
    var queue: Queue = .{};
    var taken: [4]*Invocation = undefined;
    for (&taken) |*item| {
        item.* = set.take().?;
        item.*.state = .queued;
        queue.push(&set, item.*);
    }
    try std.testing.expectEqual(null, set.take());
    queue.remove(&set, taken[1]);
    queue.remove(&set, taken[3]);
    try std.testing.expectEqual(taken[0], queue.head(&set).?);
    queue.remove(&set, taken[0]);
    try std.testing.expectEqual(taken[2], queue.head(&set).?);
    queue.remove(&set, taken[2]);
    try std.testing.expectEqual(null, queue.head(&set));
    set.give(taken[2]);
    try std.testing.expectEqual(taken[2], set.take().?);
}
