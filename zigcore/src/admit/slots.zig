//! What the reactors share about each tenant, and about each function with a quota of its own: how many invocations are
//! in the gateway now, the bucket of its rate, the purse of its quota.
//!
//! `assign`/`commit` are the host thread's, around a swap of revisions; `acquire`/`release` are any reactor's.
//! A slot belongs to a name ("tenant" or "tenant/function") and outlives revisions: a swap neither loses nor doubles
//! what is in flight, and does not fill a bucket.
//! A deleted tenant's slot is reused only once nothing of it is in flight and no reactor knows it any more.
const std = @import("std");
const assert = std.debug.assert;
const limits = @import("../limits.zig");
const pages = @import("../io/pages.zig");
const table_module = @import("../route/table.zig");
const Tenant = table_module.Tenant;
const Version = table_module.Version;
const Bucket = @import("bucket.zig");
const Purse = @import("purse.zig");
const Index = table_module.Index;

/// Of the revision in use, of the next one, and nothing else for long.
pub const slots_max = 2 * limits.leased_max;
const name_bytes_max = 2 * limits.name_bytes_max + 1;

pub const Slots = struct {
    slots: [slots_max]Slot,
    entries: [Index.capacity(slots_max)]Index.Entry,
    /// Slots from here on were never used.
    used: u32,

    pub fn create() error{OutOfMemory}!*Slots {
        return pages.create(Slots);
    }

    pub fn destroy(slots: *Slots) void {
        pages.destroy(Slots, slots);
    }

    /// Takes one of `concurrency_max`. false: as many are in flight already. The limit is the caller's current one, so
    /// that a lowered limit holds from the next invocation on.
    pub fn acquire(slots: *Slots, slot: u32, concurrency_max: u32) bool {
        assert(slot < slots_max);
        const in_flight = &slots.slots[slot].in_flight;
        var seen = in_flight.load(.monotonic);
        while (seen < concurrency_max) {
            // A failed exchange means that another reactor made progress: the loop ends.
            seen = in_flight.cmpxchgWeak(seen, seen + 1, .monotonic, .monotonic) orelse return true;
        }
        return false;
    }

    pub fn release(slots: *Slots, slot: u32) void {
        assert(slot < slots_max);
        const before = slots.slots[slot].in_flight.fetchSub(1, .monotonic);
        assert(before > 0); // Ours: every release follows one acquire.
    }

    pub fn bucket(slots: *Slots, slot: u32) *Bucket {
        assert(slot < slots_max);
        return &slots.slots[slot].bucket;
    }

    pub fn purse(slots: *Slots, slot: u32) *Purse {
        assert(slot < slots_max);
        return &slots.slots[slot].purse;
    }

    /// The host's thread: the purse of "tenant" or "tenant/function", null when no revision has it.
    pub fn purseFind(slots: *Slots, text: []const u8) ?*Purse {
        const index: Index = .{ .entries = slots.entries[0..Index.capacity(slots_max)] };
        const at = slots.find(&index, table_module.tenantHash(0, text), text) orelse return null;
        return &slots.slots[at].purse;
    }

    pub const Named = struct { name: []const u8, purse: *Purse };

    /// The host's thread: the next purse from `at` on that was touched since it was asked for, and is untouched now.
    pub fn touchedNext(slots: *Slots, at: *u32) ?Named {
        while (at.* < slots.used) {
            const slot = &slots.slots[at.*];
            at.* += 1;
            if (slot.name_bytes == 0 or !slot.purse.touched.load(.monotonic)) continue;
            slot.purse.touched.store(false, .monotonic);
            return .{ .name = slot.name(), .purse = &slot.purse };
        }
        return null;
    }

    pub fn inFlight(slots: *const Slots, slot: u32) u32 {
        assert(slot < slots_max);
        return slots.slots[slot].in_flight.load(.monotonic);
    }

    /// Before the swap: gives each tenant of the next revision its slot, and each version of a function with a quota
    /// of its own. On error the next revision must not be used.
    pub fn assign(slots: *Slots, tenants: []Tenant, versions: []Version) error{TooLarge}!void {
        assert(tenants.len <= limits.tenants_max);
        const index = slots.sweep();
        var free: u32 = 0;
        for (tenants) |*tenant| tenant.slot = try slots.slotOf(&index, &free, tenant.name);
        for (versions) |*version| {
            if (!version.leased) continue;
            var buffer: [name_bytes_max]u8 = undefined;
            const text = std.fmt.bufPrint(&buffer, "{s}/{s}", .{ tenants[version.tenant].name, version.function }) catch unreachable;
            version.slot = try slots.slotOf(&index, &free, text);
        }
    }

    fn slotOf(slots: *Slots, index: *const Index, free: *u32, text: []const u8) error{TooLarge}!u32 {
        const hash = table_module.tenantHash(0, text);
        const at = slots.find(index, hash, text) orelse taken: {
            while (free.* < slots.used and slots.slots[free.*].name_bytes > 0) free.* += 1;
            // The index is sized for `slots_max`; half of it may be of the revision in use.
            if (free.* == slots_max) return error.TooLarge;
            if (free.* == slots.used) slots.used += 1;
            slots.slots[free.*].nameSet(text);
            index.insert(hash, free.*);
            break :taken free.*;
        };
        slots.slots[at].proposed = true;
        return at;
    }

    /// After the swap: every reactor uses the revision of the last `assign`.
    pub fn commit(slots: *Slots) void {
        for (slots.slots[0..slots.used]) |*slot| slot.committed = slot.proposed;
    }

    /// Frees what nobody can reach and indexes what is left.
    fn sweep(slots: *Slots) Index {
        const index: Index = .init(&slots.entries, slots_max);
        for (slots.slots[0..slots.used], 0..) |*slot, at| {
            slot.proposed = false;
            if (!slot.committed and slot.in_flight.load(.monotonic) == 0) slot.name_bytes = 0;
            if (slot.name_bytes > 0) index.insert(table_module.tenantHash(0, slot.name()), @intCast(at));
        }
        return index;
    }

    fn find(slots: *const Slots, index: *const Index, hash: u64, name: []const u8) ?u32 {
        var probe = index.probe(hash);
        while (probe.next()) |at| {
            if (std.mem.eql(u8, slots.slots[at].name(), name)) return at;
        }
        return null;
    }
};

/// Whole cache lines: reactors that serve different tenants do not disturb each other.
const Slot = struct {
    in_flight: std.atomic.Value(u32) align(64),
    bucket: Bucket,
    purse: Purse,
    /// The revision in use has this tenant.
    committed: bool,
    /// The next revision has this tenant.
    proposed: bool,
    /// 0: free.
    name_bytes: u8,
    name_buffer: [name_bytes_max]u8,

    fn name(slot: *const Slot) []const u8 {
        return slot.name_buffer[0..slot.name_bytes];
    }

    fn nameSet(slot: *Slot, text: []const u8) void {
        assert(text.len > 0 and text.len <= name_bytes_max);
        assert(slot.in_flight.load(.monotonic) == 0);
        slot.bucket = .{};
        slot.purse = .{};
        @memcpy(slot.name_buffer[0..text.len], text);
        slot.name_bytes = @intCast(text.len);
    }
};

fn testTenant(name: []const u8) Tenant {
    return .{ .name = name, .concurrency_max = 2, .slot = 0, .openapi_public = "", .openapi_all = "" };
}

test "in flight survives a swap, under the same name only" {
    const slots = try Slots.create();
    defer slots.destroy();
    var first = [_]Tenant{ testTenant("acme"), testTenant("zeta") };
    try slots.assign(&first, &.{});
    slots.commit();
    try std.testing.expect(first[0].slot != first[1].slot);
    try std.testing.expect(slots.acquire(first[0].slot, 2));
    try std.testing.expect(slots.acquire(first[0].slot, 2));
    try std.testing.expect(!slots.acquire(first[0].slot, 2));
    try std.testing.expect(slots.acquire(first[1].slot, 2));

    // The order changes, a tenant comes, one keeps its name.
    var second = [_]Tenant{ testTenant("new"), testTenant("acme") };
    try slots.assign(&second, &.{});
    slots.commit();
    try std.testing.expectEqual(first[0].slot, second[1].slot);
    try std.testing.expect(second[0].slot != first[1].slot); // zeta is still in flight
    try std.testing.expectEqual(2, slots.inFlight(second[1].slot));
    // A lowered limit holds at once, a raised one too.
    try std.testing.expect(!slots.acquire(second[1].slot, 1));
    try std.testing.expect(slots.acquire(second[1].slot, 3));
    for (0..3) |_| slots.release(second[1].slot);
    try std.testing.expectEqual(0, slots.inFlight(second[1].slot));

    slots.release(first[1].slot);
    var third = [_]Tenant{ testTenant("acme"), testTenant("new"), testTenant("late") };
    try slots.assign(&third, &.{});
    slots.commit();
    try std.testing.expectEqual(first[1].slot, third[2].slot); // zeta's, now free
}

test "a refused revision takes nothing away from the one in use" {
    const slots = try Slots.create();
    defer slots.destroy();
    var used = [_]Tenant{testTenant("acme")};
    try slots.assign(&used, &.{});
    slots.commit();
    for (0..3) |_| {
        // Assigned, then never committed, with acme in it and without.
        var refused = [_]Tenant{ testTenant("other"), testTenant("acme") };
        try slots.assign(&refused, &.{});
        try std.testing.expectEqual(used[0].slot, refused[1].slot);
        var without = [_]Tenant{testTenant("third")};
        try slots.assign(&without, &.{});
        try std.testing.expect(without[0].slot != used[0].slot);
    }
    try std.testing.expect(slots.used <= 3);
    var again = [_]Tenant{testTenant("acme")};
    try slots.assign(&again, &.{});
    try std.testing.expectEqual(used[0].slot, again[0].slot);
}

test "deleted tenants that are still in flight may use up the slots: an answer, until they end" {
    const slots = try Slots.create();
    defer slots.destroy();
    const tenants = try std.testing.allocator.alloc(Tenant, limits.tenants_max);
    defer std.testing.allocator.free(tenants);
    const names = try std.testing.allocator.alloc([8]u8, limits.tenants_max);
    defer std.testing.allocator.free(names);
    for ("abcde") |generation| {
        for (tenants, names, 0..) |*tenant, *name, i| {
            tenant.* = testTenant(try std.fmt.bufPrint(name, "{c}{d}", .{ generation, i }));
        }
        if (generation == 'e') break;
        try slots.assign(tenants, &.{});
        slots.commit();
        if (generation != 'd') for (tenants) |tenant| try std.testing.expect(slots.acquire(tenant.slot, 1));
    }
    comptime assert(slots_max == 4 * limits.tenants_max);
    // All slots are taken: those before d by what is in flight, d's by the revision in use.
    for (0..2) |_| try std.testing.expectError(error.TooLarge, slots.assign(tenants, &.{}));
    for (0..slots_max) |slot| {
        if (slots.inFlight(@intCast(slot)) > 0) slots.release(@intCast(slot));
    }
    try slots.assign(tenants, &.{});
    slots.commit();
}

test "a function with a quota of its own has a purse, found by both names, that outlives its versions" {
    const slots = try Slots.create();
    defer slots.destroy();
    var tenants = [_]Tenant{ testTenant("acme"), testTenant("zeta") };
    var versions = [_]Version{ testVersion(1, "hello", true), testVersion(1, "hello", true), testVersion(0, "hello", false) };
    try slots.assign(&tenants, &versions);
    slots.commit();
    try std.testing.expectEqual(versions[0].slot, versions[1].slot);
    const purse = slots.purseFind("zeta/hello").?;
    try std.testing.expectEqual(purse, slots.purse(versions[0].slot));
    try std.testing.expectEqual(null, slots.purseFind("acme/hello"));
    try std.testing.expect(slots.purseFind("acme") != null);
    purse.fill(.{ .invocations = 3, .cpu_us = 1, .mib_us = 1 }, .set, .none);
    var at: u32 = 0;
    try std.testing.expectEqual(null, slots.touchedNext(&at));
    try std.testing.expectEqual(null, purse.take());
    at = 0;
    try std.testing.expectEqualStrings("zeta/hello", slots.touchedNext(&at).?.name);
    try std.testing.expectEqual(null, slots.touchedNext(&at));
    try slots.assign(&tenants, versions[0..1]);
    slots.commit();
    try std.testing.expectEqual(2, slots.purse(versions[0].slot).invocations.load(.monotonic));
}

fn testVersion(tenant: u32, function: []const u8, leased: bool) Version {
    var version: Version = undefined;
    version.tenant = tenant;
    version.function = function;
    version.leased = leased;
    return version;
}

test "reactors together never exceed the limit" {
    const slots = try Slots.create();
    defer slots.destroy();
    var tenants = [_]Tenant{testTenant("acme")};
    try slots.assign(&tenants, &.{});
    slots.commit();
    const Racer = struct {
        fn run(shared: *Slots, slot: u32, most: *std.atomic.Value(u32)) void {
            for (0..20_000) |_| {
                if (!shared.acquire(slot, 3)) continue;
                _ = most.fetchMax(shared.inFlight(slot), .monotonic);
                shared.release(slot);
            }
        }
    };
    var most: std.atomic.Value(u32) = .init(0);
    var threads: [4]std.Thread = undefined;
    for (&threads) |*thread| thread.* = try std.Thread.spawn(.{}, Racer.run, .{ slots, tenants[0].slot, &most });
    for (threads) |thread| thread.join();
    try std.testing.expectEqual(0, slots.inFlight(tenants[0].slot));
    try std.testing.expect(most.load(.monotonic) >= 1 and most.load(.monotonic) <= 3);
}
