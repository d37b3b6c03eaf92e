//! The one decision: may this invocation enter the gateway now?
//!
//! Called by pool/serve.zig after route and key are known and before anything is spent on the invocation. Asked in the
//! order in which an answer is cheap to give back: status, concurrency, rate, the function's quota, the tenant's quota.
//! A refusal leaves nothing reserved. What was reserved is in `Admission` and given back with `release`, exactly once,
//! whatever became of the invocation; only one that ran costs anything.
const std = @import("std");
const limits = @import("../limits.zig");
const Slots = @import("slots.zig").Slots;
const Purse = @import("purse.zig");
const table = @import("../route/table.zig");

pub const Decision = union(enum) {
    admitted: Admission,
    refused: Refusal,
};

/// What is held until `release`. Survives a swap of revisions: it refers to no row.
pub const Admission = struct {
    slot: u32,
    /// Invocations were taken from these purses' slots.
    tenant_purse: ?u32 = null,
    function_purse: ?u32 = null,
    rate: Rate = .{},
};

/// The tenant's rate at that moment, for the headers of the answer (draft-ietf-httpapi-ratelimit-headers).
pub const Rate = struct {
    /// 0: the tenant has none.
    per_s: u32 = 0,
    burst: u32 = 0,
    left: u32 = 0,

    /// Seconds in which an empty bucket fills: the policy's window.
    pub fn windowSeconds(rate: Rate) u32 {
        return @max(1, std.math.divCeil(u32, rate.burst, @max(rate.per_s, 1)) catch unreachable);
    }

    /// Seconds until the bucket is full again.
    pub fn resetSeconds(rate: Rate) u32 {
        return std.math.divCeil(u32, rate.burst -| rate.left, @max(rate.per_s, 1)) catch unreachable;
    }
};

pub const Refusal = struct {
    policy: Policy,
    /// Of `concurrency` and `rate`; the host knows the numbers of a quota.
    allowed: u32 = 0,
    used: u32 = 0,
    retry_after_s: u32,
    /// The function's own quota, not the tenant's.
    of_function: bool = false,
    rate: Rate = .{},
};

/// Which promise of the tier would have been broken; the names of `violated-policies` in the answer.
pub const Policy = enum {
    concurrency,
    rate,
    invocations,
    cpu,
    memory,
    spend,
    /// A quota that no node can ask for: its keeper is away and what was leased is spent.
    unknown,
    unpaid,
    suspended,

    pub fn isQuota(policy: Policy) bool {
        return switch (policy) {
            .invocations, .cpu, .memory, .spend => true,
            .concurrency, .rate, .unknown, .unpaid, .suspended => false,
        };
    }
};

/// `now_ns` is monotonic, `now_s` Unix time.
pub fn admit(slots: *Slots, tenant: *const table.Tenant, version: *const table.Version, now_ns: u64, now_s: u64) Decision {
    switch (tenant.status) {
        .active => {},
        .unpaid => return refused(.{ .policy = .unpaid, .retry_after_s = 0 }),
        .suspended, .unknown => return refused(.{ .policy = .suspended, .retry_after_s = 0 }),
    }
    if (!slots.acquire(tenant.slot, tenant.concurrency_max)) return refused(.{
        .policy = .concurrency,
        .allowed = tenant.concurrency_max,
        .used = slots.inFlight(tenant.slot),
        // Concurrency frees up as soon as one invocation ends: the shortest wait that the header can say.
        .retry_after_s = 1,
    });
    var admission: Admission = .{ .slot = tenant.slot };
    if (tenant.rate_per_s > 0) {
        const burst = @max(tenant.burst, 1);
        admission.rate = .{ .per_s = tenant.rate_per_s, .burst = burst };
        switch (slots.bucket(tenant.slot).take(now_ns, tenant.rate_per_s, burst)) {
            .left => |left| admission.rate.left = left,
            .wait_ns => |wait_ns| {
                slots.release(tenant.slot);
                return refused(.{
                    .policy = .rate,
                    .allowed = tenant.rate_per_s,
                    .used = tenant.rate_per_s,
                    .retry_after_s = @intCast(std.math.divCeil(u64, wait_ns, limits.s_ns) catch unreachable),
                    .rate = admission.rate,
                });
            },
        }
    }
    if (version.leased) {
        if (slots.purse(version.slot).take()) |reason| return quotaRefused(slots, tenant, &admission, reason, now_s, true);
        admission.function_purse = version.slot;
    }
    if (tenant.leased) {
        if (slots.purse(tenant.slot).take()) |reason| return quotaRefused(slots, tenant, &admission, reason, now_s, false);
        admission.tenant_purse = tenant.slot;
    }
    return .{ .admitted = admission };
}

fn quotaRefused(slots: *Slots, tenant: *const table.Tenant, admission: *const Admission, reason: Purse.Reason, now_s: u64, of_function: bool) Decision {
    if (admission.rate.per_s > 0) slots.bucket(tenant.slot).giveBack(admission.rate.per_s);
    release(slots, admission.*, null);
    return refused(.{
        .policy = switch (reason) {
            .none, .unknown => .unknown,
            .invocations => .invocations,
            .cpu => .cpu,
            .memory => .memory,
            .spend => .spend,
        },
        // While a lease is on its way a second is enough; a quota that is spent comes back with its period.
        .retry_after_s = switch (reason) {
            .none, .unknown => 1,
            else => @intCast(@min(@max(tenant.resets_at_s -| now_s, 1), 366 * 24 * 3600)),
        },
        .of_function = of_function,
    });
}

fn refused(refusal: Refusal) Decision {
    return .{ .refused = refusal };
}

/// What an invocation used; null: it has not run, or we broke it.
pub const Used = struct { cpu_us: u64, mib_us: u64 };

pub fn release(slots: *Slots, admission: Admission, used: ?Used) void {
    slots.release(admission.slot);
    for ([_]?u32{ admission.function_purse, admission.tenant_purse }) |slot| {
        const purse = slots.purse(slot orelse continue);
        if (used) |spent| purse.spend(spent.cpu_us, spent.mib_us) else purse.giveBack();
    }
}

const Testing = struct {
    slots: *Slots,
    tenants: [1]table.Tenant = .{.{ .name = "acme", .concurrency_max = 2, .slot = 0, .openapi_public = "", .openapi_all = "" }},
    versions: [1]table.Version,

    fn create() !Testing {
        var t: Testing = .{ .slots = try .create(), .versions = undefined };
        t.versions[0].tenant = 0;
        t.versions[0].function = "hello";
        t.versions[0].leased = true;
        t.tenants[0].leased = true;
        try t.slots.assign(&t.tenants, &t.versions);
        t.slots.commit();
        t.versions[0].leased = false;
        t.tenants[0].leased = false;
        return t;
    }

    fn admitAt(t: *Testing, now_ns: u64) Decision {
        return admit(t.slots, &t.tenants[0], &t.versions[0], now_ns, 1000);
    }
};

test "the tenant's concurrency is the bound, and a release makes room" {
    var t: Testing = try .create();
    defer t.slots.destroy();
    const first = t.admitAt(0).admitted;
    _ = t.admitAt(0).admitted;
    const over = t.admitAt(0).refused;
    try std.testing.expectEqual(Policy.concurrency, over.policy);
    try std.testing.expectEqual(2, over.allowed);
    try std.testing.expectEqual(2, over.used);
    release(t.slots, first, null);
    _ = t.admitAt(0).admitted;
    t.tenants[0].concurrency_max = 1;
    try std.testing.expectEqual(1, t.admitAt(0).refused.allowed);
}

test "a refusal of any kind leaves nothing reserved" {
    var t: Testing = try .create();
    defer t.slots.destroy();
    const tenant = &t.tenants[0];
    tenant.rate_per_s = 10;
    tenant.burst = 5;
    tenant.leased = true;
    tenant.resets_at_s = 4600;
    t.versions[0].leased = true;
    const own = t.slots.purse(tenant.slot);
    const function = t.slots.purse(t.versions[0].slot);
    function.fill(.{ .invocations = 100, .cpu_us = 100, .mib_us = 100 }, .set, .none);
    own.fill(.{ .invocations = 0, .cpu_us = 100, .mib_us = 100 }, .set, .invocations);
    for (0..20) |_| {
        const over = t.admitAt(limits.s_ns).refused;
        try std.testing.expectEqual(Policy.invocations, over.policy);
        try std.testing.expectEqual(3600, over.retry_after_s);
    }
    try std.testing.expectEqual(0, t.slots.inFlight(tenant.slot));
    try std.testing.expectEqual(100, function.invocations.load(.monotonic));
    function.fill(.{ .invocations = 100, .cpu_us = 0, .mib_us = 100 }, .set, .spend);
    const capped = t.admitAt(limits.s_ns).refused;
    try std.testing.expect(capped.of_function and capped.policy == .spend);
    function.fill(.{ .invocations = 100, .cpu_us = 100, .mib_us = 100 }, .set, .none);
    own.fill(.{ .invocations = 100, .cpu_us = 100, .mib_us = 100 }, .set, .none);
    for (0..5) |i| {
        const admission = t.admitAt(limits.s_ns).admitted;
        try std.testing.expectEqual(4 - i, admission.rate.left);
        release(t.slots, admission, if (i == 0) .{ .cpu_us = 60, .mib_us = 7 } else null);
    }
    const slow = t.admitAt(limits.s_ns).refused;
    try std.testing.expectEqual(Policy.rate, slow.policy);
    try std.testing.expectEqual(1, slow.retry_after_s);
    // One ran, in both purses; four did not.
    for ([_]*Purse{ own, function }) |purse| {
        try std.testing.expectEqual(99, purse.invocations.load(.monotonic));
        try std.testing.expectEqual(40, purse.cpu_us.load(.monotonic));
        try std.testing.expectEqual(7, purse.spent_mib_us.load(.monotonic));
    }
    tenant.status = .unpaid;
    try std.testing.expectEqual(Policy.unpaid, t.admitAt(limits.s_ns).refused.policy);
    tenant.status = .suspended;
    try std.testing.expectEqual(Policy.suspended, t.admitAt(limits.s_ns).refused.policy);
}
