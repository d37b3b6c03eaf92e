//! What a caller is told about its tenant's rate and quota: the refusals of admit/, and the RateLimit headers.
//!
//! Called by serve (refusals) and answer (headers). What always holds: a refused invocation has not run and costs nothing;
//! numbers, tiers and prices are for callers with the tenant's key, others learn only that they may not now.
//! Headers: draft-ietf-httpapi-ratelimit-headers. Members: docs/errors.md.
const std = @import("std");
const Connection = @import("../http/connection.zig");
const Response = @import("../http/response.zig");
const problem = @import("../http/problem.zig");
const table = @import("../route/table.zig");
const admit = @import("../admit/admit.zig");
const Outcome = @import("../meter/counters.zig").Outcome;
const Pool = @import("pool.zig");
const answer = @import("answer.zig");

pub fn refuse(p: *Pool, c: *Connection, tenant: *const table.Tenant, version: *const table.Version, owner: bool, refusal: admit.Refusal) void {
    p.counters.outcome(version.index, outcomeOf(refusal.policy));
    switch (refusal.policy) {
        .concurrency, .rate => tooMany(p, c, tenant, owner, refusal),
        .invocations, .cpu, .memory, .spend => if (owner) spent(p, c, tenant, version, refusal) else tooMany(p, c, tenant, false, refusal),
        .unknown => answer.refuseWith(p, c, .overloaded, "This node has spent its share of the quota and cannot ask for more at the moment; this call was not executed.", &.{}),
        .unpaid => if (owner)
            answer.refuseMore(p, c, .tier_limit, "The tenant's subscription is unpaid; this call was not executed.", &.{
                .{ .text = .{ "limit", "subscription" } },
                .{ .text = .{ "tier", tenant.tier } },
                .{ .text = .{ "upgrade_url", tenant.upgrade_url } },
            }, .{ .payment_url = tenant.upgrade_url })
        else
            unavailable(p, c),
        .suspended => if (owner)
            answer.refuse(p, c, .forbidden, "The tenant is suspended; its operator knows why.")
        else
            unavailable(p, c),
    }
}

fn outcomeOf(policy: admit.Policy) Outcome {
    return switch (policy) {
        .concurrency => .refused_concurrency,
        .rate => .refused_rate,
        .invocations, .cpu, .memory, .spend, .unknown => .refused_quota,
        .unpaid, .suspended => .refused_status,
    };
}

fn unavailable(p: *Pool, c: *Connection) void {
    answer.refuse(p, c, .overloaded, "This function is not available at the moment; this call was not executed.");
}

/// 429. Of a quota a stranger learns no more than that there is one.
fn tooMany(p: *Pool, c: *Connection, tenant: *const table.Tenant, owner: bool, refusal: admit.Refusal) void {
    const name = if (refusal.policy.isQuota()) "quota" else @tagName(refusal.policy);
    const next_tier = switch (refusal.policy) {
        .rate => tenant.upgrade.rate,
        .concurrency => tenant.upgrade.concurrency,
        else => "",
    };
    const members = [_]answer.Member{
        .{ .texts = .{ "violated-policies", &.{name} } },
        .{ .text = .{ "limit", name } },
        .{ .integer = .{ if (refusal.policy == .rate) "allowed_per_s" else "allowed", refusal.allowed } },
        .{ .integer = .{ "used", refusal.used } },
        .{ .text = .{ "tier", tenant.tier } },
        .{ .text = .{ "next_tier", next_tier } },
        .{ .text = .{ "upgrade_url", tenant.upgrade_url } },
    };
    const count: usize = if (!owner) 2 else if (next_tier.len == 0) 4 else members.len;
    const detail = switch (refusal.policy) {
        .concurrency => "The tenant already has as many invocations in flight as its tier allows; this one was not executed.",
        .rate => "The tenant calls faster than its tier allows; this call was not executed.",
        else => "The tenant's quota is used up; this call was not executed.",
    };
    answer.refuseMore(p, c, .quota_exceeded, detail, members[0..count], .{
        .retry_after_s = refusal.retry_after_s,
        .rate = if (owner) refusal.rate else .{},
    });
}

/// 402, for the owner: which quota, how much of it, when it comes back, and which tier has more.
fn spent(p: *Pool, c: *Connection, tenant: *const table.Tenant, version: *const table.Version, refusal: admit.Refusal) void {
    const purse = p.slots.purse(if (refusal.of_function) version.slot else tenant.slot);
    const allowed = purse.allowed.load(.monotonic);
    const used = purse.used.load(.monotonic);
    const names: struct { []const u8, []const u8, []const u8, []const u8 } = switch (refusal.policy) {
        .invocations => .{ "invocations", "allowed_invocations", "used_invocations", "The month's invocations are used up" },
        .cpu => .{ "cpu", "allowed_cpu_ms", "used_cpu_ms", "The month's CPU time is used up" },
        .memory => .{ "memory", "allowed_mib_s", "used_mib_s", "The month's memory time is used up" },
        .spend => .{ "spend", "allowed_minor", "used_minor", "The spending cap that the tenant set is reached" },
        else => unreachable, // `refuse` sends only these here.
    };
    // A function's own cap and a spending cap are the tenant's choice: no tier lifts them.
    const next_tier = if (refusal.of_function or refusal.policy == .spend) "" else tenant.upgrade.quota;
    var text: [256]u8 = undefined;
    const detail = std.fmt.bufPrint(&text, "{s}{s}; this call was not executed.", .{ names[3], if (refusal.of_function) " for this function" else "" }) catch unreachable;
    var members: [8]answer.Member = undefined;
    var count: usize = 0;
    for ([_]?answer.Member{
        .{ .text = .{ "limit", names[0] } },
        .{ .text = .{ "scope", if (refusal.of_function) "function" else "tenant" } },
        if (allowed > 0) .{ .integer = .{ names[1], allowed } } else null,
        if (allowed > 0) .{ .integer = .{ names[2], used } } else null,
        if (tenant.resets_at_s > 0) .{ .integer = .{ "resets_at_unix_s", @intCast(tenant.resets_at_s) } } else null,
        .{ .text = .{ "tier", tenant.tier } },
        if (next_tier.len > 0) .{ .text = .{ "next_tier", next_tier } } else null,
        if (tenant.upgrade_url.len > 0) .{ .text = .{ "upgrade_url", tenant.upgrade_url } } else null,
    }) |member| {
        members[count] = member orelse continue;
        count += 1;
    }
    answer.refuseMore(p, c, .tier_limit, detail, members[0..count], .{ .payment_url = tenant.upgrade_url });
}

/// `RateLimit-Policy: "rate";q=200;w=2` and `RateLimit: "rate";r=199;t=1`: q tokens in w seconds, r are left, all of
/// them are back in t seconds.
pub fn rateHeaders(response: *Response, rate: admit.Rate) void {
    if (rate.per_s == 0) return;
    response.text("RateLimit-Policy: \"rate\";q=");
    response.number(rate.burst);
    response.text(";w=");
    response.number(rate.windowSeconds());
    response.text("\r\nRateLimit: \"rate\";r=");
    response.number(rate.left);
    response.text(";t=");
    response.number(rate.resetSeconds());
    response.text("\r\n");
}
