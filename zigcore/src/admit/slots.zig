//! How many invocations of each tenant are in the gateway now: one atomic number per tenant, shared by the reactors.
//!
//! `assign`/`commit` are the host thread's, around a swap of revisions; `acquire`/`release` are any reactor's.
//! A slot belongs to a tenant's name and outlives revisions: a swap neither loses nor doubles what is in flight.
//! A deleted tenant's slot is reused only once nothing of it is in flight and no reactor knows it any more.
const std = @import("std");
const assert = std.debug.assert;
const limits = @import("../limits.zig");
const pages = @import("../io/pages.zig");
const table_module = @import("../route/table.zig");
const Tenant = table_module.Tenant;
const Index = table_module.Index;

/// Tenants of the revision in use, of the next one, and nothing else for long.
pub const slots_max = 2 * limits.tenants_max;

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

    pub fn inFlight(slots: *const Slots, slot: u32) u32 {
        assert(slot < slots_max);
        return slots.slots[slot].in_flight.load(.monotonic);
    }

    /// Before the swap: gives each tenant of the next revision its slot. On error the next revision must not be used.
    pub fn assign(slots: *Slots, tenants: []Tenant) error{TooLarge}!void {
        assert(tenants.len <= limits.tenants_max);
        const index = slots.sweep();
        var free: u32 = 0;
        for (tenants) |*tenant| {
            const hash = table_module.tenantHash(0, tenant.name);
            tenant.slot = slots.find(&index, hash, tenant.name) orelse taken: {
                while (free < slots.used and slots.slots[free].name_bytes > 0) free += 1;
                if (free == slots_max) return error.TooLarge;
                if (free == slots.used) slots.used += 1;
                slots.slots[free].nameSet(tenant.name);
                index.insert(hash, free);
                break :taken free;
            };
            slots.slots[tenant.slot].proposed = true;
        }
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

/// Two cache lines: reactors that serve different tenants do not disturb each other.
const Slot = struct {
    in_flight: std.atomic.Value(u32) align(64),
    /// The revision in use has this tenant.
    committed: bool,
    /// The next revision has this tenant.
    proposed: bool,
    /// 0: free.
    name_bytes: u8,
    name_buffer: [limits.name_bytes_max]u8,

    fn name(slot: *const Slot) []const u8 {
        return slot.name_buffer[0..slot.name_bytes];
    }

    fn nameSet(slot: *Slot, text: []const u8) void {
        assert(text.len > 0 and text.len <= limits.name_bytes_max);
        assert(slot.in_flight.load(.monotonic) == 0);
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
    try slots.assign(&first);
    slots.commit();
    try std.testing.expect(first[0].slot != first[1].slot);
    try std.testing.expect(slots.acquire(first[0].slot, 2));
    try std.testing.expect(slots.acquire(first[0].slot, 2));
    try std.testing.expect(!slots.acquire(first[0].slot, 2));
    try std.testing.expect(slots.acquire(first[1].slot, 2));

    // The order changes, a tenant comes, one keeps its name.
    var second = [_]Tenant{ testTenant("new"), testTenant("acme") };
    try slots.assign(&second);
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
    try slots.assign(&third);
    slots.commit();
    try std.testing.expectEqual(first[1].slot, third[2].slot); // zeta's, now free
}

test "a refused revision takes nothing away from the one in use" {
    const slots = try Slots.create();
    defer slots.destroy();
    var used = [_]Tenant{testTenant("acme")};
    try slots.assign(&used);
    slots.commit();
    for (0..3) |_| {
        // Assigned, then never committed, with acme in it and without.
        var refused = [_]Tenant{ testTenant("other"), testTenant("acme") };
        try slots.assign(&refused);
        try std.testing.expectEqual(used[0].slot, refused[1].slot);
        var without = [_]Tenant{testTenant("third")};
        try slots.assign(&without);
        try std.testing.expect(without[0].slot != used[0].slot);
    }
    try std.testing.expect(slots.used <= 3);
    var again = [_]Tenant{testTenant("acme")};
    try slots.assign(&again);
    try std.testing.expectEqual(used[0].slot, again[0].slot);
}

test "deleted tenants that are still in flight may use up the slots: an answer, until they end" {
    const slots = try Slots.create();
    defer slots.destroy();
    const tenants = try std.testing.allocator.alloc(Tenant, limits.tenants_max);
    defer std.testing.allocator.free(tenants);
    const names = try std.testing.allocator.alloc([8]u8, limits.tenants_max);
    defer std.testing.allocator.free(names);
    for ("abc") |generation| {
        for (tenants, names, 0..) |*tenant, *name, i| {
            tenant.* = testTenant(try std.fmt.bufPrint(name, "{c}{d}", .{ generation, i }));
        }
        if (generation == 'c') break;
        try slots.assign(tenants);
        slots.commit();
        if (generation == 'a') for (tenants) |tenant| try std.testing.expect(slots.acquire(tenant.slot, 1));
    }
    // All slots are taken: a's by what is in flight, b's by the revision in use.
    for (0..2) |_| try std.testing.expectError(error.TooLarge, slots.assign(tenants));
    for (0..slots_max) |slot| {
        if (slots.inFlight(@intCast(slot)) > 0) slots.release(@intCast(slot));
    }
    try slots.assign(tenants);
    slots.commit();
}

test "reactors together never exceed the limit" {
    const slots = try Slots.create();
    defer slots.destroy();
    var tenants = [_]Tenant{testTenant("acme")};
    try slots.assign(&tenants);
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
