//! One JSON document of the host (gateway/contract/revision.py) → a checked `Table`, in memory taken at start.
//!
//! Called by the host's thread in zc_gateway_apply: `prepare` builds the new table in the region that nobody uses,
//! the caller swaps it in on every reactor, `commit` makes the other region the spare one. On any error nothing
//! changes and `message` says which row, which field, which value and what is allowed.
//! Nothing here asserts on content: a document is data, even the host's.
const std = @import("std");
const assert = std.debug.assert;
const limits = @import("../limits.zig");
const pages = @import("../io/pages.zig");
const table_module = @import("table.zig");
const Table = table_module.Table;
const Index = table_module.Index;
const position_none = table_module.position_none;

pub const Error = error{ Invalid, TooLarge };

/// Two regions, one in use. About 190 MiB of address space, resident only where documents have reached.
pub const Revisions = struct {
    regions: [2]Region,
    tables: [2]Table,
    state: enum(u8) { empty = 0, first = 1, second = 2 },
    /// `prepare` succeeded and `commit` has not come yet.
    prepared: bool,
    seed: u64,

    /// `seed`: random, per process.
    pub fn create(seed: u64) error{OutOfMemory}!*Revisions {
        const revisions = try pages.create(Revisions);
        assert(revisions.state == .empty and !revisions.prepared);
        revisions.seed = seed;
        return revisions;
    }

    pub fn destroy(revisions: *Revisions) void {
        pages.destroy(Revisions, revisions);
    }

    /// The table in use; null before the first `commit`.
    pub fn current(revisions: *const Revisions) ?*const Table {
        return switch (revisions.state) {
            .empty => null,
            .first => &revisions.tables[0],
            .second => &revisions.tables[1],
        };
    }

    /// Decodes and checks. The table is the spare region's: valid until the next `prepare`, for good after `commit`.
    /// `message` (zc_error.text) receives a NUL-terminated text on error.
    pub fn prepare(revisions: *Revisions, document: []const u8, message: *[512]u8) Error!*Table {
        revisions.prepared = false;
        const spare: usize = if (revisions.state == .first) 1 else 0;
        try decode(&revisions.regions[spare], document, revisions.seed, &revisions.tables[spare], message);
        revisions.prepared = true;
        return &revisions.tables[spare];
    }

    /// After every reactor has taken the prepared table and none holds anything of the other.
    pub fn commit(revisions: *Revisions) void {
        assert(revisions.prepared);
        revisions.prepared = false;
        revisions.state = if (revisions.state == .first) .second else .first;
    }
};

/// What one table is made of.
pub const Region = struct {
    text: [limits.revision_bytes_max]u8,
    tenants: [limits.tenants_max]table_module.Tenant,
    keys: [limits.keys_max]table_module.Key,
    versions: [limits.versions_max]table_module.Version,
    routes: [limits.routes_max]table_module.Route,
    tenant_entries: [Index.capacity(limits.tenants_max)]Index.Entry,
    key_entries: [Index.capacity(limits.keys_max)]Index.Entry,
    route_entries: [Index.capacity(limits.routes_max)]Index.Entry,
    /// Only during decoding: no version's id twice.
    id_entries: [Index.capacity(limits.versions_max)]Index.Entry,
    version_positions: [limits.versions_max]u32,
};

const Rule = union(enum) {
    /// A DNS label: gateway/contract/table.py, NAME_PATTERN.
    name,
    /// A version's id: letters, digits, "_" and "-".
    id,
    /// A name or an id.
    qualifier,
    sha256,
    flag,
    /// Any text of at most so many bytes.
    text: usize,
    integer: struct { i64, i64 },
};

const Field = struct { name: []const u8, rule: Rule, optional: bool = false };

const Value = union(enum) { absent, text: []const u8, integer: i64, flag: bool };

const tenant_fields = [_]Field{
    .{ .name = "name", .rule = .name },
    .{ .name = "concurrency_max", .rule = .{ .integer = .{ 1, std.math.maxInt(u32) } } },
    .{ .name = "openapi_public", .rule = .{ .text = limits.revision_bytes_max } },
    .{ .name = "openapi_all", .rule = .{ .text = limits.revision_bytes_max } },
};

const key_fields = [_]Field{
    .{ .name = "sha256", .rule = .sha256 },
    .{ .name = "tenant", .rule = .{ .integer = .{ 0, limits.tenants_max - 1 } } },
    .{ .name = "invoke", .rule = .flag },
    .{ .name = "expires_at_s", .rule = .{ .integer = .{ 0, std.math.maxInt(i64) } } },
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
};

const route_fields = [_]Field{
    .{ .name = "tenant", .rule = .{ .integer = .{ 0, limits.tenants_max - 1 } } },
    .{ .name = "function", .rule = .name },
    .{ .name = "qualifier", .rule = .qualifier },
    .{ .name = "version", .rule = .{ .integer = .{ -1, limits.versions_max - 1 } } },
    .{ .name = "public", .rule = .flag },
    .{ .name = "error", .rule = .{ .text = limits.revision_bytes_max }, .optional = true },
};

const Section = enum { revision, tenants, keys, versions, routes };

fn decode(region: *Region, document: []const u8, seed: u64, table: *Table, message: *[512]u8) Error!void {
    var nesting: [64]u8 = undefined;
    var nesting_allocator = std.heap.FixedBufferAllocator.init(&nesting);
    var decoder: Decoder = .{
        .scanner = .initCompleteInput(nesting_allocator.allocator(), document),
        .region = region,
        .seed = seed,
        .message = message,
    };
    if (document.len > limits.revision_bytes_max) {
        return decoder.tooLarge("the document has {d} bytes, at most {d} are allowed", .{ document.len, limits.revision_bytes_max });
    }
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
        .versions = region.versions[0..decoder.versions_count],
        .routes = region.routes[0..decoder.routes_count],
        .tenant_index = decoder.tenant_index,
        .key_index = decoder.key_index,
        .route_index = decoder.route_index,
        .version_positions = &region.version_positions,
    };
}

const Decoder = struct {
    scanner: std.json.Scanner,
    region: *Region,
    seed: u64,
    message: *[512]u8,
    text_bytes: usize = 0,
    revision: u64 = 0,
    tenants_count: usize = 0,
    keys_count: usize = 0,
    versions_count: usize = 0,
    routes_count: usize = 0,
    tenant_index: Index = undefined,
    key_index: Index = undefined,
    route_index: Index = undefined,
    /// Where we are, for messages.
    section: ?Section = null,
    row: ?usize = null,
    field: []const u8 = "",

    fn documentRead(d: *Decoder) Error!void {
        try d.expect(.object_begin, "an object");
        var seen: [std.enums.values(Section).len]bool = @splat(false);
        var name_buffer: [24]u8 = undefined;
        while (try d.nameRead(&name_buffer)) |name| {
            const section = std.meta.stringToEnum(Section, name) orelse
                return d.invalid("\"{f}\" is not a field of the document; it has revision, tenants, keys, versions, routes", .{quoted(name)});
            d.section = section;
            if (seen[@backingInt(section)]) return d.invalid("appears twice", .{});
            seen[@backingInt(section)] = true;
            switch (section) {
                .revision => d.revision = @intCast((try d.valueRead(.{ .integer = .{ 0, std.math.maxInt(i64) } })).integer),
                .tenants => d.tenants_count = try d.rowsRead(&tenant_fields, limits.tenants_max, tenantStore),
                .keys => d.keys_count = try d.rowsRead(&key_fields, limits.keys_max, keyStore),
                .versions => d.versions_count = try d.rowsRead(&version_fields, limits.versions_max, versionStore),
                .routes => d.routes_count = try d.rowsRead(&route_fields, limits.routes_max, routeStore),
            }
            d.section = null;
        }
        for (seen, std.enums.values(Section)) |was_seen, section| {
            if (!was_seen) return d.invalid("the field \"{s}\" is missing", .{@tagName(section)});
        }
        try d.expect(.end_of_document, "the end of the document");
    }

    /// Reads an array of objects; returns how many.
    fn rowsRead(
        d: *Decoder,
        comptime fields: []const Field,
        rows_max: usize,
        comptime store: fn (*Region, usize, *const [fields.len]Value) void,
    ) Error!usize {
        try d.expect(.array_begin, "an array");
        var count: usize = 0;
        while (try d.peek() != .array_end) : (count += 1) {
            if (count == rows_max) return d.tooLarge("more than {d} rows", .{rows_max});
            d.row = count;
            var values: [fields.len]Value = @splat(.absent);
            try d.rowRead(fields, &values);
            store(d.region, count, &values);
            d.row = null;
        }
        try d.expect(.array_end, "the end of the array");
        return count;
    }

    fn rowRead(d: *Decoder, fields: []const Field, values: []Value) Error!void {
        assert(fields.len == values.len);
        try d.expect(.object_begin, "an object");
        var name_buffer: [24]u8 = undefined;
        while (try d.nameRead(&name_buffer)) |name| {
            const at = for (fields, 0..) |field, i| {
                if (std.mem.eql(u8, field.name, name)) break i;
            } else return d.invalid("\"{f}\" is not a field of this row", .{quoted(name)});
            d.field = fields[at].name;
            if (values[at] != .absent) return d.invalid("appears twice", .{});
            values[at] = try d.valueRead(fields[at].rule);
            d.field = "";
        }
        for (fields, values) |field, *value| {
            if (value.* != .absent) continue;
            if (!field.optional) return d.invalid("the field \"{s}\" is missing", .{field.name});
            value.* = .{ .text = "" };
        }
    }

    fn valueRead(d: *Decoder, rule: Rule) Error!Value {
        const kind = try d.peek();
        switch (rule) {
            .flag => switch (kind) {
                .true, .false => {
                    _ = try d.next();
                    return .{ .flag = kind == .true };
                },
                else => return d.invalid("true or false is expected, not {s}", .{kindName(kind)}),
            },
            .integer => |range| {
                if (kind != .number) return d.invalid("an integer is expected, not {s}", .{kindName(kind)});
                return .{ .integer = try d.integerRead(range[0], range[1]) };
            },
            .name, .id, .qualifier, .sha256, .text => {
                if (kind != .string) return d.invalid("a string is expected, not {s}", .{kindName(kind)});
                const text = try d.textRead();
                try d.textCheck(rule, text);
                return .{ .text = text };
            },
        }
    }

    fn textCheck(d: *Decoder, rule: Rule, text: []const u8) Error!void {
        switch (rule) {
            .name => if (!isName(text)) return d.invalid(
                "\"{f}\" is not a name: 1 … {d} of a–z, 0–9 and \"-\", a letter first, no \"-\" last",
                .{ quoted(text), limits.name_bytes_max },
            ),
            .id => if (!isId(text)) return d.invalid(
                "\"{f}\" is not an id: 1 … {d} letters, digits, \"_\" and \"-\"",
                .{ quoted(text), limits.name_bytes_max },
            ),
            .qualifier => if (!isName(text) and !isId(text)) return d.invalid(
                "\"{f}\" is neither an alias nor a version's id: 1 … {d} letters, digits, \"_\" and \"-\"",
                .{ quoted(text), limits.name_bytes_max },
            ),
            .sha256 => if (!isSha256(text)) return d.invalid(
                "{d} bytes are not a SHA-256: 64 digits of 0–9 and a–f are expected",
                .{text.len},
            ),
            .text => |bytes_max| if (text.len > bytes_max) return d.tooLarge(
                "{d} bytes, at most {d} are allowed",
                .{ text.len, bytes_max },
            ),
            .flag, .integer => unreachable,
        }
    }

    fn integerRead(d: *Decoder, min: i64, max: i64) Error!i64 {
        var digits: [24]u8 = undefined;
        var digits_count: usize = 0;
        while (true) {
            const part, const last = switch (try d.next()) {
                .number => |part| .{ part, true },
                .partial_number => |part| .{ part, false },
                else => return d.invalid("a number is expected", .{}),
            };
            if (digits_count + part.len > digits.len) return d.invalid("a number of more than {d} digits", .{digits.len});
            @memcpy(digits[digits_count..][0..part.len], part);
            digits_count += part.len;
            if (last) break;
        }
        const text = digits[0..digits_count];
        const value = std.fmt.parseInt(i64, text, 10) catch
            return d.invalid("{f} is not an integer from {d} to {d}", .{ quoted(text), min, max });
        if (value < min or value > max) return d.invalid("{d} is not within {d} … {d}", .{ value, min, max });
        return value;
    }

    /// Copies the string that comes next, unescaped, to the region's text.
    fn textRead(d: *Decoder) Error![]const u8 {
        const start = d.text_bytes;
        while (true) {
            switch (try d.next()) {
                .string => |part| {
                    try d.textAppend(part);
                    return d.region.text[start..d.text_bytes];
                },
                .partial_string => |part| try d.textAppend(part),
                .partial_string_escaped_1 => |part| try d.textAppend(&part),
                .partial_string_escaped_2 => |part| try d.textAppend(&part),
                .partial_string_escaped_3 => |part| try d.textAppend(&part),
                .partial_string_escaped_4 => |part| try d.textAppend(&part),
                else => return d.invalid("a string is expected", .{}),
            }
        }
    }

    fn textAppend(d: *Decoder, part: []const u8) Error!void {
        // A string is never longer than its JSON, so this holds for every document within its bound.
        if (part.len > d.region.text.len - d.text_bytes) return d.tooLarge("more than {d} bytes of text", .{d.region.text.len});
        @memcpy(d.region.text[d.text_bytes..][0..part.len], part);
        d.text_bytes += part.len;
    }

    /// The name of the object's next field; null at its end. A name longer than ours can be is cut: it is unknown anyway.
    fn nameRead(d: *Decoder, buffer: []u8) Error!?[]const u8 {
        var bytes: usize = 0;
        while (true) {
            var escaped: [4]u8 = undefined;
            const part: []const u8, const last = switch (try d.next()) {
                .object_end => return null,
                .string => |part| .{ part, true },
                .partial_string => |part| .{ part, false },
                .partial_string_escaped_1 => |part| .{ copied(&escaped, &part), false },
                .partial_string_escaped_2 => |part| .{ copied(&escaped, &part), false },
                .partial_string_escaped_3 => |part| .{ copied(&escaped, &part), false },
                .partial_string_escaped_4 => |part| .{ copied(&escaped, &part), false },
                else => return d.invalid("the name of a field is expected", .{}),
            };
            const taken = part[0..@min(part.len, buffer.len - bytes)];
            @memcpy(buffer[bytes..][0..taken.len], taken);
            bytes += taken.len;
            if (last) return buffer[0..bytes];
        }
    }

    fn expect(d: *Decoder, kind: std.json.TokenType, what: []const u8) Error!void {
        const found = try d.peek();
        if (found != kind) return d.invalid("{s} is expected, not {s}", .{ what, kindName(found) });
        _ = try d.next();
    }

    fn peek(d: *Decoder) Error!std.json.TokenType {
        return d.scanner.peekNextTokenType() catch |e| d.syntax(e);
    }

    fn next(d: *Decoder) Error!std.json.Token {
        return d.scanner.next() catch |e| d.syntax(e);
    }

    fn syntax(d: *Decoder, e: std.json.Scanner.NextError) Error {
        return switch (e) {
            error.SyntaxError => d.invalid("not JSON at byte {d}", .{d.scanner.cursor}),
            error.UnexpectedEndOfInput, error.BufferUnderrun => d.invalid("the document ends too early, after {d} bytes", .{d.scanner.input.len}),
            error.OutOfMemory => d.invalid("nested too deeply at byte {d}", .{d.scanner.cursor}),
        };
    }

    // -- Checks across rows -------------------------------------------------------------------------------------

    fn tenantsCheck(d: *Decoder) Error!void {
        d.section = .tenants;
        d.tenant_index = .init(&d.region.tenant_entries, d.tenants_count);
        for (d.region.tenants[0..d.tenants_count], 0..) |*tenant, row| {
            d.row = row;
            d.field = "name";
            const hash = table_module.tenantHash(d.seed, tenant.name);
            var probe = d.tenant_index.probe(hash);
            while (probe.next()) |other| {
                if (std.mem.eql(u8, d.region.tenants[other].name, tenant.name)) {
                    return d.invalid("\"{f}\" is also the name of tenants[{d}]", .{ quoted(tenant.name), other });
                }
            }
            d.tenant_index.insert(hash, @intCast(row));
        }
    }

    fn keysCheck(d: *Decoder) Error!void {
        d.section = .keys;
        d.key_index = .init(&d.region.key_entries, d.keys_count);
        for (d.region.keys[0..d.keys_count], 0..) |*key, row| {
            d.row = row;
            try d.tenantCheck(key.tenant);
            d.field = "sha256";
            const hash = table_module.keyHash(d.seed, &key.sha256);
            var probe = d.key_index.probe(hash);
            while (probe.next()) |other| {
                if (std.mem.eql(u8, &d.region.keys[other].sha256, &key.sha256)) {
                    return d.invalid("the same digest as keys[{d}]", .{other});
                }
            }
            d.key_index.insert(hash, @intCast(row));
        }
    }

    fn versionsCheck(d: *Decoder) Error!void {
        d.section = .versions;
        @memset(&d.region.version_positions, position_none);
        const ids: Index = .init(&d.region.id_entries, d.versions_count);
        for (d.region.versions[0..d.versions_count], 0..) |*version, row| {
            d.row = row;
            try d.tenantCheck(version.tenant);
            d.field = "index";
            const position = &d.region.version_positions[version.index];
            if (position.* != position_none) return d.invalid("{d} is also the index of versions[{d}]", .{ version.index, position.* });
            position.* = @intCast(row);
            d.field = "id";
            const hash = table_module.tenantHash(d.seed, version.id);
            var probe = ids.probe(hash);
            while (probe.next()) |other| {
                if (std.mem.eql(u8, d.region.versions[other].id, version.id)) {
                    return d.invalid("\"{f}\" is also the id of versions[{d}]", .{ quoted(version.id), other });
                }
            }
            ids.insert(hash, @intCast(row));
            d.field = "spawn";
            if (version.spawn.len == 0) return d.invalid("empty: the zygote needs a document (SpawnSpec)", .{});
        }
    }

    fn routesCheck(d: *Decoder) Error!void {
        d.section = .routes;
        d.route_index = .init(&d.region.route_entries, d.routes_count);
        for (d.region.routes[0..d.routes_count], 0..) |*route, row| {
            d.row = row;
            try d.tenantCheck(route.tenant);
            try d.routeVersionCheck(route);
            d.field = "qualifier";
            const hash = table_module.routeHash(d.seed, route.tenant, route.function, route.qualifier);
            var probe = d.route_index.probe(hash);
            while (probe.next()) |other_row| {
                const other = &d.region.routes[other_row];
                if (other.tenant == route.tenant and std.mem.eql(u8, other.function, route.function) and
                    std.mem.eql(u8, other.qualifier, route.qualifier))
                {
                    return d.invalid("{f}@{f} is also routes[{d}]", .{ quoted(route.function), quoted(route.qualifier), other_row });
                }
            }
            d.route_index.insert(hash, @intCast(row));
        }
    }

    /// A route must lead to a version of its own tenant and function: anything else would run one tenant's code for another.
    fn routeVersionCheck(d: *Decoder, route: *const table_module.Route) Error!void {
        d.field = "version";
        const index = route.version orelse return;
        const position = d.region.version_positions[index];
        if (position == position_none) return d.invalid("{d} is the index of none of the {d} versions", .{ index, d.versions_count });
        const version = &d.region.versions[position];
        if (version.tenant != route.tenant) {
            return d.invalid("{d} is a version of tenant {d}, this route is of tenant {d}", .{ index, version.tenant, route.tenant });
        }
        if (!std.mem.eql(u8, version.function, route.function)) {
            return d.invalid("{d} is a version of {f}, this route is of {f}", .{ index, quoted(version.function), quoted(route.function) });
        }
    }

    fn tenantCheck(d: *Decoder, tenant: u32) Error!void {
        d.field = "tenant";
        if (tenant >= d.tenants_count) {
            return d.invalid("{d} is not a position in tenants, which has {d} rows", .{ tenant, d.tenants_count });
        }
    }

    // -- Messages -----------------------------------------------------------------------------------------------

    fn invalid(d: *Decoder, comptime format: []const u8, arguments: anytype) Error {
        d.say(format, arguments);
        return error.Invalid;
    }

    fn tooLarge(d: *Decoder, comptime format: []const u8, arguments: anytype) Error {
        d.say(format, arguments);
        return error.TooLarge;
    }

    /// "revision: tenants[3].name: …", cut to the message's size.
    fn say(d: *Decoder, comptime format: []const u8, arguments: anytype) void {
        var writer: std.Io.Writer = .fixed(d.message[0 .. d.message.len - 1]);
        d.sayPath(&writer) catch {};
        writer.print(format, arguments) catch {};
        d.message[writer.end] = 0;
    }

    fn sayPath(d: *Decoder, writer: *std.Io.Writer) std.Io.Writer.Error!void {
        try writer.writeAll("revision: ");
        const section = d.section orelse return;
        // The document's own number needs no path beside the prefix.
        if (section == .revision) return;
        try writer.writeAll(@tagName(section));
        if (d.row) |row| try writer.print("[{d}]", .{row});
        if (d.field.len > 0) try writer.print(".{s}", .{d.field});
        try writer.writeAll(": ");
    }
};

fn tenantStore(region: *Region, row: usize, values: *const [tenant_fields.len]Value) void {
    region.tenants[row] = .{
        .name = values[0].text,
        .concurrency_max = @intCast(values[1].integer),
        .slot = 0,
        .openapi_public = values[2].text,
        .openapi_all = values[3].text,
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
}

fn versionStore(region: *Region, row: usize, values: *const [version_fields.len]Value) void {
    region.versions[row] = .{
        .index = @intCast(values[0].integer),
        .id = values[1].text,
        .tenant = @intCast(values[2].integer),
        .function = values[3].text,
        .spawn = values[4].text,
        .timeout_ns = @as(u64, @intCast(values[5].integer)) * limits.ms_ns,
        .concurrency_max = @intCast(values[6].integer),
        .workers_min = @intCast(values[7].integer),
        .request_bytes_max = @intCast(values[8].integer),
        .output_bytes_max = @intCast(values[9].integer),
        .log_bytes_max = @intCast(values[10].integer),
        .probe = values[11].flag,
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

pub fn isName(text: []const u8) bool {
    if (text.len == 0 or text.len > limits.name_bytes_max) return false;
    for (text) |byte| switch (byte) {
        'a'...'z', '0'...'9', '-' => {},
        else => return false,
    };
    return std.ascii.isLower(text[0]) and text[text.len - 1] != '-';
}

pub fn isId(text: []const u8) bool {
    if (text.len == 0 or text.len > limits.name_bytes_max) return false;
    for (text) |byte| switch (byte) {
        'A'...'Z', 'a'...'z', '0'...'9', '-', '_' => {},
        else => return false,
    };
    return std.ascii.isAlphanumeric(text[0]);
}

fn isSha256(text: []const u8) bool {
    if (text.len != 64) return false;
    for (text) |byte| switch (byte) {
        '0'...'9', 'a'...'f' => {},
        else => return false,
    };
    return true;
}

fn copied(buffer: *[4]u8, part: []const u8) []const u8 {
    @memcpy(buffer[0..part.len], part);
    return buffer[0..part.len];
}

fn kindName(kind: std.json.TokenType) []const u8 {
    return switch (kind) {
        .object_begin => "an object",
        .object_end => "the end of an object",
        .array_begin => "an array",
        .array_end => "the end of an array",
        .true => "true",
        .false => "false",
        .null => "null",
        .number => "a number",
        .string => "a string",
        .end_of_document => "the end of the document",
    };
}

/// A value of the document in a message: printable ASCII, at most 40 bytes of it.
const Quoted = struct {
    text: []const u8,

    pub fn format(q: Quoted, writer: *std.Io.Writer) std.Io.Writer.Error!void {
        for (q.text[0..@min(q.text.len, 40)]) |byte| {
            try writer.writeByte(if (std.ascii.isPrint(byte) and byte != '"') byte else '?');
        }
        if (q.text.len > 40) try writer.writeAll("…");
    }
};

fn quoted(text: []const u8) Quoted {
    return .{ .text = text };
}

test {
    _ = @import("revision_test.zig");
}
