//! Tests of the revision's decoder: the host's own document, a table of bad ones, mutated ones, and the swap.
const std = @import("std");
const testing = std.testing;
const limits = @import("../limits.zig");
const revision = @import("revision.zig");
const key_module = @import("key.zig");
const Revisions = @import("revisions.zig").Revisions;
const Table = @import("table.zig").Table;

/// Written by tests/unit/gateway/contract/test_revision_fixture.py from the dataclasses, and compared with them there.
const fixture = @embedFile("revision_fixture.json");

const good =
    \\{"revision":7,
    \\"tenants":[{"name":"acme","concurrency_max":4,"openapi_public":"{\"a\":1}","openapi_all":"{\"b\":\"\u00fc\"}"},
    \\           {"name":"zeta","concurrency_max":1,"openapi_public":"","openapi_all":""}],
    \\"keys":[{"sha256":"aa00000000000000000000000000000000000000000000000000000000000001","tenant":0,"invoke":true,"expires_at_s":0},
    \\        {"sha256":"aa00000000000000000000000000000000000000000000000000000000000002","tenant":1,"invoke":false,"expires_at_s":99}],
    \\"versions":[{"index":3,"id":"ver_3","tenant":0,"function":"hello","spawn":"{}","timeout_ms":3000,"concurrency_max":16,
    \\             "workers_min":1,"request_bytes_max":1000,"output_bytes_max":2000,"log_bytes_max":65536,"probe":true},
    \\            {"index":0,"id":"ver_0","tenant":1,"function":"other","spawn":"{}","timeout_ms":10,"concurrency_max":1,
    \\             "workers_min":0,"request_bytes_max":0,"output_bytes_max":1,"log_bytes_max":0,"probe":false}],
    \\"routes":[{"tenant":0,"function":"hello","qualifier":"live","version":3,"public":false,"error":""},
    \\          {"tenant":0,"function":"hello","qualifier":"ver_3","version":3,"public":false},
    \\          {"tenant":1,"function":"other","qualifier":"live","version":-1,"public":true,"error":"Traceback …"}]}
;

fn repeat(comptime byte: u8, comptime count: usize) *const [count]u8 {
    const bytes: [count]u8 = comptime @splat(byte);
    return &bytes;
}

/// The first `find` in `good` becomes `put`; the message must contain `says`.
const Bad = struct { find: []const u8, put: []const u8, says: []const u8, want: revision.Error = error.Invalid };

const bad = [_]Bad{
    // The document as a whole.
    .{ .find = good, .put = "", .says = "ends too early" },
    .{ .find = good, .put = "   ", .says = "ends too early" },
    .{ .find = good, .put = "null", .says = "an object is expected, not null" },
    .{ .find = good, .put = "[]", .says = "an object is expected, not an array" },
    .{ .find = good, .put = "{}", .says = "\"revision\" is missing" },
    .{ .find = good, .put = "\xef\xbb\xbf{}", .says = "not JSON at byte 0" },
    .{ .find = good, .put = "{\"revision\":1", .says = "ends too early" },
    .{ .find = good, .put = "{\"revision\":1,}", .says = "not JSON" },
    .{ .find = good, .put = "{\"revision\":1 \"tenants\":[]}", .says = "not JSON" },
    .{ .find = good, .put = "{'revision':1}", .says = "not JSON" },
    .{ .find = good, .put = "{\"revision\":NaN}", .says = "not JSON" },
    .{ .find = good, .put = "{\"revision\":1,\"tenants\":{}}", .says = "tenants: an array is expected, not an object" },
    .{ .find = good, .put = "{\"revision\":1,\"tenants\":[1]}", .says = "tenants[0]: an object is expected, not a number" },
    .{ .find = good, .put = "{\"revision\":1,\"tenants\":[[[[[[[[[[[[1]]]]]]]]]]]]}", .says = "tenants[0]: an object is expected, not an array" },
    .{ .find = good, .put = "{\"revision\":1,\"keys\":[],\"keys\":[]}", .says = "keys: appears twice" },
    .{ .find = good, .put = "{\"revision\":1,\"tenants\":[],\"keys\":[],\"versions\":[]}", .says = "\"routes\" is missing" },
    .{ .find = "\"Traceback …\"}]}", .put = "\"\"}]} x", .says = "not JSON" },
    .{ .find = "\"Traceback …\"}]}", .put = "\"\"}]}{}", .says = "not JSON" },
    .{ .find = "\"revision\":7", .put = "\"revision\":-1", .says = "-1 is not within 0 …" },
    .{ .find = "\"revision\":7", .put = "\"revision\":\"7\"", .says = "an integer is expected, not a string" },
    .{ .find = "\"revision\":7", .put = "\"revision\":7.5", .says = "7.5 is not an integer" },
    .{ .find = "\"revision\":7", .put = "\"revision\":1e3", .says = "1e3 is not an integer" },
    .{ .find = "\"revision\":7", .put = "\"revision\":07", .says = "not JSON" },
    .{ .find = "\"revision\":7", .put = "\"revision\":99999999999999999999", .says = "is not an integer from" },
    .{ .find = "\"revision\":7", .put = "\"revision\":" ++ repeat('9', 100), .says = "more than 24 digits" },
    .{ .find = "\"revision\":7", .put = "\"revision\":7,\"extra\":1", .says = "\"extra\" is not a field of the document" },
    .{ .find = "\"revision\":7", .put = "\"revision\":7,\"" ++ repeat('x', 500) ++ "\":1", .says = "is not a field of the document" },
    .{ .find = "\"revision\":7", .put = "\"revision\":7,\"\\u0000\\ud83d\\ude00\":1", .says = "\"?????\" is not a field" },
    // Tenants.
    .{ .find = "\"name\":\"acme\"", .put = "\"name\":\"\"", .says = "tenants[0].name: \"\" is not a name" },
    .{ .find = "\"name\":\"acme\"", .put = "\"name\":\"Acme\"", .says = "\"Acme\" is not a name" },
    .{ .find = "\"name\":\"acme\"", .put = "\"name\":\"1acme\"", .says = "is not a name" },
    .{ .find = "\"name\":\"acme\"", .put = "\"name\":\"acme-\"", .says = "is not a name" },
    .{ .find = "\"name\":\"acme\"", .put = "\"name\":\"ac/me\"", .says = "is not a name" },
    .{ .find = "\"name\":\"acme\"", .put = "\"name\":\"ac\\u0000me\"", .says = "\"ac?me\" is not a name" },
    .{ .find = "\"name\":\"acme\"", .put = "\"name\":\"ac\\nme\"", .says = "\"ac?me\" is not a name" },
    .{ .find = "\"name\":\"acme\"", .put = "\"name\":\"ac\nme\"", .says = "not JSON" },
    .{ .find = "\"name\":\"acme\"", .put = "\"name\":\"" ++ repeat('a', 64) ++ "\"", .says = "is not a name: 1 … 63" },
    .{ .find = "\"name\":\"acme\"", .put = "\"name\":\"ac\xff\"", .says = "not JSON" },
    .{ .find = "\"name\":\"acme\"", .put = "\"name\":\"ac\\ud800\"", .says = "not JSON" },
    .{ .find = "\"name\":\"acme\"", .put = "\"name\":null", .says = "a string is expected, not null" },
    .{ .find = "\"name\":\"acme\"", .put = "\"name\":\"zeta\"", .says = "tenants[1].name: \"zeta\" is also the name of tenants[0]" },
    .{ .find = "\"name\":\"acme\"", .put = "\"name\":\"acme\",\"name\":\"acme\"", .says = "tenants[0].name: appears twice" },
    .{ .find = "\"name\":\"acme\",", .put = "", .says = "tenants[0]: the field \"name\" is missing" },
    .{ .find = "\"concurrency_max\":4", .put = "\"concurrency_max\":0", .says = "tenants[0].concurrency_max: 0 is not within 1 … 4294967295" },
    .{ .find = "\"concurrency_max\":4", .put = "\"concurrency_max\":4294967296", .says = "4294967296 is not within" },
    .{ .find = "\"concurrency_max\":4", .put = "\"concurrency_max\":true", .says = "an integer is expected, not true" },
    .{ .find = "\"concurrency_max\":4", .put = "\"concurrency_max\":4,\"plan\":\"x\"", .says = "tenants[0]: \"plan\" is not a field of this row" },
    .{ .find = "\"openapi_public\":\"\"", .put = "\"openapi_public\":{}", .says = "tenants[1].openapi_public: a string is expected, not an object" },
    .{ .find = "\"openapi_public\":\"\"", .put = "\"openapi_public\":\"\",\"status\":\"gone\"", .says = "tenants[1].status: one of active, unpaid, suspended" },
    .{ .find = "\"openapi_public\":\"\"", .put = "\"openapi_public\":\"\",\"cpu_weight\":0", .says = "tenants[1].cpu_weight: 0 is not within 1 … 10000" },
    .{ .find = "\"openapi_public\":\"\"", .put = "\"openapi_public\":\"\",\"reserved_runtime_us\":9999", .says = "tenants[1].reserved_runtime_us: 9999 is not within 10000 … 0" },
    .{ .find = "\"openapi_public\":\"\"", .put = "\"openapi_public\":\"\",\"reserved_runtime_us\":20000,\"reserved_deadline_us\":90000,\"reserved_period_us\":60000", .says = "tenants[1].reserved_period_us: 60000 is below" },
    .{ .find = "\"openapi_public\":\"\"", .put = "\"openapi_public\":\"\",\"upgrade_url\":\"https://x/>\\r\\nSet-Cookie: a\"", .says = "tenants[1].upgrade_url: \"https://x/>" },
    // Keys.
    .{ .find = "\"sha256\":\"aa0", .put = "\"sha256\":\"aa", .says = "keys[0].sha256: 63 bytes are not a SHA-256" },
    .{ .find = "\"sha256\":\"aa0", .put = "\"sha256\":\"AA0", .says = "keys[0].sha256: 64 bytes are not a SHA-256" },
    .{ .find = "\"sha256\":\"aa0", .put = "\"sha256\":\"ag0", .says = "are not a SHA-256" },
    .{ .find = "0000002\"", .put = "0000001\"", .says = "keys[1].sha256: the same digest as keys[0]" },
    .{ .find = "\"tenant\":0,\"invoke\"", .put = "\"tenant\":2,\"invoke\"", .says = "keys[0].tenant: 2 is not a position in tenants, which has 2 rows" },
    .{ .find = "\"tenant\":0,\"invoke\"", .put = "\"tenant\":-1,\"invoke\"", .says = "keys[0].tenant: -1 is not within" },
    .{ .find = "\"invoke\":true", .put = "\"invoke\":1", .says = "keys[0].invoke: true or false is expected, not a number" },
    .{ .find = "\"expires_at_s\":99", .put = "\"expires_at_s\":-99", .says = "keys[1].expires_at_s: -99 is not within 0 …" },
    .{ .find = "\"expires_at_s\":99", .put = "\"expires_at_s\":null", .says = "an integer is expected, not null" },
    // Versions.
    .{ .find = "\"index\":3", .put = "\"index\":65536", .says = "versions[0].index: 65536 is not within 0 … 65535" },
    .{ .find = "\"index\":3", .put = "\"index\":0", .says = "versions[1].index: 0 is also the index of versions[0]" },
    .{ .find = "\"id\":\"ver_3\"", .put = "\"id\":\"ver 3\"", .says = "versions[0].id: \"ver 3\" is not an id" },
    .{ .find = "\"id\":\"ver_3\"", .put = "\"id\":\"_ver\"", .says = "is not an id" },
    .{ .find = "\"id\":\"ver_3\"", .put = "\"id\":\"ver_0\"", .says = "versions[1].id: \"ver_0\" is also the id of versions[0]" },
    .{ .find = "\"tenant\":1,\"function\":\"other\",\"spawn\"", .put = "\"tenant\":9,\"function\":\"other\",\"spawn\"", .says = "versions[1].tenant: 9 is not a position" },
    .{ .find = "\"function\":\"hello\",\"spawn\"", .put = "\"function\":\"he.llo\",\"spawn\"", .says = "versions[0].function: \"he.llo\" is not a name" },
    .{ .find = "\"spawn\":\"{}\"", .put = "\"spawn\":\"\"", .says = "versions[0].spawn: empty" },
    .{ .find = "\"spawn\":\"{}\"", .put = "\"spawn\":{}", .says = "versions[0].spawn: a string is expected, not an object" },
    .{ .find = "\"spawn\":\"{}\"", .put = "\"spawn\":\"" ++ repeat('s', limits.spawn_bytes_max + 1) ++ "\"", .says = "versions[0].spawn: 49153 bytes, at most 49152", .want = error.TooLarge },
    .{ .find = "\"timeout_ms\":3000", .put = "\"timeout_ms\":9", .says = "versions[0].timeout_ms: 9 is not within 10 … 900000" },
    .{ .find = "\"timeout_ms\":3000", .put = "\"timeout_ms\":900001", .says = "is not within 10 … 900000" },
    .{ .find = "\"concurrency_max\":16", .put = "\"concurrency_max\":257", .says = "versions[0].concurrency_max: 257 is not within 1 … 256" },
    .{ .find = "\"workers_min\":1", .put = "\"workers_min\":17", .says = "17 is not within 0 … 16" },
    .{ .find = "\"request_bytes_max\":1000", .put = "\"request_bytes_max\":6291457", .says = "6291457 is not within 0 … 6291456" },
    .{ .find = "\"output_bytes_max\":2000", .put = "\"output_bytes_max\":0", .says = "0 is not within 1 … 6291456" },
    .{ .find = "\"log_bytes_max\":65536", .put = "\"log_bytes_max\":1048577", .says = "1048577 is not within 0 … 1048576" },
    .{ .find = "\"probe\":true", .put = "\"probe\":true,\"cpu_ms\":9", .says = "versions[0].cpu_ms: 9 is not within 10 … 900000" },
    .{ .find = "\"probe\":true", .put = "\"probe\":true,\"open_files_max\":4097", .says = "versions[0].open_files_max: 4097 is not within 0 … 4096" },
    .{ .find = "\"probe\":true", .put = "\"probe\":true,\"processes_max\":513", .says = "versions[0].processes_max: 513 is not within 0 … 512" },
    .{ .find = "\"probe\":true", .put = "\"probe\":true,\"memory_bytes\":1", .says = "versions[0].memory_bytes: 1 is not within 16777216 …" },
    .{ .find = "\"probe\":true", .put = "\"probe\":\"yes\"", .says = "versions[0].probe: true or false is expected, not a string" },
    .{ .find = ",\"probe\":true", .put = "", .says = "versions[0]: the field \"probe\" is missing" },
    // Routes.
    .{ .find = "\"qualifier\":\"live\"", .put = "\"qualifier\":\"\"", .says = "routes[0].qualifier: \"\" is neither" },
    .{ .find = "\"qualifier\":\"live\"", .put = "\"qualifier\":\"a@b\"", .says = "is neither an alias nor a version's id" },
    .{ .find = "\"qualifier\":\"live\"", .put = "\"qualifier\":\"ver_3\"", .says = "routes[1].qualifier: hello@ver_3 is also routes[0]" },
    .{ .find = "\"version\":3", .put = "\"version\":-2", .says = "routes[0].version: -2 is not within -1 …" },
    .{ .find = "\"version\":3", .put = "\"version\":4", .says = "routes[0].version: 4 is the index of none of the 2 versions" },
    .{ .find = "\"version\":3", .put = "\"version\":0", .says = "routes[0].version: 0 is a version of tenant 1, this route is of tenant 0" },
    .{ .find = "\"function\":\"hello\",\"qualifier\"", .put = "\"function\":\"jello\",\"qualifier\"", .says = "routes[0].version: 3 is a version of hello, this route is of jello" },
    .{ .find = "\"public\":true", .put = "\"public\":null", .says = "routes[2].public: true or false is expected, not null" },
    .{ .find = "\"error\":\"\"", .put = "\"error\":null", .says = "routes[0].error: a string is expected, not null" },
};

test "the table of bad documents: each is refused with its reason, and nothing changes" {
    comptime std.debug.assert(bad.len >= 40);
    const revisions = try Revisions.create(1);
    defer revisions.destroy();
    var message: [512]u8 = undefined;
    _ = try revisions.prepare(good, &message);
    revisions.commit();
    const used = revisions.current().?;
    for (bad) |case| {
        const document = try replaced(good, case.find, case.put);
        defer testing.allocator.free(document);
        message = @splat('#');
        errdefer std.debug.print("case: {s} → {s}\nmessage: {s}\n", .{ cutTo(case.find), cutTo(case.put), &message });
        try testing.expectError(case.want, revisions.prepare(document, &message));
        const said = std.mem.sliceTo(&message, 0);
        try testing.expect(std.mem.startsWith(u8, said, "revision: "));
        try testing.expect(std.mem.find(u8, said, case.says) != null);
        try testing.expectEqual(used, revisions.current().?);
        try expectGood(used);
    }
}

fn cutTo(text: []const u8) []const u8 {
    return text[0..@min(text.len, 80)];
}

test "the good document, in every field" {
    const revisions = try Revisions.create(2);
    defer revisions.destroy();
    var message: [512]u8 = undefined;
    try testing.expectEqual(null, revisions.current());
    const table = try revisions.prepare(good, &message);
    try testing.expectEqual(null, revisions.current());
    revisions.commit();
    try testing.expectEqual(table, revisions.current().?);
    try expectGood(table);
}

fn expectGood(table: *const Table) !void {
    try testing.expectEqual(7, table.revision);
    try testing.expectEqual(0, table.tenantFind("acme").?);
    try testing.expectEqual(1, table.tenantFind("zeta").?);
    try testing.expectEqual(null, table.tenantFind("acm"));
    try testing.expectEqual(null, table.tenantFind(""));
    try testing.expectEqualStrings("{\"a\":1}", table.tenants[0].openapi_public);
    try testing.expectEqualStrings("{\"b\":\"ü\"}", table.tenants[0].openapi_all);
    try testing.expectEqual(4, table.tenants[0].concurrency_max);

    try testing.expectEqual(0xaa, table.keys[1].sha256[0]);
    try testing.expectEqual(2, table.keys[1].sha256[31]);
    try testing.expectEqual(1, table.keys[1].tenant);
    try testing.expect(table.keys[0].invoke and !table.keys[1].invoke);
    try testing.expectEqual(99, table.keys[1].expires_at_s);

    const version = table.versionFind(3).?;
    try testing.expectEqualStrings("ver_3", version.id);
    try testing.expectEqual(3 * limits.s_ns, version.timeout_ns);
    try testing.expectEqual(16, version.concurrency_max);
    try testing.expectEqual(1, version.workers_min);
    try testing.expectEqual(1000, version.request_bytes_max);
    try testing.expectEqual(2000, version.output_bytes_max);
    try testing.expectEqual(65536, version.log_bytes_max);
    try testing.expect(version.probe);
    try testing.expectEqual(null, table.versionFind(1));
    try testing.expectEqual(null, table.versionFind(limits.versions_max));
    try testing.expectEqualStrings("zeta", table.label(1).tenant);

    try testing.expectEqual(3, table.routeFind(0, "hello", "live").?.version.?);
    try testing.expectEqual(3, table.routeFind(0, "hello", "ver_3").?.version.?);
    try testing.expectEqual(null, table.routeFind(1, "hello", "live"));
    try testing.expectEqual(null, table.routeFind(0, "hello", "liv"));
    try testing.expectEqual(null, table.routeFind(0, "hell", "olive"));
    const never_ready = table.routeFind(1, "other", "live").?;
    try testing.expectEqual(null, never_ready.version);
    try testing.expectEqualStrings("Traceback …", never_ready.failure);
    try testing.expect(never_ready.public);
}

test "the dataclasses of gateway/contract/revision.py, as the host writes them" {
    const revisions = try Revisions.create(3);
    defer revisions.destroy();
    var message: [512]u8 = undefined;
    const table = revisions.prepare(fixture, &message) catch |e| {
        std.debug.print("{s}\n", .{std.mem.sliceTo(&message, 0)});
        return e;
    };
    try testing.expectEqual(42, table.revision);
    const acme = table.tenantFind("acme").?;
    try testing.expectEqualStrings("{\"openapi\": \"3.1.0\", \"info\": {\"title\": \"\\\"acme\\\" – Rechnungen 🧾\"}}", table.tenants[acme].openapi_all);

    // The tokens whose digests the fixture holds.
    const now_s = 2_000_000_000;
    const caller = key_module.identify(table, "Bearer tck_fixture_invoke", now_s);
    try testing.expectEqual(acme, caller.key.tenant);
    try testing.expect(caller.key.invoke);
    try testing.expect(!key_module.identify(table, "bearer tck_fixture_read", now_s).key.invoke);
    try testing.expectEqualStrings("key_invoke", table.key_ids[0]);
    try testing.expectEqual(@as(u32, @intCast(now_s)), caller.key.used_s.load(.monotonic));
    try testing.expectEqual(.expired, std.meta.activeTag(key_module.identify(table, "Bearer tck_fixture_expired", now_s)));
    try testing.expectEqual(.expired, std.meta.activeTag(key_module.identify(table, "Bearer tck_fixture_expired", 1_700_000_000)));
    try testing.expectEqual(.key, std.meta.activeTag(key_module.identify(table, "Bearer tck_fixture_expired", 1_699_999_999)));
    try testing.expectEqual(.unknown, std.meta.activeTag(key_module.identify(table, "Bearer tck_fixture_invokE", now_s)));
    try testing.expectEqual(.unknown, std.meta.activeTag(key_module.identify(table, comptime "Bearer tck_" ++ repeat('x', 5000), now_s)));
    try testing.expectEqual(.foreign, std.meta.activeTag(key_module.identify(table, "Bearer eyJhbGciOiJIUzI1NiJ9.e30.x", now_s)));
    try testing.expectEqual(.none, std.meta.activeTag(key_module.identify(table, null, now_s)));

    const row = &table.tenants[acme];
    try testing.expectEqualStrings("tnt_acme", row.id);
    try testing.expectEqualStrings("pro", row.tier);
    try testing.expectEqual(.unpaid, row.status);
    try testing.expectEqual(100, row.rate_per_s);
    try testing.expectEqual(200, row.burst);
    try testing.expectEqual(300, row.cpu_weight);
    try testing.expect(row.leased);
    try testing.expectEqual(4_000_000_000, row.resets_at_s);
    try testing.expectEqual(20_000, row.reservation.runtime_us);
    try testing.expectEqual(90_000, row.reservation.deadline_us);
    try testing.expectEqual(100_000, row.reservation.period_us);
    try testing.expectEqual(2, row.reservation.workers_max);
    try testing.expect(!row.reservation.fallback);
    try testing.expectEqualStrings("https://example.org/upgrade", row.upgrade_url);
    try testing.expectEqualStrings("scale", row.upgrade.rate);
    try testing.expectEqualStrings("scale-c", row.upgrade.concurrency);
    try testing.expectEqualStrings("scale-q", row.upgrade.quota);
    try testing.expectEqual(.active, table.tenants[table.tenantFind("zeta").?].status);

    const limited = table.versionFind(5).?;
    try testing.expect(limited.leased and !table.versionFind(0).?.leased);
    try testing.expectEqual(200 * limits.ms_ns, limited.cpu_ns);
    try testing.expectEqual(128 * limits.mib, limited.memory_bytes);
    try testing.expectEqual(64, limited.open_files_max);
    try testing.expectEqual(8, limited.processes_max);
    try testing.expect(limited.children);
    try testing.expectEqualStrings("t", limited.upgrade.timeout);
    try testing.expectEqualStrings("c", limited.upgrade.cpu);
    try testing.expectEqualStrings("m", limited.upgrade.memory);
    try testing.expectEqualStrings("o", limited.upgrade.output);

    const route = table.routeFind(acme, "invoice", "live").?;
    try testing.expectEqual(.owner, key_module.access(route, caller));
    try testing.expectEqualStrings("invoice", table.versionFind(route.version.?).?.function);
    try testing.expectEqual(null, table.routeFind(acme, "broken", "live").?.version);
}

test "a swap builds in the other region and leaves the one in use alone" {
    const revisions = try Revisions.create(4);
    defer revisions.destroy();
    var message: [512]u8 = undefined;
    _ = try revisions.prepare(good, &message);
    revisions.commit();
    const first = revisions.current().?;
    // Prepared and never committed (the slots were full, say), then prepared again: still the other region.
    for (0..3) |_| {
        const next = try revisions.prepare(fixture, &message);
        try testing.expect(next != first);
        try expectGood(first);
    }
    revisions.commit();
    try testing.expectEqual(42, revisions.current().?.revision);
    const third = try revisions.prepare(good, &message);
    try testing.expectEqual(first, third);
    revisions.commit();
    try expectGood(revisions.current().?);
}

test "a document at the bounds is taken, one row more is not" {
    const revisions = try Revisions.create(5);
    defer revisions.destroy();
    var message: [512]u8 = undefined;
    for ([_]usize{ limits.tenants_max, limits.tenants_max + 1 }) |tenants_count| {
        var document: std.Io.Writer.Allocating = .init(testing.allocator);
        defer document.deinit();
        try document.writer.writeAll("{\"revision\":1,\"keys\":[],\"versions\":[],\"routes\":[],\"tenants\":[");
        for (0..tenants_count) |i| {
            try document.writer.print("{s}{{\"name\":\"t{d}\",\"concurrency_max\":1,\"openapi_public\":\"\",\"openapi_all\":\"\"}}", .{ if (i > 0) "," else "", i });
        }
        try document.writer.writeAll("]}");
        if (tenants_count > limits.tenants_max) {
            try testing.expectError(error.TooLarge, revisions.prepare(document.written(), &message));
            try testing.expectEqualStrings("revision: tenants: more than 16384 rows", std.mem.sliceTo(&message, 0));
        } else {
            const table = try revisions.prepare(document.written(), &message);
            try testing.expectEqual(tenants_count - 1, table.tenantFind("t16383").?);
            for (0..tenants_count) |i| {
                var name: [8]u8 = undefined;
                try testing.expectEqual(i, table.tenantFind(try std.fmt.bufPrint(&name, "t{d}", .{i})).?);
            }
        }
    }
}

test "mutated documents never do more than be refused" {
    const revisions = try Revisions.create(6);
    defer revisions.destroy();
    var message: [512]u8 = undefined;
    _ = try revisions.prepare(good, &message);
    revisions.commit();
    var random = std.Random.DefaultPrng.init(0x7461_696c);
    var taken: usize = 0;
    var buffer: [2 * good.len]u8 = undefined;
    for (0..4000) |_| {
        const document = mutate(random.random(), &buffer);
        message = @splat('#');
        if (revisions.prepare(document, &message)) |table| {
            taken += 1;
            // Whatever was taken can be asked.
            for (table.routes) |route| {
                try testing.expect(table.routeFind(route.tenant, route.function, route.qualifier) != null);
                if (route.version) |index| try testing.expect(table.versionFind(index).?.tenant == route.tenant);
            }
            for (table.tenants) |tenant| try testing.expect(table.tenantFind(tenant.name) != null);
            for (table.keys) |key| try testing.expect(key.tenant < table.tenants.len);
        } else |_| {
            const said = std.mem.sliceTo(&message, 0);
            try testing.expect(said.len > "revision: ".len and said.len < message.len);
            try testing.expect(std.unicode.utf8ValidateSlice(said));
        }
    }
    try testing.expect(taken > 0);
    try expectGood(revisions.current().?);
}

/// A few random edits of the good document: bytes changed, cut out, repeated, replaced with tokens of JSON.
fn mutate(random: std.Random, buffer: []u8) []const u8 {
    const tokens = [_][]const u8{ "{", "}", "[", "]", ",", ":", "\"", "null", "-1", "1e9", "\\u0000", "\\ud83d", "99999999999", "true", "\xff", "\x00" };
    @memcpy(buffer[0..good.len], good);
    var bytes: usize = good.len;
    for (0..1 + random.uintLessThan(usize, 3)) |_| {
        const at = random.uintLessThan(usize, bytes);
        switch (random.uintLessThan(u8, 4)) {
            0 => buffer[at] = random.int(u8),
            1 => {
                const count = @min(1 + random.uintLessThan(usize, 40), bytes - at);
                std.mem.copyForwards(u8, buffer[at..], buffer[at + count .. bytes]);
                bytes -= count;
            },
            2 => {
                const count = @min(1 + random.uintLessThan(usize, 200), bytes - at, buffer.len - bytes);
                std.mem.copyBackwards(u8, buffer[at + count ..], buffer[at..bytes]);
                bytes += count;
            },
            else => {
                const token = tokens[random.uintLessThan(usize, tokens.len)];
                const count = @min(token.len, bytes - at);
                @memcpy(buffer[at..][0..count], token[0..count]);
            },
        }
        if (bytes == 0) break;
    }
    return buffer[0..bytes];
}

fn replaced(text: []const u8, find: []const u8, put: []const u8) ![]u8 {
    const at = std.mem.find(u8, text, find) orelse return error.NotInTheGoodDocument;
    return std.mem.concat(testing.allocator, u8, &.{ text[0..at], put, text[at + find.len ..] });
}
