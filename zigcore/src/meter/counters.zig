//! What one reactor has counted, and the JSON snapshot of all reactors (gateway/contract/metrics.py).
//!
//! One writer, its reactor; `snapshotWrite` is the host's thread, at any time (relaxed loads: each number is right, two
//! numbers may be of different moments). Counters only grow; gauges are set.
//! Counts per version are kept by `VersionRow.index`: the reactor calls `versionReset` when a revision gives an index to
//! another version.
const std = @import("std");
const assert = std.debug.assert;
const limits = @import("../limits.zig");
const pages = @import("../io/pages.zig");
const histogram = @import("histogram.zig");
const Histogram = histogram.Histogram;
const increase = histogram.increase;
const load = histogram.load;

/// What became of an invocation whose route was found. Each is counted exactly once.
pub const Outcome = enum(u8) {
    /// The function answered (with whatever status).
    ok,
    function_error,
    invalid_arguments,
    /// The worker died or sent garbage.
    crashed,
    timeout,
    cpu_limit,
    memory_limit,
    output_limit,
    /// 429: not executed.
    refused_concurrency,
    refused_rate,
    /// 402 or 429: the month's quota or a spending cap; not executed.
    refused_quota,
    /// The tenant is unpaid or suspended; not executed.
    refused_status,
    /// 503: no place in the queue, or no worker in time; not executed.
    refused_queue,
    /// The version is not ready; not executed.
    refused_not_ready,
    /// The client went away before it was executed.
    cancelled,
    /// Our fault.
    internal,
};
pub const outcomes_count = std.enums.values(Outcome).len;

pub const WorkerState = enum { starting, idle, busy, stopping };

/// Gauges and counters of a reactor without further dimension, by their names in the snapshot.
pub const Number = enum {
    connections_open,
    connections_accepted_total,
    /// Over `connections_max`: answered 503 and closed.
    connections_refused_total,
    /// Complete requests, those for /-/ included.
    requests_total,
    received_bytes_total,
    sent_bytes_total,
    queue_length,
    body_buffers_used,
    /// Full of what clients pipeline behind requests that are being served.
    receive_buffers_held,
    workers_started_total,
    worker_starts_failed_total,
    /// Ended without being asked to.
    workers_crashed_total,
    /// Of them, ended for a system call that only a break-out needs.
    forbidden_calls_total,
    events_dropped_total,
    /// Workers that run under a reservation.
    workers_deadline,
    reservations_admitted_total,
    /// By the kernel, or because the partition could not be made.
    reservations_refused_total,
    /// Invocations that burned CPU on a shared CPU.
    demotions_total,
    /// Usage records made: one for each admitted invocation; of them, those that a worker has run, and what these used.
    usage_records_total,
    usage_executed_total,
    usage_cpu_ns_total,
    usage_wall_ns_total,
    usage_request_bytes_total,
    usage_response_bytes_total,
    usage_log_bytes_total,
};
pub const numbers_count = std.enums.values(Number).len;

const status_first = 100;
const statuses_count = 500;

/// All-zero is the start.
pub const Counters = struct {
    numbers: [numbers_count]u64,
    workers: [std.enums.values(WorkerState).len]u64,
    /// Answers by status, from 100 on.
    statuses: [statuses_count]u64,
    /// From the complete request to the dispatch; from the spawn request to ready; from the dispatch to the answer.
    queue: Histogram,
    start: Histogram,
    run: Histogram,
    outcomes: [limits.versions_max][outcomes_count]u64,

    pub fn create() error{OutOfMemory}!*Counters {
        return pages.create(Counters);
    }

    pub fn destroy(c: *Counters) void {
        pages.destroy(Counters, c);
    }

    pub fn add(c: *Counters, number: Number, by: u64) void {
        increase(&c.numbers[@backingInt(number)], by);
    }

    pub fn set(c: *Counters, number: Number, value: u64) void {
        @atomicStore(u64, &c.numbers[@backingInt(number)], value, .monotonic);
    }

    pub fn workersSet(c: *Counters, state: WorkerState, count: u64) void {
        @atomicStore(u64, &c.workers[@backingInt(state)], count, .monotonic);
    }

    /// Every answer that was sent. A status out of 100 … 599 is nobody's and is not counted.
    pub fn answered(c: *Counters, status: u16) void {
        if (status < status_first or status >= status_first + statuses_count) return;
        increase(&c.statuses[status - status_first], 1);
    }

    pub fn outcome(c: *Counters, version: u32, what: Outcome) void {
        assert(version < limits.versions_max);
        increase(&c.outcomes[version][@backingInt(what)], 1);
    }

    pub fn versionReset(c: *Counters, version: u32) void {
        assert(version < limits.versions_max);
        for (&c.outcomes[version]) |*count| @atomicStore(u64, count, 0, .monotonic);
    }
};

/// A CPU whose time is sold (admit/ledger.zig), in millionths of it.
pub const ReservedCpu = struct {
    cpu: u32,
    sellable_ppm: u32,
    sold_ppm: u32,
};

pub const Snapshot = struct {
    revision: u64,
    reactors: []const *const Counters,
    /// The CPU of each reactor.
    cpus: []const u32,
    /// Taken at start: address space, not what is resident.
    reserved_bytes: u64,
    reserved_cpus: []const ReservedCpu,
};

/// Writes what fits into `buffer` and returns the bytes needed in all; the JSON is whole only if they fit.
/// `versions`: has `len()` and `label(i)` with index, tenant, function, version; `tenants`: has `len()` and `gauge(i)`
/// with tenant, in_flight, concurrency_max. Names are DNS labels and ids, so nothing needs escaping.
pub fn snapshotWrite(buffer: []u8, snapshot: Snapshot, versions: anytype, tenants: anytype) usize {
    assert(snapshot.reactors.len == snapshot.cpus.len);
    var sink: Sink = .{ .buffer = buffer };
    sink.print("{{\"revision\":{d},\"reserved_bytes\":{d},\"reactors\":[", .{ snapshot.revision, snapshot.reserved_bytes });
    for (snapshot.reactors, snapshot.cpus, 0..) |reactor, cpu, i| {
        if (i > 0) sink.write(",");
        reactorWrite(&sink, reactor, cpu);
    }
    sink.write("],\"reserved_cpus\":[");
    for (snapshot.reserved_cpus, 0..) |reserved, i| {
        sink.print("{s}{{\"cpu\":{d},\"sellable_ppm\":{d},\"sold_ppm\":{d}}}", .{
            if (i > 0) "," else "", reserved.cpu, reserved.sellable_ppm, reserved.sold_ppm,
        });
    }
    sink.write("],\"versions\":[");
    var first = true;
    for (0..versions.len()) |i| versionWrite(&sink, snapshot.reactors, versions.label(i), &first);
    sink.write("],\"tenants\":[");
    for (0..tenants.len()) |i| {
        const gauge = tenants.gauge(i);
        sink.print("{s}{{\"tenant\":\"{s}\",\"in_flight\":{d},\"concurrency_max\":{d}}}", .{
            if (i > 0) "," else "", gauge.tenant, gauge.in_flight, gauge.concurrency_max,
        });
    }
    sink.write("],\"answers\":{");
    first = true;
    for (0..statuses_count) |at| {
        var count: u64 = 0;
        for (snapshot.reactors) |reactor| count += load(&reactor.statuses[at]);
        if (count == 0) continue;
        sink.print("{s}\"{d}\":{d}", .{ if (first) "" else ",", status_first + at, count });
        first = false;
    }
    sink.write("}");
    histogramWrite(&sink, "queue", snapshot.reactors);
    histogramWrite(&sink, "start", snapshot.reactors);
    histogramWrite(&sink, "run", snapshot.reactors);
    sink.write("}");
    return sink.bytes;
}

fn reactorWrite(sink: *Sink, reactor: *const Counters, cpu: u32) void {
    sink.print("{{\"cpu\":{d}", .{cpu});
    for (std.enums.values(Number), &reactor.numbers) |number, *value| {
        sink.print(",\"{s}\":{d}", .{ @tagName(number), load(value) });
    }
    sink.write(",\"workers\":{");
    for (std.enums.values(WorkerState), &reactor.workers, 0..) |state, *value, i| {
        sink.print("{s}\"{s}\":{d}", .{ if (i > 0) "," else "", @tagName(state), load(value) });
    }
    sink.write("}}");
}

/// Only versions that were called, only outcomes that happened.
fn versionWrite(sink: *Sink, reactors: []const *const Counters, label: anytype, first: *bool) void {
    var counts: [outcomes_count]u64 = @splat(0);
    var total: u64 = 0;
    for (reactors) |reactor| {
        for (&counts, &reactor.outcomes[label.index]) |*count, *part| {
            const value = load(part);
            count.* += value;
            total += value;
        }
    }
    if (total == 0) return;
    sink.print("{s}{{\"index\":{d},\"tenant\":\"{s}\",\"function\":\"{s}\",\"version\":\"{s}\",\"outcomes\":{{", .{
        if (first.*) "" else ",", label.index, label.tenant, label.function, label.version,
    });
    first.* = false;
    var first_outcome = true;
    for (std.enums.values(Outcome), counts) |what, count| {
        if (count == 0) continue;
        sink.print("{s}\"{s}\":{d}", .{ if (first_outcome) "" else ",", @tagName(what), count });
        first_outcome = false;
    }
    sink.write("}}");
}

/// `"queue":{"count":…,"sum_ns":…,"buckets":[[upper bound in ns, count],…]}`: buckets that are not empty, not cumulative.
fn histogramWrite(sink: *Sink, comptime name: []const u8, reactors: []const *const Counters) void {
    var sum: Histogram = .{};
    for (reactors) |reactor| sum.add(&@field(reactor, name));
    sink.print(",\"" ++ name ++ "\":{{\"count\":{d},\"sum_ns\":{d},\"buckets\":[", .{ sum.count(), sum.sum_ns });
    var first = true;
    for (sum.buckets, 0..) |count, bucket| {
        if (count == 0) continue;
        sink.print("{s}[{d},{d}]", .{ if (first) "" else ",", histogram.upperBound(bucket), count });
        first = false;
    }
    sink.write("]}");
}

/// Counts on where the buffer ends.
const Sink = struct {
    buffer: []u8,
    bytes: usize = 0,

    fn write(s: *Sink, text: []const u8) void {
        if (s.bytes < s.buffer.len) {
            const fits = @min(text.len, s.buffer.len - s.bytes);
            @memcpy(s.buffer[s.bytes..][0..fits], text[0..fits]);
        }
        s.bytes += text.len;
    }

    /// One piece: at most three names and a few numbers.
    fn print(s: *Sink, comptime format: []const u8, arguments: anytype) void {
        var piece: [512]u8 = undefined;
        comptime assert(3 * limits.name_bytes_max + 5 * 20 + 128 <= piece.len);
        s.write(std.fmt.bufPrint(&piece, format, arguments) catch unreachable);
    }
};

const TestVersions = struct {
    fn len(_: TestVersions) usize {
        return 3;
    }
    fn label(_: TestVersions, i: usize) struct { index: u32, tenant: []const u8, function: []const u8, version: []const u8 } {
        const longest: [limits.name_bytes_max]u8 = comptime @splat('n');
        const names = [_][]const u8{ "hello", &longest, "unused" };
        return .{ .index = ([_]u32{ 0, limits.versions_max - 1, 7 })[i], .tenant = names[i], .function = names[i], .version = names[i] };
    }
};

const TestTenants = struct {
    fn len(_: TestTenants) usize {
        return 2;
    }
    fn gauge(_: TestTenants, i: usize) struct { tenant: []const u8, in_flight: u32, concurrency_max: u32 } {
        return .{ .tenant = ([_][]const u8{ "acme", "zeta" })[i], .in_flight = @intCast(i), .concurrency_max = 64 };
    }
};

test "the snapshot is JSON, sums the reactors, and says how much room it needs" {
    const testing = std.testing;
    const one = try Counters.create();
    defer one.destroy();
    const two = try Counters.create();
    defer two.destroy();
    one.outcome(0, .ok);
    two.outcome(0, .ok);
    two.outcome(limits.versions_max - 1, .timeout);
    one.add(.requests_total, 3);
    one.set(.connections_open, std.math.maxInt(u64));
    two.workersSet(.busy, 2);
    one.answered(200);
    two.answered(200);
    two.answered(404);
    two.answered(99);
    two.answered(600);
    one.queue.record(1000);
    two.run.record(5_000_000);
    const snapshot: Snapshot = .{ .revision = 4, .reactors = &.{ one, two }, .cpus = &.{ 0, 3 }, .reserved_bytes = 1 << 30, .reserved_cpus = &.{
        .{ .cpu = 1, .sellable_ppm = 900_000, .sold_ppm = 0 },
        .{ .cpu = 2, .sellable_ppm = 900_000, .sold_ppm = 250_000 },
    } };

    var buffer: [8192]u8 = undefined;
    const needed = snapshotWrite(&buffer, snapshot, TestVersions{}, TestTenants{});
    // Byte for byte what tests/unit/gateway/contract/test_metrics.py checks against the types of metrics.py.
    const fixture = @embedFile("metrics_fixture.json");
    try testing.expectEqualStrings(std.mem.trimEnd(u8, fixture, "\n"), buffer[0..needed]);
    var small: [100]u8 = undefined;
    try testing.expectEqual(needed, snapshotWrite(&small, snapshot, TestVersions{}, TestTenants{}));
    try testing.expectEqualStrings(buffer[0..100], &small);
    try testing.expectEqual(needed, snapshotWrite(&.{}, snapshot, TestVersions{}, TestTenants{}));

    const parsed = try std.json.parseFromSlice(std.json.Value, testing.allocator, buffer[0..needed], .{});
    defer parsed.deinit();
    const root = parsed.value.object;
    try testing.expectEqual(4, root.get("revision").?.integer);
    const versions = root.get("versions").?.array.items;
    try testing.expectEqual(2, versions.len);
    try testing.expectEqual(2, versions[0].object.get("outcomes").?.object.get("ok").?.integer);
    try testing.expectEqual(1, versions[1].object.get("outcomes").?.object.get("timeout").?.integer);
    try testing.expectEqual(2, root.get("answers").?.object.get("200").?.integer);
    try testing.expectEqual(2, root.get("answers").?.object.count());
    const reactors = root.get("reactors").?.array.items;
    try testing.expectEqual(3, reactors[1].object.get("cpu").?.integer);
    try testing.expectEqual(2, reactors[1].object.get("workers").?.object.get("busy").?.integer);
    try testing.expectEqual(1, root.get("queue").?.object.get("count").?.integer);
    try testing.expectEqual(5_000_000, root.get("run").?.object.get("sum_ns").?.integer);

    two.versionReset(limits.versions_max - 1);
    try testing.expect(snapshotWrite(&buffer, snapshot, TestVersions{}, TestTenants{}) < needed);
}
