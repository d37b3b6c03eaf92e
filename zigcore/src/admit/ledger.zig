//! The bandwidth of the reserved CPUs: what was sold to whom. Mirrors the kernel's admission, CPU by CPU.
//!
//! One per gateway, shared by its reactors (pool/claim.zig), asked only when a worker starts or has ended: a lock that
//! spins is enough. The kernel's answer is the truth; where it refuses what the books allowed (somebody else on the
//! machine, or another gateway beside this one, holds bandwidth too) the CPU is `close`d for a while.
//! What always holds: on no CPU more is sold than `sellable`, and no tenant has more claims than it may.
const std = @import("std");
const assert = std.debug.assert;
const limits = @import("../limits.zig");
const ReservedCpu = @import("../meter/counters.zig").ReservedCpu;
const Reservation = @import("../route/table.zig").Reservation;

const Ledger = @This();

cpus: [limits.reserved_cpus_max]Cpu = undefined,
cpus_count: u32 = 0,
/// Of each CPU, in the kernel's unit.
sellable: u32 = 0,
claims: [limits.reserved_workers_max]Claim = @splat(.{}),
lock: std.atomic.Value(bool) = .init(false),

/// A whole CPU: the kernel counts bandwidth in 2^-20.
pub const whole: u32 = 1 << 20;

const Cpu = struct {
    number: u32,
    sold: u32 = 0,
    /// Nothing is sold before.
    closed_until_ns: u64 = 0,
};

pub const Claim = struct {
    /// Hash of the tenant's name; 0: this claim is free.
    tenant: u64 = 0,
    cpu: u8 = 0,
    bandwidth: u32 = 0,
    /// By a call that waits at a reactor without a worker for it.
    wanted: Wanted = .no,
};

pub const Wanted = enum {
    no,
    /// For another worker of the same tenant.
    own,
    /// For another tenant's.
    any,
};

pub const none: u16 = std.math.maxInt(u16);

pub const Answer = union(enum) {
    /// Index of the claim: `give` it back once the worker's process has ended.
    taken: u16,
    /// The tenant has as many as it bought.
    spent,
    /// No CPU has so much left, at the moment.
    full,
    /// There are no reserved CPUs, or none may be used at the moment.
    nowhere,
};

pub fn open(ledger: *Ledger, cpus: []const u32, sellable: u32) void {
    assert(cpus.len <= limits.reserved_cpus_max and sellable <= whole);
    ledger.* = .{ .cpus_count = @intCast(cpus.len), .sellable = sellable };
    for (ledger.cpus[0..cpus.len], cpus) |*cpu, number| cpu.* = .{ .number = number };
}

pub fn exists(ledger: *const Ledger) bool {
    return ledger.cpus_count > 0;
}

/// As the kernel computes it (to_ratio).
pub fn bandwidthOf(reservation: Reservation) u32 {
    assert(reservation.runtime_us <= reservation.period_us and reservation.period_us > 0);
    return @intCast((@as(u64, reservation.runtime_us) << 20) / reservation.period_us);
}

/// Takes one worker's share for `tenant` on the first CPU that has it: few CPUs are taken, large shares find room.
pub fn take(ledger: *Ledger, tenant: u64, reservation: Reservation, now_ns: u64) Answer {
    assert(tenant != 0);
    if (!ledger.exists()) return .nowhere;
    const bandwidth = bandwidthOf(reservation);
    ledger.lockTake();
    defer ledger.lockGive();
    var held: u32 = 0;
    var free: u16 = none;
    for (&ledger.claims, 0..) |*claim, at| {
        if (claim.tenant == tenant) held += 1;
        if (claim.tenant == 0 and free == none) free = @intCast(at);
    }
    if (held >= reservation.workers_max) return .spent;
    if (free == none) return .full;
    var closed: u32 = 0;
    for (ledger.cpus[0..ledger.cpus_count], 0..) |*cpu, at| {
        if (now_ns < cpu.closed_until_ns) {
            closed += 1;
            continue;
        }
        if (cpu.sold + bandwidth > ledger.sellable) continue;
        cpu.sold += bandwidth;
        ledger.claims[free] = .{ .tenant = tenant, .cpu = @intCast(at), .bandwidth = bandwidth };
        return .{ .taken = free };
    }
    return if (closed == ledger.cpus_count) .nowhere else .full;
}

pub fn give(ledger: *Ledger, index: u16) void {
    ledger.lockTake();
    defer ledger.lockGive();
    const claim = &ledger.claims[index];
    assert(claim.tenant != 0 and ledger.cpus[claim.cpu].sold >= claim.bandwidth);
    ledger.cpus[claim.cpu].sold -= claim.bandwidth;
    claim.* = .{};
}

/// A call of `tenant` waits for what others hold: they give it up as soon as they do nothing. `own`: it has as many as it
/// may, one of its own must go; otherwise anybody's.
pub fn ask(ledger: *Ledger, tenant: u64, own: bool) void {
    ledger.lockTake();
    defer ledger.lockGive();
    for (&ledger.claims) |*claim| {
        if (claim.tenant == tenant) claim.wanted = .own else if (claim.tenant != 0 and !own and claim.wanted == .no) claim.wanted = .any;
    }
}

pub fn wanted(ledger: *Ledger, index: u16) Wanted {
    ledger.lockTake();
    defer ledger.lockGive();
    assert(ledger.claims[index].tenant != 0);
    return ledger.claims[index].wanted;
}

/// Nothing more is sold on the CPU of that claim for a while.
pub fn close(ledger: *Ledger, index: u16, until_ns: u64) void {
    ledger.lockTake();
    defer ledger.lockGive();
    const cpu = &ledger.cpus[ledger.claims[index].cpu];
    cpu.closed_until_ns = @max(cpu.closed_until_ns, until_ns);
}

/// The number of the CPU that a claim is for.
pub fn cpuOf(ledger: *const Ledger, index: u16) u32 {
    assert(ledger.claims[index].tenant != 0);
    return ledger.cpus[ledger.claims[index].cpu].number;
}

/// Sold on all CPUs together, of about this moment.
pub fn sold(ledger: *Ledger) u64 {
    ledger.lockTake();
    defer ledger.lockGive();
    var sum: u64 = 0;
    for (ledger.cpus[0..ledger.cpus_count]) |cpu| sum += cpu.sold;
    return sum;
}

/// CPU by CPU, for the metrics: what is sold and what could be.
pub fn books(ledger: *Ledger, out: *[limits.reserved_cpus_max]ReservedCpu) []const ReservedCpu {
    ledger.lockTake();
    defer ledger.lockGive();
    for (ledger.cpus[0..ledger.cpus_count], out[0..ledger.cpus_count]) |cpu, *row| {
        row.* = .{ .cpu = cpu.number, .sellable_ppm = ppm(ledger.sellable), .sold_ppm = ppm(cpu.sold) };
    }
    return out[0..ledger.cpus_count];
}

/// Rounded: the kernel's unit is a little finer.
fn ppm(bandwidth: u32) u32 {
    return @intCast((@as(u64, bandwidth) * 1_000_000 + whole / 2) / whole);
}

fn lockTake(ledger: *Ledger) void {
    while (ledger.lock.swap(true, .acquire)) std.atomic.spinLoopHint();
}

fn lockGive(ledger: *Ledger) void {
    ledger.lock.store(false, .release);
}

const testing = std.testing;
const fifth: Reservation = .{ .runtime_us = 20_000, .deadline_us = 100_000, .period_us = 100_000, .workers_max = 9, .fallback = true };

test "no more is sold than the kernel admits, CPU by CPU, and what is given back can be sold again" {
    var ledger: Ledger = .{};
    ledger.open(&.{ 3, 5 }, whole / 10 * 9);
    var taken: [8]u16 = undefined;
    for (&taken, 0..) |*claim, i| {
        claim.* = ledger.take(i + 1, fifth, 0).taken;
        try testing.expectEqual(@as(u32, if (i < 4) 3 else 5), ledger.cpuOf(claim.*));
    }
    try testing.expectEqual(Answer.full, ledger.take(99, fifth, 0));
    try testing.expect(ledger.sold() > whole / 10 * 15 and ledger.sold() <= whole / 10 * 18);
    var rows: [limits.reserved_cpus_max]ReservedCpu = undefined;
    for (ledger.books(&rows), [_]u32{ 3, 5 }) |row, cpu| {
        try testing.expectEqual(cpu, row.cpu);
        try testing.expectEqual(900, (row.sellable_ppm + 500) / 1000);
        try testing.expectEqual(800, (row.sold_ppm + 500) / 1000);
    }
    ledger.give(taken[1]);
    try testing.expectEqual(3, ledger.cpuOf(ledger.take(99, fifth, 0).taken));
}

test "a tenant has as many as it bought, whatever is free" {
    var ledger: Ledger = .{};
    ledger.open(&.{1}, whole / 10 * 9);
    var two = fifth;
    two.workers_max = 2;
    const first = ledger.take(7, two, 0).taken;
    _ = ledger.take(7, two, 0).taken;
    try testing.expectEqual(Answer.spent, ledger.take(7, two, 0));
    _ = ledger.take(8, two, 0).taken;
    ledger.give(first);
    _ = ledger.take(7, two, 0).taken;
}

test "who waits asks the tenant's own claims, or everybody's, and what is given back is asked no more" {
    var ledger: Ledger = .{};
    ledger.open(&.{1}, whole / 10 * 9);
    const mine = ledger.take(7, fifth, 0).taken;
    const others = ledger.take(8, fifth, 0).taken;
    try testing.expectEqual(Wanted.no, ledger.wanted(mine));
    ledger.ask(7, true);
    try testing.expectEqual(Wanted.own, ledger.wanted(mine));
    try testing.expectEqual(Wanted.no, ledger.wanted(others));
    ledger.ask(7, false);
    try testing.expectEqual(Wanted.any, ledger.wanted(others));
    ledger.give(mine);
    try testing.expectEqual(Wanted.no, ledger.wanted(ledger.take(9, fifth, 0).taken));
}

test "a CPU that the kernel refused is left alone for a while; without CPUs nothing is sold" {
    var ledger: Ledger = .{};
    try testing.expectEqual(Answer.nowhere, ledger.take(1, fifth, 0));
    ledger.open(&.{1}, whole / 10 * 9);
    const claim = ledger.take(1, fifth, 0).taken;
    ledger.close(claim, 50);
    ledger.give(claim);
    try testing.expectEqual(Answer.nowhere, ledger.take(1, fifth, 49));
    try testing.expectEqual(0, ledger.sold());
    _ = ledger.take(1, fifth, 50).taken;
}

test "bandwidth is counted as the kernel does" {
    try testing.expectEqual(209715, bandwidthOf(fifth));
    try testing.expectEqual(whole, bandwidthOf(.{ .runtime_us = 50_000, .deadline_us = 50_000, .period_us = 50_000, .workers_max = 1, .fallback = true }));
}
