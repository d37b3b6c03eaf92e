//! One JSON document of the host (gateway/contract/revision.py) → a checked `Table`, in memory taken at start.
//!
//! Called by route/revisions.zig, for the region that nobody uses. On any error `message` says which row, which field,
//! which value and what is allowed.
//! Nothing here asserts on content: a document is data, even the host's.
const std = @import("std");
const assert = std.debug.assert;
const limits = @import("../limits.zig");
const table_module = @import("table.zig");
const Table = table_module.Table;
const Index = table_module.Index;
const position_none = table_module.position_none;
const reader_module = @import("reader.zig");
const Reader = reader_module.Reader;
const Field = reader_module.Field;
const Value = reader_module.Value;
const quoted = reader_module.quoted;

pub const Error = reader_module.Error;

/// What one table is made of.
pub const Region = struct {
    text: [limits.revision_bytes_max]u8,
    tenants: [limits.tenants_max]table_module.Tenant,
    keys: [limits.keys_max]table_module.Key,
    key_ids: [limits.keys_max][]const u8,
    versions: [limits.versions_max]table_module.Version,
    routes: [limits.routes_max]table_module.Route,
    tenant_entries: [Index.capacity(limits.tenants_max)]Index.Entry,
    key_entries: [Index.capacity(limits.keys_max)]Index.Entry,
    route_entries: [Index.capacity(limits.routes_max)]Index.Entry,
    /// Only during decoding: no version's id twice.
    id_entries: [Index.capacity(limits.versions_max)]Index.Entry,
    version_positions: [limits.versions_max]u32,
};

const tenant_fields = [_]Field{
    .{ .name = "name", .rule = .name },
    .{ .name = "id", .rule = .{ .text = limits.name_bytes_max }, .default = empty },
    .{ .name = "concurrency_max", .rule = .{ .integer = .{ 1, std.math.maxInt(u32) } } },
    .{ .name = "openapi_public", .rule = .{ .text = limits.revision_bytes_max } },
    .{ .name = "openapi_all", .rule = .{ .text = limits.revision_bytes_max } },
    .{ .name = "tier", .rule = .{ .text = limits.name_bytes_max }, .default = empty },
    .{ .name = "status", .rule = .{ .text = limits.name_bytes_max }, .default = .{ .text = "active" } },
    .{ .name = "rate_per_s", .rule = .{ .integer = .{ 0, limits.rate_per_s_max } }, .default = zero },
    .{ .name = "burst", .rule = .{ .integer = .{ 0, limits.burst_max } }, .default = zero },
    .{ .name = "leased", .rule = .flag, .default = .{ .flag = false } },
    .{ .name = "resets_at_s", .rule = .{ .integer = .{ 0, std.math.maxInt(u32) } }, .default = zero },
    .{ .name = "cpu_weight", .rule = .{ .integer = .{ limits.cpu_weight_min, limits.cpu_weight_max } }, .default = .{ .integer = table_module.cpu_weight_default } },
    .{ .name = "reserved_runtime_us", .rule = .{ .integer = .{ 0, limits.reserved_period_us_max } }, .default = zero },
    .{ .name = "reserved_deadline_us", .rule = .{ .integer = .{ 0, limits.reserved_period_us_max } }, .default = zero },
    .{ .name = "reserved_period_us", .rule = .{ .integer = .{ 0, limits.reserved_period_us_max } }, .default = zero },
    .{ .name = "reserved_workers_max", .rule = .{ .integer = .{ 0, limits.workers_max } }, .default = zero },
    .{ .name = "reserved_fallback", .rule = .flag, .default = .{ .flag = true } },
    .{ .name = "upgrade_url", .rule = .{ .text = limits.upgrade_url_bytes_max }, .default = empty },
    .{ .name = "upgrade_rate", .rule = .{ .text = limits.name_bytes_max }, .default = empty },
    .{ .name = "upgrade_concurrency", .rule = .{ .text = limits.name_bytes_max }, .default = empty },
    .{ .name = "upgrade_quota", .rule = .{ .text = limits.name_bytes_max }, .default = empty },
};

const empty: Value = .{ .text = "" };
const zero: Value = .{ .integer = 0 };

const key_fields = [_]Field{
    .{ .name = "sha256", .rule = .sha256 },
    .{ .name = "tenant", .rule = .{ .integer = .{ 0, limits.tenants_max - 1 } } },
    .{ .name = "invoke", .rule = .flag },
    .{ .name = "expires_at_s", .rule = .{ .integer = .{ 0, std.math.maxInt(i64) } } },
    .{ .name = "id", .rule = .id, .default = empty },
};

const version_fields = [_]Field{
    .{ .name = "index", .rule = .{ .integer = .{ 0, limits.versions_max - 1 } } },
    .{ .name = "id", .rule = .id },
    .{ .name = "tenant", .rule = .{ .integer = .{ 0, limits.tenants_max - 1 } } },
    .{ .name = "function", .rule = .name },
    .{ .name = "spawn", .rule = .{ .text = limits.spawn_bytes_max } },
    .{ .name = "timeout_ms", .rule = .{ .integer = .{ limits.timeout_ms_min, limits.timeout_ms_max } } },
    .{ .name = "concurrency_max", .rule = .{ .integer = .{ 1, limits.version_concurrency_max } } },
    .{ .name = "workers_min", .rule = .{ .integer = .{ 0, limits.version_workers_min_max } } },
    .{ .name = "request_bytes_max", .rule = .{ .integer = .{ 0, limits.body_bytes_max } } },
    .{ .name = "output_bytes_max", .rule = .{ .integer = .{ 1, limits.body_bytes_max } } },
    .{ .name = "log_bytes_max", .rule = .{ .integer = .{ 0, limits.log_bytes_max } } },
    .{ .name = "probe", .rule = .flag },
    .{ .name = "cpu_ms", .rule = .{ .integer = .{ limits.timeout_ms_min, limits.timeout_ms_max } }, .default = .{ .integer = limits.timeout_ms_max } },
    .{ .name = "memory_bytes", .rule = .{ .integer = .{ limits.memory_bytes_min, limits.memory_bytes_max } }, .default = .{ .integer = limits.memory_bytes_max } },
    .{ .name = "leased", .rule = .flag, .default = .{ .flag = false } },
    .{ .name = "open_files_max", .rule = .{ .integer = .{ 0, limits.open_files_max } }, .default = zero },
    .{ .name = "processes_max", .rule = .{ .integer = .{ 0, limits.processes_max } }, .default = zero },
    .{ .name = "children", .rule = .flag, .default = .{ .flag = false } },
    .{ .name = "upgrade_timeout", .rule = .{ .text = limits.name_bytes_max }, .default = empty },
    .{ .name = "upgrade_cpu", .rule = .{ .text = limits.name_bytes_max }, .default = empty },
    .{ .name = "upgrade_memory", .rule = .{ .text = limits.name_bytes_max }, .default = empty },
    .{ .name = "upgrade_output", .rule = .{ .text = limits.name_bytes_max }, .default = empty },
};

const route_fields = [_]Field{
    .{ .name = "tenant", .rule = .{ .integer = .{ 0, limits.tenants_max - 1 } } },
    .{ .name = "function", .rule = .name },
    .{ .name = "qualifier", .rule = .qualifier },
    .{ .name = "version", .rule = .{ .integer = .{ -1, limits.versions_max - 1 } } },
    .{ .name = "public", .rule = .flag },
    .{ .name = "error", .rule = .{ .text = limits.revision_bytes_max }, .default = .{ .text = "" } },
};

const Section = enum { revision, tenants, keys, versions, routes };

pub fn decode(region: *Region, document: []const u8, seed: u64, table: *Table, message: *[512]u8) Error!void {
    var reader: Reader = .{ .text = &region.text, .message = message };
    if (document.len > limits.revision_bytes_max) {
        return reader.tooLarge("the document has {d} bytes, at most {d} are allowed", .{ document.len, limits.revision_bytes_max });
    }
    reader.begin(document);
    var decoder: Decoder = .{ .reader = &reader, .region = region, .seed = seed };
    try decoder.documentRead();
    try decoder.tenantsCheck();
    try decoder.keysCheck();
    try decoder.versionsCheck();
    try decoder.routesCheck();
    table.* = .{
        .revision = decoder.revision,
        .seed = seed,
        .tenants = region.tenants[0..decoder.tenants_count],
        .keys = region.keys[0..decoder.keys_count],
        .key_ids = region.key_ids[0..decoder.keys_count],
        .versions = region.versions[0..decoder.versions_count],
        .routes = region.routes[0..decoder.routes_count],
        .tenant_index = decoder.tenant_index,
        .key_index = decoder.key_index,
        .route_index = decoder.route_index,
        .version_positions = &region.version_positions,
    };
}

const Decoder = struct {
    reader: *Reader,
    region: *Region,
    seed: u64,
    revision: u64 = 0,
    tenants_count: usize = 0,
    keys_count: usize = 0,
    versions_count: usize = 0,
    routes_count: usize = 0,
    tenant_index: Index = undefined,
    key_index: Index = undefined,
    route_index: Index = undefined,

    fn documentRead(d: *Decoder) Error!void {
        const r = d.reader;
        try r.expect(.object_begin, "an object");
        var seen: [std.enums.values(Section).len]bool = @splat(false);
        var name_buffer: [24]u8 = undefined;
        while (try r.nameRead(&name_buffer)) |name| {
            const section = std.meta.stringToEnum(Section, name) orelse
                return r.invalid("\"{f}\" is not a field of the document; it has revision, tenants, keys, versions, routes", .{quoted(name)});
            r.section = @tagName(section);
            if (seen[@backingInt(section)]) return r.invalid("appears twice", .{});
            seen[@backingInt(section)] = true;
            switch (section) {
                .revision => d.revision = @intCast((try r.valueRead(.{ .integer = .{ 0, std.math.maxInt(i64) } })).integer),
                .tenants => d.tenants_count = try d.rowsRead(&tenant_fields, limits.tenants_max, tenantStore),
                .keys => d.keys_count = try d.rowsRead(&key_fields, limits.keys_max, keyStore),
                .versions => d.versions_count = try d.rowsRead(&version_fields, limits.versions_max, versionStore),
                .routes => d.routes_count = try d.rowsRead(&route_fields, limits.routes_max, routeStore),
            }
            r.section = "";
        }
        for (seen, std.enums.values(Section)) |was_seen, section| {
            if (!was_seen) return r.invalid("the field \"{s}\" is missing", .{@tagName(section)});
        }
        try r.expect(.end_of_document, "the end of the document");
    }

    /// Reads an array of objects; returns how many.
    fn rowsRead(
        d: *Decoder,
        comptime fields: []const Field,
        rows_max: usize,
        comptime store: fn (*Region, usize, *const [fields.len]Value) void,
    ) Error!usize {
        const r = d.reader;
        try r.expect(.array_begin, "an array");
        var count: usize = 0;
        while (try r.peek() != .array_end) : (count += 1) {
            if (count == rows_max) return r.tooLarge("more than {d} rows", .{rows_max});
            r.row = count;
            var values: [fields.len]Value = @splat(.absent);
            try r.rowRead(fields, &values);
            store(d.region, count, &values);
            r.row = null;
        }
        try r.expect(.array_end, "the end of the array");
        return count;
    }

    // -- Checks across rows -------------------------------------------------------------------------------------

    fn tenantsCheck(d: *Decoder) Error!void {
        const r = d.reader;
        r.section = "tenants";
        d.tenant_index = .init(&d.region.tenant_entries, d.tenants_count);
        for (d.region.tenants[0..d.tenants_count], 0..) |*tenant, row| {
            r.row = row;
            r.field = "name";
            const hash = table_module.tenantHash(d.seed, tenant.name);
            var probe = d.tenant_index.probe(hash);
            while (probe.next()) |other| {
                if (std.mem.eql(u8, d.region.tenants[other].name, tenant.name)) {
                    return r.invalid("\"{f}\" is also the name of tenants[{d}]", .{ quoted(tenant.name), other });
                }
            }
            d.tenant_index.insert(hash, @intCast(row));
            r.field = "status";
            if (tenant.status == .unknown) return r.invalid("one of active, unpaid, suspended is expected", .{});
            try d.reservationCheck(&tenant.reservation);
            r.field = "upgrade_url";
            // It goes into a header between angle brackets.
            for (tenant.upgrade_url) |byte| if (byte <= ' ' or byte >= 0x7f or byte == '>') {
                return r.invalid("\"{f}\" has a byte that no URL has", .{quoted(tenant.upgrade_url)});
            };
        }
    }

    /// What sched_setattr(2) demands (runtime ≤ deadline ≤ period), and not finer than its enforcement.
    fn reservationCheck(d: *Decoder, reservation: *const table_module.Reservation) Error!void {
        const r = d.reader;
        if (reservation.runtime_us == 0) return;
        r.field = "reserved_runtime_us";
        if (reservation.runtime_us < limits.reserved_runtime_us_min or reservation.runtime_us > reservation.deadline_us) {
            return r.invalid("{d} is not within {d} … {d} (the deadline)", .{ reservation.runtime_us, limits.reserved_runtime_us_min, reservation.deadline_us });
        }
        r.field = "reserved_period_us";
        if (reservation.period_us < limits.reserved_period_us_min or reservation.period_us < reservation.deadline_us) {
            return r.invalid("{d} is below {d} or below the deadline of {d}", .{ reservation.period_us, limits.reserved_period_us_min, reservation.deadline_us });
        }
    }

    fn keysCheck(d: *Decoder) Error!void {
        const r = d.reader;
        r.section = "keys";
        d.key_index = .init(&d.region.key_entries, d.keys_count);
        for (d.region.keys[0..d.keys_count], 0..) |*key, row| {
            r.row = row;
            try d.tenantCheck(key.tenant);
            r.field = "sha256";
            const hash = table_module.keyHash(d.seed, &key.sha256);
            var probe = d.key_index.probe(hash);
            while (probe.next()) |other| {
                if (std.mem.eql(u8, &d.region.keys[other].sha256, &key.sha256)) {
                    return r.invalid("the same digest as keys[{d}]", .{other});
                }
            }
            d.key_index.insert(hash, @intCast(row));
        }
    }

    fn versionsCheck(d: *Decoder) Error!void {
        const r = d.reader;
        r.section = "versions";
        @memset(&d.region.version_positions, position_none);
        const ids: Index = .init(&d.region.id_entries, d.versions_count);
        for (d.region.versions[0..d.versions_count], 0..) |*version, row| {
            r.row = row;
            try d.tenantCheck(version.tenant);
            r.field = "index";
            const position = &d.region.version_positions[version.index];
            if (position.* != position_none) return r.invalid("{d} is also the index of versions[{d}]", .{ version.index, position.* });
            position.* = @intCast(row);
            r.field = "id";
            const hash = table_module.tenantHash(d.seed, version.id);
            var probe = ids.probe(hash);
            while (probe.next()) |other| {
                if (std.mem.eql(u8, d.region.versions[other].id, version.id)) {
                    return r.invalid("\"{f}\" is also the id of versions[{d}]", .{ quoted(version.id), other });
                }
            }
            ids.insert(hash, @intCast(row));
            r.field = "spawn";
            if (version.spawn.len == 0) return r.invalid("empty: the zygote needs a document (SpawnSpec)", .{});
        }
    }

    fn routesCheck(d: *Decoder) Error!void {
        const r = d.reader;
        r.section = "routes";
        d.route_index = .init(&d.region.route_entries, d.routes_count);
        for (d.region.routes[0..d.routes_count], 0..) |*route, row| {
            r.row = row;
            try d.tenantCheck(route.tenant);
            try d.routeVersionCheck(route);
            r.field = "qualifier";
            const hash = table_module.routeHash(d.seed, route.tenant, route.function, route.qualifier);
            var probe = d.route_index.probe(hash);
            while (probe.next()) |other_row| {
                const other = &d.region.routes[other_row];
                if (other.tenant == route.tenant and std.mem.eql(u8, other.function, route.function) and
                    std.mem.eql(u8, other.qualifier, route.qualifier))
                {
                    return r.invalid("{f}@{f} is also routes[{d}]", .{ quoted(route.function), quoted(route.qualifier), other_row });
                }
            }
            d.route_index.insert(hash, @intCast(row));
        }
    }

    /// A route must lead to a version of its own tenant and function: anything else would run one tenant's code for another.
    fn routeVersionCheck(d: *Decoder, route: *const table_module.Route) Error!void {
        const r = d.reader;
        r.field = "version";
        const index = route.version orelse return;
        const position = d.region.version_positions[index];
        if (position == position_none) return r.invalid("{d} is the index of none of the {d} versions", .{ index, d.versions_count });
        const version = &d.region.versions[position];
        if (version.tenant != route.tenant) {
            return r.invalid("{d} is a version of tenant {d}, this route is of tenant {d}", .{ index, version.tenant, route.tenant });
        }
        if (!std.mem.eql(u8, version.function, route.function)) {
            return r.invalid("{d} is a version of {f}, this route is of {f}", .{ index, quoted(version.function), quoted(route.function) });
        }
    }

    fn tenantCheck(d: *Decoder, tenant: u32) Error!void {
        const r = d.reader;
        r.field = "tenant";
        if (tenant >= d.tenants_count) {
            return r.invalid("{d} is not a position in tenants, which has {d} rows", .{ tenant, d.tenants_count });
        }
    }
};

/// The value of the field of that name: rows are stored by name, so that a field more moves no other.
inline fn valueOf(comptime fields: []const Field, values: []const Value, comptime name: []const u8) Value {
    const at = comptime for (fields, 0..) |field, i| {
        if (std.mem.eql(u8, field.name, name)) break i;
    } else @compileError("no field " ++ name);
    return values[at];
}

fn tenantStore(region: *Region, row: usize, values: *const [tenant_fields.len]Value) void {
    const of = struct {
        inline fn text(v: *const [tenant_fields.len]Value, comptime name: []const u8) []const u8 {
            return valueOf(&tenant_fields, v, name).text;
        }
        inline fn integer(v: *const [tenant_fields.len]Value, comptime name: []const u8) u32 {
            return @intCast(valueOf(&tenant_fields, v, name).integer);
        }
    };
    region.tenants[row] = .{
        .name = of.text(values, "name"),
        .id = of.text(values, "id"),
        .concurrency_max = of.integer(values, "concurrency_max"),
        .slot = 0,
        .openapi_public = of.text(values, "openapi_public"),
        .openapi_all = of.text(values, "openapi_all"),
        .tier = of.text(values, "tier"),
        // `tenantsCheck` refuses what is none of these.
        .status = std.meta.stringToEnum(table_module.Status, of.text(values, "status")) orelse .unknown,
        .rate_per_s = of.integer(values, "rate_per_s"),
        .burst = of.integer(values, "burst"),
        .leased = valueOf(&tenant_fields, values, "leased").flag,
        .resets_at_s = of.integer(values, "resets_at_s"),
        .cpu_weight = of.integer(values, "cpu_weight"),
        .reservation = .{
            .runtime_us = of.integer(values, "reserved_runtime_us"),
            .deadline_us = of.integer(values, "reserved_deadline_us"),
            .period_us = of.integer(values, "reserved_period_us"),
            .workers_max = of.integer(values, "reserved_workers_max"),
            .fallback = valueOf(&tenant_fields, values, "reserved_fallback").flag,
        },
        .upgrade_url = of.text(values, "upgrade_url"),
        .upgrade = .{
            .rate = of.text(values, "upgrade_rate"),
            .concurrency = of.text(values, "upgrade_concurrency"),
            .quota = of.text(values, "upgrade_quota"),
        },
    };
}

fn keyStore(region: *Region, row: usize, values: *const [key_fields.len]Value) void {
    const key = &region.keys[row];
    key.* = .{
        .sha256 = undefined,
        .tenant = @intCast(values[1].integer),
        .invoke = values[2].flag,
        .expires_at_s = @intCast(values[3].integer),
    };
    // The rule `sha256` has passed: 64 hexadecimal digits.
    _ = std.fmt.hexToBytes(&key.sha256, values[0].text) catch unreachable;
    region.key_ids[row] = values[4].text;
}

fn versionStore(region: *Region, row: usize, values: *const [version_fields.len]Value) void {
    const of = struct {
        inline fn text(v: *const [version_fields.len]Value, comptime name: []const u8) []const u8 {
            return valueOf(&version_fields, v, name).text;
        }
        inline fn integer(v: *const [version_fields.len]Value, comptime name: []const u8) u64 {
            return @intCast(valueOf(&version_fields, v, name).integer);
        }
    };
    region.versions[row] = .{
        .index = @intCast(of.integer(values, "index")),
        .id = of.text(values, "id"),
        .tenant = @intCast(of.integer(values, "tenant")),
        .function = of.text(values, "function"),
        .spawn = of.text(values, "spawn"),
        .timeout_ns = of.integer(values, "timeout_ms") * limits.ms_ns,
        .cpu_ns = of.integer(values, "cpu_ms") * limits.ms_ns,
        .memory_bytes = of.integer(values, "memory_bytes"),
        .open_files_max = @intCast(of.integer(values, "open_files_max")),
        .processes_max = @intCast(of.integer(values, "processes_max")),
        .concurrency_max = @intCast(of.integer(values, "concurrency_max")),
        .workers_min = @intCast(of.integer(values, "workers_min")),
        .request_bytes_max = @intCast(of.integer(values, "request_bytes_max")),
        .output_bytes_max = @intCast(of.integer(values, "output_bytes_max")),
        .log_bytes_max = @intCast(of.integer(values, "log_bytes_max")),
        .probe = valueOf(&version_fields, values, "probe").flag,
        .children = valueOf(&version_fields, values, "children").flag,
        .leased = valueOf(&version_fields, values, "leased").flag,
        .upgrade = .{
            .timeout = of.text(values, "upgrade_timeout"),
            .cpu = of.text(values, "upgrade_cpu"),
            .memory = of.text(values, "upgrade_memory"),
            .output = of.text(values, "upgrade_output"),
        },
    };
}

fn routeStore(region: *Region, row: usize, values: *const [route_fields.len]Value) void {
    const version = values[3].integer;
    region.routes[row] = .{
        .tenant = @intCast(values[0].integer),
        .function = values[1].text,
        .qualifier = values[2].text,
        .version = if (version < 0) null else @intCast(version),
        .public = values[4].flag,
        .failure = values[5].text,
    };
}

test {
    _ = @import("revision_test.zig");
}
