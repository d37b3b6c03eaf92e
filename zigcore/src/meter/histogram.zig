//! Durations in fixed log-linear buckets (as HdrHistogram's): eight per power of two, so a value is known to 12.5 %.
//!
//! One writer, its reactor; read at any time by the host's thread. No locks, no read-modify-write instructions.
//! Always holds: a recorded value is in exactly one bucket, and `sum_ns` is exact.
const std = @import("std");
const assert = std.debug.assert;

const linear_bits = 3;
const linear_count = 1 << linear_bits;
/// Longer ones count as this long: about 37 minutes.
pub const value_ns_max: u64 = (1 << 41) - 1;
pub const buckets_count = bucketOf(value_ns_max) + 1;

/// All-zero is empty.
pub const Histogram = struct {
    buckets: [buckets_count]u64 = @splat(0),
    sum_ns: u64 = 0,

    pub fn record(h: *Histogram, value_ns: u64) void {
        const value = @min(value_ns, value_ns_max);
        increase(&h.buckets[bucketOf(value)], 1);
        increase(&h.sum_ns, value);
    }

    /// Adds what is in `other` now; for sums over reactors in the reader's own memory.
    pub fn add(h: *Histogram, other: *const Histogram) void {
        for (&h.buckets, &other.buckets) |*mine, *theirs| mine.* += load(theirs);
        h.sum_ns += load(&other.sum_ns);
    }

    pub fn count(h: *const Histogram) u64 {
        var total: u64 = 0;
        for (&h.buckets) |*bucket| total += load(bucket);
        return total;
    }

    /// The upper bound of the bucket in which the value of that rank is; 0 when empty.
    pub fn quantile(h: *const Histogram, permille: u64) u64 {
        assert(permille <= 1000);
        const rank = (h.count() * permille + 999) / 1000;
        if (rank == 0) return 0;
        var seen: u64 = 0;
        for (&h.buckets, 0..) |*bucket, at| {
            seen += load(bucket);
            if (seen >= rank) return upperBound(at);
        }
        return value_ns_max;
    }
};

pub fn bucketOf(value: u64) usize {
    assert(value <= value_ns_max);
    if (value < linear_count) return @intCast(value);
    const exponent: u6 = @intCast(63 - @clz(value));
    const linear = (value >> (exponent - linear_bits)) & (linear_count - 1);
    return (@as(usize, exponent) - linear_bits + 1) * linear_count + @as(usize, @intCast(linear));
}

/// The largest value that belongs to the bucket.
pub fn upperBound(bucket: usize) u64 {
    assert(bucket < buckets_count);
    if (bucket < linear_count) return bucket;
    const shift: u6 = @intCast(bucket / linear_count - 1);
    const linear: u64 = linear_count + bucket % linear_count;
    return ((linear + 1) << shift) - 1;
}

/// Only ever called by the one writer of `number`.
pub inline fn increase(number: *u64, by: u64) void {
    @atomicStore(u64, number, number.* +% by, .monotonic);
}

pub inline fn load(number: *const u64) u64 {
    return @atomicLoad(u64, number, .monotonic);
}

test "every bucket starts where the one before it ends" {
    for (0..buckets_count - 1) |bucket| {
        try std.testing.expectEqual(bucket, bucketOf(upperBound(bucket)));
        try std.testing.expectEqual(bucket + 1, bucketOf(upperBound(bucket) + 1));
    }
    try std.testing.expectEqual(value_ns_max, upperBound(buckets_count - 1));
}

test "a bucket is never wider than an eighth of its values" {
    for (linear_count..buckets_count) |bucket| {
        const low = upperBound(bucket - 1) + 1;
        try std.testing.expect(upperBound(bucket) - low + 1 <= @max(low / 8, 1));
    }
}

test "counts, sums, quantiles, and values without bound" {
    var h: Histogram = .{};
    try std.testing.expectEqual(0, h.quantile(990));
    for (1..1001) |i| h.record(i * 1000);
    h.record(std.math.maxInt(u64));
    try std.testing.expectEqual(1001, h.count());
    try std.testing.expectEqual(500_500_000 + value_ns_max, h.sum_ns);
    const median = h.quantile(500);
    try std.testing.expect(median >= 500_000 and median <= 565_000);
    try std.testing.expectEqual(value_ns_max, h.quantile(1000));
    var sum: Histogram = .{};
    sum.add(&h);
    sum.add(&h);
    try std.testing.expectEqual(2002, sum.count());
}
