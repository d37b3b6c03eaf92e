//! Credential → tenant: the bearer token of a request, hashed, looked up, its expiry checked; then what that key may do
//! with a route.
//!
//! Called by the connection once per request, before the route is known to be callable. The header is hostile.
//! Tokens are high-entropy, so one SHA-256 is the stored form; a lookup that compares digests with an early exit tells
//! an attacker nothing that helps: nobody can choose a digest's prefix without choosing its whole pre-image.
const std = @import("std");
const assert = std.debug.assert;
const limits = @import("../limits.zig");
const table_module = @import("table.zig");
const Table = table_module.Table;
const Key = table_module.Key;
const Route = table_module.Route;

pub const token_prefix = "tck_";

/// Who asks, as far as the Authorization header says.
pub const Identity = union(enum) {
    /// No Authorization header.
    none,
    /// Another scheme, or a bearer token that is not one of ours (the function may want it).
    foreign,
    /// A token of ours that no key of this revision has: wrong, or revoked.
    unknown,
    expired,
    key: *const Key,
};

/// `authorization`: the header's value; null: absent. `now_s`: Unix time, from the tick.
/// A key that is recognised has been used, whatever the answer will be: also when it is refused for its scope, a rate or a
/// quota. One that has expired or was revoked has not.
pub fn identify(table: *const Table, authorization: ?[]const u8, now_s: u64) Identity {
    const token = bearerToken(authorization orelse return .none) orelse return .foreign;
    if (!std.mem.startsWith(u8, token, token_prefix)) return .foreign;
    if (token.len > limits.token_bytes_max) return .unknown;
    const key = keyFind(table, token) orelse return .unknown;
    if (key.expires_at_s != 0 and now_s >= key.expires_at_s) return .expired;
    key.use(now_s);
    return .{ .key = key };
}

/// What the caller may do with a route.
pub const Access = enum {
    /// Has a key of the route's tenant: may see tracebacks.
    owner,
    /// May call, sees nothing of the owner's.
    anybody,
    /// 401
    unauthorized,
    /// 403: another tenant's key, or without the scope `invoke`.
    forbidden,
};

pub fn access(route: *const Route, identity: Identity) Access {
    return switch (identity) {
        .none, .foreign => if (route.public) .anybody else .unauthorized,
        // A credential of ours that does not hold is an error of the caller even where none is needed.
        .unknown, .expired => .unauthorized,
        .key => |key| if (key.tenant == route.tenant)
            (if (key.invoke or route.public) .owner else .forbidden)
        else
            (if (route.public) .anybody else .forbidden),
    };
}

fn keyFind(table: *const Table, token: []const u8) ?*Key {
    assert(token.len <= limits.token_bytes_max);
    var digest: [32]u8 = undefined;
    std.crypto.hash.sha2.Sha256.hash(token, &digest, .{});
    var probe = table.key_index.probe(table_module.keyHash(table.seed, &digest));
    while (probe.next()) |position| {
        const key = &table.keys[position];
        if (std.mem.eql(u8, &key.sha256, &digest)) return key;
    }
    return null;
}

/// RFC 6750: "Bearer" (any case), spaces, b64token. null: something else.
pub fn bearerToken(value: []const u8) ?[]const u8 {
    const scheme = "bearer";
    const trimmed = std.mem.trim(u8, value, " \t");
    if (trimmed.len <= scheme.len or !std.ascii.eqlIgnoreCase(trimmed[0..scheme.len], scheme)) return null;
    if (trimmed[scheme.len] != ' ') return null;
    const token = std.mem.trimStart(u8, trimmed[scheme.len..], " ");
    if (token.len == 0) return null;
    for (token) |byte| switch (byte) {
        'A'...'Z', 'a'...'z', '0'...'9', '-', '.', '_', '~', '+', '/', '=' => {},
        else => return null,
    };
    return token;
}

test "authorization headers" {
    const Case = struct { value: []const u8, token: ?[]const u8 };
    const cases = [_]Case{
        .{ .value = "Bearer tck_abc", .token = "tck_abc" },
        .{ .value = "bearer tck_abc", .token = "tck_abc" },
        .{ .value = "BEARER   tck_abc  ", .token = "tck_abc" },
        .{ .value = " Bearer tck_abc", .token = "tck_abc" },
        .{ .value = "Bearer tck_a-b.c_d~e+f/g==", .token = "tck_a-b.c_d~e+f/g==" },
        .{ .value = "Bearer", .token = null },
        .{ .value = "Bearer ", .token = null },
        .{ .value = "Bearertck_abc", .token = null },
        .{ .value = "Bearer\ttck_abc", .token = null },
        .{ .value = "Bearer a b", .token = null },
        .{ .value = "Bearer a,b", .token = null },
        .{ .value = "Bearer a\x00b", .token = null },
        .{ .value = "Bearer \xff", .token = null },
        .{ .value = "Basic dGNrX2FiYw==", .token = null },
        .{ .value = "", .token = null },
        .{ .value = "B", .token = null },
    };
    for (cases) |case| {
        const got = bearerToken(case.value);
        if (case.token) |want| try std.testing.expectEqualStrings(want, got.?) else try std.testing.expectEqual(null, got);
    }
}

test "who may call what" {
    const with_scope: Key = .{ .sha256 = @splat(0), .tenant = 1, .invoke = true, .expires_at_s = 0 };
    const without_scope: Key = .{ .sha256 = @splat(0), .tenant = 1, .invoke = false, .expires_at_s = 0 };
    const other: Key = .{ .sha256 = @splat(0), .tenant = 2, .invoke = true, .expires_at_s = 0 };
    const Case = struct { identity: Identity, private: Access, public: Access };
    const cases = [_]Case{
        .{ .identity = .none, .private = .unauthorized, .public = .anybody },
        .{ .identity = .foreign, .private = .unauthorized, .public = .anybody },
        .{ .identity = .unknown, .private = .unauthorized, .public = .unauthorized },
        .{ .identity = .expired, .private = .unauthorized, .public = .unauthorized },
        .{ .identity = .{ .key = &with_scope }, .private = .owner, .public = .owner },
        .{ .identity = .{ .key = &without_scope }, .private = .forbidden, .public = .owner },
        .{ .identity = .{ .key = &other }, .private = .forbidden, .public = .anybody },
    };
    var route: Route = .{ .tenant = 1, .function = "f", .qualifier = "live", .version = 0, .public = false, .failure = "" };
    for (cases) |case| {
        route.public = false;
        try std.testing.expectEqual(case.private, access(&route, case.identity));
        route.public = true;
        try std.testing.expectEqual(case.public, access(&route, case.identity));
    }
}
