//! The bandwidth of the reserved CPUs: what was sold to whom. Mirrors the kernel's admission, CPU by CPU.
//!
//! One per gateway, shared by its reactors (pool/claim.zig), asked only when a worker starts or has ended: a lock that
//! spins is enough. The kernel's answer is the truth; where it refuses what the books allowed (somebody else on the
//! machine, or another gateway beside this one, holds bandwidth too) the CPU is `close`d for a while.
//! Who waits for a reservation waits in a row, whichever reactor it is at: what is given back is kept for the first of
//! them, so that a large share does not starve beside small ones that take each piece of it as it comes. It is kept for
//! `reserved_hold_ns`, then not for as long, and so on: nobody who never fits keeps others out.
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
/// First come first.
waiters: [limits.reserved_waiters_max]Waiter = undefined,
waiters_count: u32 = 0,
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

/// A version at a reactor, with calls and no worker for them.
const Waiter = struct {
    who: u64,
    tenant: u64,
    bandwidth: u32,
    workers_max: u32,
    since_ns: u64,
    /// Unless it asks again.
    until_ns: u64,

    fn holds(waiter: *const Waiter, now_ns: u64) bool {
        return (now_ns -| waiter.since_ns) / limits.reserved_hold_ns % 2 == 0;
    }
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

/// Takes one worker's share for `tenant` on the first CPU that has it: few CPUs are taken, large shares find room. `who`
/// takes it, and waits no more: what those keep that wait longer is not there for it.
pub fn take(ledger: *Ledger, who: u64, tenant: u64, reservation: Reservation, now_ns: u64) Answer {
    assert(tenant != 0 and who != 0);
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
    var rooms: [limits.reserved_cpus_max]u32 = undefined;
    var closed: u32 = 0;
    for (ledger.cpus[0..ledger.cpus_count], rooms[0..ledger.cpus_count]) |cpu, *room| {
        const is_closed = now_ns < cpu.closed_until_ns;
        closed += @intFromBool(is_closed);
        room.* = if (is_closed) 0 else ledger.sellable - cpu.sold;
    }
    if (closed == ledger.cpus_count) return .nowhere;
    if (held + ledger.keep(who, tenant, rooms[0..ledger.cpus_count], now_ns) >= reservation.workers_max) return .spent;
    for (ledger.cpus[0..ledger.cpus_count], rooms[0..ledger.cpus_count], 0..) |*cpu, room, at| {
        if (bandwidth > room) continue;
        cpu.sold += bandwidth;
        ledger.claims[free] = .{ .tenant = tenant, .cpu = @intCast(at), .bandwidth = bandwidth };
        ledger.waiterRemove(who);
        return .{ .taken = free };
    }
    return .full;
}

/// Takes out of `rooms` what is kept for those who wait longer than `who`; returns how many of them are `tenant`'s.
fn keep(ledger: *Ledger, who: u64, tenant: u64, rooms: []u32, now_ns: u64) u32 {
    ledger.waitersExpire(now_ns);
    var of_tenant: u32 = 0;
    for (ledger.waiters[0..ledger.waiters_count]) |*waiter| {
        if (waiter.who == who) break;
        if (!waiter.holds(now_ns)) continue;
        if (waiter.tenant == tenant) of_tenant += 1;
        // It waits for one of its own tenant's, and takes that one's place.
        if (ledger.heldBy(waiter.tenant) >= waiter.workers_max) continue;
        const room = for (rooms) |*room| {
            if (room.* >= waiter.bandwidth) break room;
        } else {
            // Where it needs least more: nobody else gets anything there.
            rooms[std.mem.findMax(u32, rooms)] = 0;
            continue;
        };
        room.* -= waiter.bandwidth;
    }
    return of_tenant;
}

fn heldBy(ledger: *const Ledger, tenant: u64) u32 {
    var held: u32 = 0;
    for (&ledger.claims) |*claim| held += @intFromBool(claim.tenant == tenant);
    return held;
}

fn waitersExpire(ledger: *Ledger, now_ns: u64) void {
    var kept: u32 = 0;
    for (ledger.waiters[0..ledger.waiters_count]) |waiter| {
        if (waiter.until_ns < now_ns) continue;
        ledger.waiters[kept] = waiter;
        kept += 1;
    }
    ledger.waiters_count = kept;
}

fn waiterRemove(ledger: *Ledger, who: u64) void {
    const waiters = ledger.waiters[0..ledger.waiters_count];
    for (waiters, 0..) |waiter, at| {
        if (waiter.who != who) continue;
        @memmove(waiters[at .. waiters.len - 1], waiters[at + 1 ..]);
        ledger.waiters_count -= 1;
        return;
    }
}

/// `who` has calls and no worker: it waits in the row, as long as it says so again and again.
pub fn wait(ledger: *Ledger, who: u64, tenant: u64, reservation: Reservation, now_ns: u64) void {
    assert(tenant != 0 and who != 0);
    const bandwidth = bandwidthOf(reservation);
    // What cannot be had waits for nothing.
    if (bandwidth > ledger.sellable) return;
    ledger.lockTake();
    defer ledger.lockGive();
    ledger.waitersExpire(now_ns);
    const until_ns = now_ns + limits.reserved_wait_ns;
    var of_tenant: u32 = 0;
    for (ledger.waiters[0..ledger.waiters_count]) |*waiter| {
        of_tenant += @intFromBool(waiter.tenant == tenant);
        if (waiter.who != who) continue;
        waiter.bandwidth = bandwidth;
        waiter.workers_max = reservation.workers_max;
        waiter.until_ns = until_ns;
        return;
    }
    if (ledger.waiters_count == ledger.waiters.len or of_tenant == limits.reserved_waiters_of_tenant_max) return;
    ledger.waiters[ledger.waiters_count] = .{
        .who = who,
        .tenant = tenant,
        .bandwidth = bandwidth,
        .workers_max = reservation.workers_max,
        .since_ns = now_ns,
        .until_ns = until_ns,
    };
    ledger.waiters_count += 1;
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
        claim.* = ledger.take(i + 1, i + 1, fifth, 0).taken;
        try testing.expectEqual(@as(u32, if (i < 4) 3 else 5), ledger.cpuOf(claim.*));
    }
    try testing.expectEqual(Answer.full, ledger.take(99, 99, fifth, 0));
    try testing.expect(ledger.sold() > whole / 10 * 15 and ledger.sold() <= whole / 10 * 18);
    var rows: [limits.reserved_cpus_max]ReservedCpu = undefined;
    for (ledger.books(&rows), [_]u32{ 3, 5 }) |row, cpu| {
        try testing.expectEqual(cpu, row.cpu);
        try testing.expectEqual(900, (row.sellable_ppm + 500) / 1000);
        try testing.expectEqual(800, (row.sold_ppm + 500) / 1000);
    }
    ledger.give(taken[1]);
    try testing.expectEqual(3, ledger.cpuOf(ledger.take(99, 99, fifth, 0).taken));
}

test "a tenant has as many as it bought, whatever is free" {
    var ledger: Ledger = .{};
    ledger.open(&.{1}, whole / 10 * 9);
    var two = fifth;
    two.workers_max = 2;
    const first = ledger.take(7, 7, two, 0).taken;
    _ = ledger.take(7, 7, two, 0).taken;
    try testing.expectEqual(Answer.spent, ledger.take(7, 7, two, 0));
    _ = ledger.take(8, 8, two, 0).taken;
    ledger.give(first);
    _ = ledger.take(7, 7, two, 0).taken;
}

test "who waits asks the tenant's own claims, or everybody's, and what is given back is asked no more" {
    var ledger: Ledger = .{};
    ledger.open(&.{1}, whole / 10 * 9);
    const mine = ledger.take(7, 7, fifth, 0).taken;
    const others = ledger.take(8, 8, fifth, 0).taken;
    try testing.expectEqual(Wanted.no, ledger.wanted(mine));
    ledger.ask(7, true);
    try testing.expectEqual(Wanted.own, ledger.wanted(mine));
    try testing.expectEqual(Wanted.no, ledger.wanted(others));
    ledger.ask(7, false);
    try testing.expectEqual(Wanted.any, ledger.wanted(others));
    ledger.give(mine);
    try testing.expectEqual(Wanted.no, ledger.wanted(ledger.take(9, 9, fifth, 0).taken));
}

test "a CPU that the kernel refused is left alone for a while; without CPUs nothing is sold" {
    var ledger: Ledger = .{};
    try testing.expectEqual(Answer.nowhere, ledger.take(1, 1, fifth, 0));
    ledger.open(&.{1}, whole / 10 * 9);
    const claim = ledger.take(1, 1, fifth, 0).taken;
    ledger.close(claim, 50);
    ledger.give(claim);
    try testing.expectEqual(Answer.nowhere, ledger.take(1, 1, fifth, 49));
    try testing.expectEqual(0, ledger.sold());
    _ = ledger.take(1, 1, fifth, 50).taken;
}

test "bandwidth is counted as the kernel does" {
    try testing.expectEqual(209715, bandwidthOf(fifth));
    try testing.expectEqual(whole, bandwidthOf(.{ .runtime_us = 50_000, .deadline_us = 50_000, .period_us = 50_000, .workers_max = 1, .fallback = true }));
}

test "what is given back is kept for who waits longest, however small the others' shares are" {
    var ledger: Ledger = .{};
    ledger.open(&.{1}, whole / 10 * 9);
    var large = fifth;
    large.runtime_us = 80_000;
    var small: [4]u16 = undefined;
    for (&small, 0..) |*claim, i| claim.* = ledger.take(i + 1, i + 1, fifth, 0).taken;
    try testing.expectEqual(Answer.full, ledger.take(9, 9, large, 0));
    // Control: nobody waits, and a small one takes each piece as it comes.
    ledger.give(small[0]);
    small[0] = ledger.take(1, 1, fifth, 1).taken;
    ledger.wait(9, 9, large, 2);
    for (&small, 0..) |*claim, i| {
        ledger.give(claim.*);
        try testing.expectEqual(Answer.full, ledger.take(i + 1, i + 1, fifth, 3));
        ledger.wait(i + 1, i + 1, fifth, 3);
    }
    const taken = ledger.take(9, 9, large, 4).taken;
    ledger.give(taken);
    // Who waits no more keeps nothing.
    _ = ledger.take(4, 4, fifth, 5 + limits.reserved_wait_ns).taken;
}

test "those who wait are served in their order, one tenant's own among themselves" {
    var ledger: Ledger = .{};
    ledger.open(&.{ 1, 2 }, whole / 10 * 9);
    var one = fifth;
    one.workers_max = 1;
    const held = ledger.take(70, 7, one, 0).taken;
    ledger.wait(71, 7, one, 1);
    ledger.wait(72, 7, one, 1);
    // Its tenant has what it may have: it keeps no room from others.
    for (1..8) |tenant| _ = ledger.take(tenant + 100, tenant + 100, fifth, 1).taken;
    ledger.give(held);
    try testing.expectEqual(Answer.spent, ledger.take(70, 7, one, 2));
    try testing.expectEqual(Answer.spent, ledger.take(72, 7, one, 2));
    _ = ledger.take(71, 7, one, 2).taken;
}

test "who never fits keeps others out for a while only, and who could never does not at all" {
    var ledger: Ledger = .{};
    ledger.open(&.{1}, whole / 10 * 9);
    _ = ledger.take(1, 1, fifth, 0).taken;
    var large = fifth;
    large.runtime_us = 89_000;
    ledger.wait(9, 9, large, 0);
    try testing.expectEqual(Answer.full, ledger.take(2, 2, fifth, 0));
    ledger.wait(9, 9, large, limits.reserved_wait_ns);
    var now_ns: u64 = 0;
    while (now_ns < limits.reserved_hold_ns) : (now_ns += limits.reserved_wait_ns) ledger.wait(9, 9, large, now_ns);
    ledger.wait(9, 9, large, limits.reserved_hold_ns);
    _ = ledger.take(2, 2, fifth, limits.reserved_hold_ns).taken;
    large.runtime_us = 95_000;
    var other: Ledger = .{};
    other.open(&.{1}, whole / 10 * 9);
    other.wait(9, 9, large, 0);
    _ = other.take(1, 1, fifth, 0).taken;
}

test "one tenant's many versions leave the row to others" {
    var ledger: Ledger = .{};
    ledger.open(&.{1}, whole / 10 * 9);
    var large = fifth;
    large.runtime_us = 80_000;
    const held = ledger.take(1, 1, large, 0).taken;
    for (0..limits.reserved_waiters_max) |i| ledger.wait(100 + i, 7, fifth, 1);
    try testing.expectEqual(limits.reserved_waiters_of_tenant_max, ledger.waiters_count);
    // It is in the row, behind them: what comes after it finds nothing.
    ledger.wait(9, 9, large, 1);
    ledger.give(held);
    try testing.expectEqual(Answer.full, ledger.take(2, 2, fifth, 2));
}
