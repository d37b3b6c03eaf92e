//! The one decision: may this invocation enter the gateway now?
//!
//! Called by the connection after route and key are known and before anything is spent on the invocation. What was
//! reserved is in `Admission` and given back with `release`, exactly once, whatever became of the invocation.
//! Today a tenant's concurrency is all that is asked; rate and quota join here, in the order in which they are cheap to
//! give back, so that a refusal leaves nothing reserved.
const std = @import("std");
const Slots = @import("slots.zig").Slots;
const Tenant = @import("../route/table.zig").Tenant;

pub const Decision = union(enum) {
    admitted: Admission,
    refused: Refusal,
};

/// What is held until `release`. Survives a swap of revisions: it refers to no row.
pub const Admission = struct { slot: u32 };

pub const Refusal = struct {
    policy: Policy,
    allowed: u32,
    used: u32,
    retry_after_s: u32,
};

/// Which promise of the tier would have been broken; the names of `violated-policies` in the answer.
pub const Policy = enum { concurrency };

pub fn admit(slots: *Slots, tenant: *const Tenant) Decision {
    if (!slots.acquire(tenant.slot, tenant.concurrency_max)) {
        return .{
            .refused = .{
                .policy = .concurrency,
                .allowed = tenant.concurrency_max,
                .used = slots.inFlight(tenant.slot),
                // Concurrency frees up as soon as one invocation ends: the shortest wait that the header can say.
                .retry_after_s = 1,
            },
        };
    }
    return .{ .admitted = .{ .slot = tenant.slot } };
}

pub fn release(slots: *Slots, admission: Admission) void {
    slots.release(admission.slot);
}

test "the tenant's concurrency is the bound, and a release makes room" {
    const slots = try Slots.create();
    defer slots.destroy();
    var tenants = [_]Tenant{.{ .name = "acme", .concurrency_max = 2, .slot = 0, .openapi_public = "", .openapi_all = "" }};
    try slots.assign(&tenants);
    slots.commit();
    const first = admit(slots, &tenants[0]).admitted;
    _ = admit(slots, &tenants[0]).admitted;
    const refused = admit(slots, &tenants[0]).refused;
    try std.testing.expectEqual(Policy.concurrency, refused.policy);
    try std.testing.expectEqual(2, refused.allowed);
    try std.testing.expectEqual(2, refused.used);
    release(slots, first);
    _ = admit(slots, &tenants[0]).admitted;
    tenants[0].concurrency_max = 1;
    try std.testing.expectEqual(1, admit(slots, &tenants[0]).refused.allowed);
}
