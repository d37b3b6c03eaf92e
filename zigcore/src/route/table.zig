//! The table of one revision, ready to be asked: (tenant name) → tenant, (tenant, function, qualifier) → route,
//! `VersionRow.index` → version. Lookups are one hash and, as a rule, one comparison: a few tens of nanoseconds.
//!
//! Filled by route/revision.zig, read by every reactor; immutable from the moment a reactor sees it.
//! Rows point into the revision's own text: nobody keeps a row or a slice of one beyond the swap to the next revision.
//! Always holds: every index in a row is in range and the hash tables are at most half full. The one thing that reactors
//! write is `Key.used_s`.
const std = @import("std");
const assert = std.debug.assert;
const limits = @import("../limits.zig");

pub const Table = struct {
    revision: u64,
    /// Mixed into every hash, so that nobody can choose names that collide.
    seed: u64,
    tenants: []Tenant,
    keys: []Key,
    /// The control plane's, by position in `keys`; beside them, for the hot path reads none. Empty: nobody asks.
    key_ids: [][]const u8,
    versions: []Version,
    routes: []Route,
    tenant_index: Index,
    key_index: Index,
    route_index: Index,
    /// `VersionRow.index` → position in `versions`, or `position_none`.
    version_positions: []u32,

    pub fn tenantFind(table: *const Table, name: []const u8) ?u32 {
        var probe = table.tenant_index.probe(tenantHash(table.seed, name));
        while (probe.next()) |position| {
            if (std.mem.eql(u8, table.tenants[position].name, name)) return position;
        }
        return null;
    }

    /// `tenant` is a position in `tenants`.
    pub fn routeFind(table: *const Table, tenant: u32, function: []const u8, qualifier: []const u8) ?*const Route {
        assert(tenant < table.tenants.len);
        var probe = table.route_index.probe(routeHash(table.seed, tenant, function, qualifier));
        while (probe.next()) |position| {
            const route = &table.routes[position];
            if (route.tenant == tenant and std.mem.eql(u8, route.function, function) and
                std.mem.eql(u8, route.qualifier, qualifier)) return route;
        }
        return null;
    }

    /// `index` is a `VersionRow.index`; null: this revision does not have it (any more).
    pub fn versionFind(table: *const Table, index: u32) ?*const Version {
        if (index >= table.version_positions.len) return null;
        const position = table.version_positions[index];
        return if (position == position_none) null else &table.versions[position];
    }

    /// What meter/counters.zig calls the version at that position by.
    pub fn label(table: *const Table, position: usize) Label {
        const version = &table.versions[position];
        return .{
            .index = version.index,
            .tenant = table.tenants[version.tenant].name,
            .function = version.function,
            .version = version.id,
        };
    }
};

/// cgroup v2's own.
pub const cpu_weight_default = 100;
pub const position_none: u32 = std.math.maxInt(u32);

pub const Tenant = struct {
    name: []const u8,
    /// Of the control plane; what usage and leases are kept by.
    id: []const u8 = "",
    concurrency_max: u32,
    /// Of admit/slots.zig; set there between decoding and the swap.
    slot: u32,
    openapi_public: []const u8,
    openapi_all: []const u8,
    /// The tier's name, for answers.
    tier: []const u8 = "",
    status: Status = .active,
    /// Token bucket of admitted invocations; 0: no bound.
    rate_per_s: u32 = 0,
    burst: u32 = 0,
    /// It has a quota: invocations are taken from its purse.
    leased: bool = false,
    /// Unix time at which the quota's period ends; 0: it has none.
    resets_at_s: u64 = 0,
    /// Share of a shared CPU, in cgroup v2's units.
    cpu_weight: u32 = cpu_weight_default,
    reservation: Reservation = .{},
    /// Where a larger tier can be bought; empty: nowhere.
    upgrade_url: []const u8 = "",
    upgrade: TenantUpgrade = .{},
};

/// `unknown` is what the decoder makes of any other word, and refuses.
pub const Status = enum { active, unpaid, suspended, unknown };

/// CPU bandwidth that the kernel guarantees each of the tenant's reserved workers; runtime 0: none was bought.
pub const Reservation = struct {
    runtime_us: u32 = 0,
    deadline_us: u32 = 0,
    period_us: u32 = 0,
    workers_max: u32 = 0,
    /// What the kernel does not admit runs best-effort (and says so); otherwise it waits.
    fallback: bool = true,
};

/// The tier that would allow more, by the bound that was hit; empty: none would.
pub const TenantUpgrade = struct { rate: []const u8 = "", concurrency: []const u8 = "", quota: []const u8 = "" };
pub const VersionUpgrade = struct { timeout: []const u8, cpu: []const u8, memory: []const u8, output: []const u8 };

pub const Key = struct {
    sha256: [32]u8,
    tenant: u32,
    invoke: bool,
    /// Unix time; 0: never.
    expires_at_s: u64,
    /// Unix time of the last request that came with it; 0: none since route/uses.zig looked.
    used_s: std.atomic.Value(u32) = .init(0),

    /// The row's line is in the cache already; it is written once a second at most, so that reactors share it.
    pub inline fn use(key: *Key, now_s: u64) void {
        const second: u32 = @truncate(now_s);
        if (key.used_s.load(.monotonic) != second) key.used_s.store(second, .monotonic);
    }
};

pub const Version = struct {
    index: u32,
    id: []const u8,
    tenant: u32,
    function: []const u8,
    /// JSON for the zygote, unread here.
    spawn: []const u8,
    timeout_ns: u64,
    cpu_ns: u64,
    memory_bytes: u64,
    /// Of the worker, from outside; 0: what it was started with.
    open_files_max: u32,
    processes_max: u32,
    /// Its workers may have processes of their own (state `forked`, or it asked for them).
    children: bool,
    concurrency_max: u32,
    workers_min: u32,
    request_bytes_max: u32,
    output_bytes_max: u32,
    log_bytes_max: u32,
    probe: bool,
    /// Its function has a quota of its own, kept in `slot` of admit/slots.zig.
    leased: bool = false,
    slot: u32 = 0,
    upgrade: VersionUpgrade,
};

pub const Route = struct {
    tenant: u32,
    function: []const u8,
    qualifier: []const u8,
    /// `VersionRow.index`; null: known, but no version of it was ever ready here.
    version: ?u32,
    public: bool,
    /// Only read when `version` is null: why, for callers with the tenant's key.
    failure: []const u8,
};

pub const Label = struct { index: u32, tenant: []const u8, function: []const u8, version: []const u8 };

/// Open addressing over positions of rows; linear probing, at most half full, so that every probe ends.
pub const Index = struct {
    entries: []Entry,

    pub const Entry = extern struct {
        /// The upper half of the hash: most strangers are told apart without touching their row.
        tag: u32,
        /// 0: empty.
        position_plus_one: u32,
    };

    /// Entries needed for `rows_max` rows.
    pub fn capacity(rows_max: usize) usize {
        return std.math.ceilPowerOfTwoAssert(usize, @max(rows_max * 2, 4));
    }

    /// Empties the index and makes it as small as `rows` allow.
    pub fn init(memory: []Entry, rows: usize) Index {
        const entries = memory[0..capacity(rows)];
        @memset(entries, .{ .tag = 0, .position_plus_one = 0 });
        return .{ .entries = entries };
    }

    pub fn insert(index: Index, hash: u64, position: u32) void {
        const mask = index.entries.len - 1;
        var at: usize = @as(usize, @truncate(hash)) & mask;
        for (0..index.entries.len) |_| {
            if (index.entries[at].position_plus_one == 0) {
                index.entries[at] = .{ .tag = @truncate(hash >> 32), .position_plus_one = position + 1 };
                return;
            }
            at = (at + 1) & mask;
        }
        unreachable; // At most half full, by `init`'s contract with its one caller per index.
    }

    pub fn probe(index: *const Index, hash: u64) Probe {
        return .{ .entries = index.entries, .at = @as(usize, @truncate(hash)) & (index.entries.len - 1), .tag = @truncate(hash >> 32) };
    }

    /// Yields the positions whose tag matches; the caller compares the rows.
    pub const Probe = struct {
        entries: []const Entry,
        at: usize,
        tag: u32,

        pub inline fn next(p: *Probe) ?u32 {
            while (true) {
                const entry = p.entries[p.at];
                if (entry.position_plus_one == 0) return null;
                p.at = (p.at + 1) & (p.entries.len - 1);
                if (entry.tag == p.tag) return entry.position_plus_one - 1;
            }
        }
    };
};

pub fn tenantHash(seed: u64, name: []const u8) u64 {
    return std.hash.Wyhash.hash(seed, name);
}

pub fn routeHash(seed: u64, tenant: u32, function: []const u8, qualifier: []const u8) u64 {
    const function_hash = std.hash.Wyhash.hash(seed +% tenant, function);
    return std.hash.Wyhash.hash(function_hash, qualifier);
}

/// A digest is uniform already; the seed keeps its order in the table private.
pub fn keyHash(seed: u64, sha256: *const [32]u8) u64 {
    return std.mem.readInt(u64, sha256[0..8], .little) ^ seed;
}

test "the index finds what was inserted, also when every hash is the same" {
    var memory: [Index.capacity(100)]Index.Entry = undefined;
    for ([_]u64{ 0, 0x9e3779b97f4a7c15 }) |factor| {
        const index = Index.init(&memory, 100);
        for (0..100) |i| index.insert(factor *% i, @intCast(i));
        for (0..100) |i| {
            var probe = index.probe(factor *% i);
            var found = false;
            while (probe.next()) |position| found = found or position == i;
            try std.testing.expect(found);
        }
        var probe = index.probe(0xdead_beef_0000_0000);
        try std.testing.expectEqual(null, probe.next());
    }
}
