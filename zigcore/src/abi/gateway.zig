//! Exported functions of the data plane: check, call, map error to status; no logic.
//!
//! Called by gateway/core/data_plane.py from host threads, never from a reactor. One gateway per process; calls that
//! change something are serialised by a lock, so they may come from any thread.
const std = @import("std");
const limits = @import("../limits.zig");
const sys = @import("../io/sys.zig");
const Arena = @import("../io/arena.zig");
const Reactor = @import("../reactor.zig");
const Revisions = @import("../route/revisions.zig").Revisions;
const Table = @import("../route/table.zig").Table;
const Slots = @import("../admit/slots.zig").Slots;
const Journal = @import("../meter/journal.zig");
const Ledger = @import("../admit/ledger.zig");
const purses = @import("../admit/purses.zig");
const uses = @import("../route/uses.zig");
const counters = @import("../meter/counters.zig");
const problem = @import("../http/problem.zig");

const abi_version = 4;

const Status = enum(c_int) { ok = 0, invalid = 1, no_memory = 2, system = 3, state = 4, too_large = 5 };

const ErrorText = extern struct { text: [512]u8 };

const Config = extern struct {
    abi_version: u32,
    reactors_count: u32,
    reactor_cpus: [*]const u32,
    listen_fds: [*]const c_int,
    zygote_path: [*:0]const u8,
    problem_base_url: [*:0]const u8,
    base_domain: [*:0]const u8,
    node: u64,
    connections_max: u32,
    body_bytes_max: u32,
    header_timeout_ns: u64,
    body_timeout_ns: u64,
    idle_timeout_ns: u64,
    write_timeout_ns: u64,
    queue_timeout_ns: u64,
    worker_idle_timeout_ns: u64,
    reserved_cpus: [*]const u32,
    reserved_cpus_count: u32,
    reserved_sellable_ppm: u32,
};

const Gateway = struct {
    state: enum { absent, made, running, stopped } = .absent,
    reactors: [limits.reactors_max]*Reactor = undefined,
    reactors_count: u32 = 0,
    cpus: [limits.reactors_max]u32 = undefined,
    revisions: *Revisions = undefined,
    slots: *Slots = undefined,
    /// Of Pool.Options; read by every reactor.
    serve_until_ns: std.atomic.Value(u64) = .init(0),
    node: u64 = 0,
    ledger: Ledger = .{},
    /// Where `zc_gateway_purses` goes on.
    purses_at: u32 = 0,
    event_fd: sys.Fd = sys.none,
    undrained: std.atomic.Value(u32) = .init(0),
    reserved_bytes: u64 = 0,
};

var gateway: Gateway = .{};
var lock: std.atomic.Value(bool) = .init(false);

/// Held for milliseconds at most, by rare calls: waiting by sleeping is enough.
fn lockTake() void {
    while (lock.swap(true, .acquire)) sys.sleep(50 * limits.us_ns);
}

fn lockGive() void {
    lock.store(false, .release);
}

export fn zc_abi_version() u32 {
    return abi_version;
}

export fn zc_gateway_init(config: *const Config, error_text: ?*ErrorText) c_int {
    lockTake();
    defer lockGive();
    return @backingInt(init(config, error_text));
}

export fn zc_gateway_start(error_text: ?*ErrorText) c_int {
    lockTake();
    defer lockGive();
    return @backingInt(start(error_text));
}

export fn zc_gateway_apply(document: [*]const u8, document_bytes: usize, error_text: ?*ErrorText) c_int {
    lockTake();
    defer lockGive();
    return @backingInt(apply(document[0..document_bytes], error_text));
}

export fn zc_gateway_serve(fd: c_int) c_int {
    lockTake();
    defer lockGive();
    if (gateway.state != .running) return @backingInt(Status.state);
    if (fd < 0) return @backingInt(Status.invalid);
    return @backingInt(if (gateway.reactors[0].clientGive(fd)) Status.ok else Status.state);
}

export fn zc_gateway_listen() c_int {
    lockTake();
    defer lockGive();
    if (gateway.state != .running) return @backingInt(Status.state);
    for (reactors()) |r| r.listen();
    return @backingInt(Status.ok);
}

export fn zc_gateway_drain() c_int {
    lockTake();
    defer lockGive();
    if (gateway.state != .running) return @backingInt(Status.state);
    for (reactors()) |r| r.drain();
    return @backingInt(Status.ok);
}

export fn zc_gateway_stop() c_int {
    lockTake();
    defer lockGive();
    if (gateway.state != .running) return @backingInt(Status.state);
    for (reactors()) |r| r.stop();
    gateway.state = .stopped;
    return @backingInt(Status.ok);
}

export fn zc_gateway_event_fd() c_int {
    return gateway.event_fd;
}

export fn zc_gateway_events(buffer: [*]u8, buffer_bytes: usize) usize {
    lockTake();
    defer lockGive();
    if (gateway.state == .absent) return 0;
    // Cleared first: what is pushed while we drain raises it again.
    sys.eventfdClear(gateway.event_fd);
    var at: usize = 0;
    for (reactors()) |r| at += r.events.drain(buffer[at..buffer_bytes]);
    // A full buffer may have left something behind: the host comes back.
    if (at + limits.event_bytes_max > buffer_bytes and at > 0) sys.eventfdRaise(gateway.event_fd);
    return at;
}

export fn zc_gateway_metrics(buffer: [*]u8, buffer_bytes: usize) usize {
    lockTake();
    defer lockGive();
    if (gateway.state == .absent) return 0;
    var each: [limits.reactors_max]*const counters.Counters = undefined;
    for (reactors(), 0..) |r, at| each[at] = r.counters;
    var reserved: [limits.reserved_cpus_max]counters.ReservedCpu = undefined;
    const table = gateway.revisions.current();
    return counters.snapshotWrite(buffer[0..buffer_bytes], .{
        .revision = if (table) |current| current.revision else 0,
        .reactors = each[0..gateway.reactors_count],
        .cpus = gateway.cpus[0..gateway.reactors_count],
        .reserved_bytes = gateway.reserved_bytes,
        .reserved_cpus = gateway.ledger.books(&reserved),
    }, Versions{ .table = table }, Tenants{ .table = table });
}

export fn zc_gateway_serve_until(monotonic_ns: u64) c_int {
    gateway.serve_until_ns.store(monotonic_ns, .monotonic);
    return @backingInt(Status.ok);
}

/// Keys that requests came with since the last call, as a JSON array; those that do not fit wait for the next call.
export fn zc_gateway_key_uses(buffer: [*]u8, buffer_bytes: usize) usize {
    lockTake();
    defer lockGive();
    if (gateway.state == .absent) return 0;
    // The table before is asked, too: a key may have been used until it was gone.
    return uses.write(.{ gateway.revisions.previous(), gateway.revisions.current() }, buffer[0..buffer_bytes]);
}

/// Purses in which something changed, as a JSON array; those that do not fit wait for the next call.
export fn zc_gateway_purses(buffer: [*]u8, buffer_bytes: usize) usize {
    lockTake();
    defer lockGive();
    if (gateway.state == .absent) return 0;
    return purses.write(gateway.slots, &gateway.purses_at, buffer[0..buffer_bytes]);
}

export fn zc_gateway_purse_fill(name: [*:0]const u8, amount: *const [3]i64, mode: u32, reason: u32, allowed: i64, used: i64) c_int {
    lockTake();
    defer lockGive();
    if (gateway.state == .absent) return @backingInt(Status.state);
    if (mode > 1 or reason >= std.enums.values(purses.Purse.Reason).len) return @backingInt(Status.invalid);
    const purse = gateway.slots.purseFind(std.mem.span(name)) orelse return @backingInt(Status.invalid);
    purse.allowed.store(allowed, .monotonic);
    purse.used.store(used, .monotonic);
    purse.fill(.{ .invocations = amount[0], .cpu_us = amount[1], .mib_us = amount[2] }, @fromBackingInt(mode), @fromBackingInt(@intCast(reason)));
    return @backingInt(Status.ok);
}

export fn zc_gateway_journal_wants(reactor: u32) c_int {
    if (gateway.state == .absent or reactor >= gateway.reactors_count) return 0;
    return @intFromBool(gateway.reactors[reactor].pool.journal.wants());
}

export fn zc_gateway_journal_give(reactor: u32, fd: c_int, number: u64, error_text: ?*ErrorText) c_int {
    lockTake();
    defer lockGive();
    if (gateway.state == .absent or reactor >= gateway.reactors_count) return @backingInt(Status.state);
    gateway.reactors[reactor].pool.journal.give(fd, gateway.node, number) catch |err| return @backingInt(switch (err) {
        error.NotNeeded => Status.state,
        else => say(error_text, .system, "the segment could not be mapped: {s}", .{@errorName(err)}),
    });
    return @backingInt(Status.ok);
}

export fn zc_gateway_journal_begin(reactor: u32, fd: c_int, error_text: ?*ErrorText) c_int {
    lockTake();
    defer lockGive();
    if (gateway.state != .made or reactor >= gateway.reactors_count) return @backingInt(Status.state);
    gateway.reactors[reactor].pool.journal.giveInflight(fd) catch |err|
        return @backingInt(say(error_text, .system, "the table of what is in flight could not be mapped: {s}", .{@errorName(err)}));
    return @backingInt(Status.ok);
}

export fn zc_journal_valid(slots: [*]const u8, bytes: usize) usize {
    return Journal.valid(slots[0..bytes]);
}

const Versions = struct {
    table: ?*const Table,

    pub fn len(v: Versions) usize {
        return if (v.table) |table| table.versions.len else 0;
    }

    pub fn label(v: Versions, at: usize) @import("../route/table.zig").Label {
        return v.table.?.label(at);
    }
};

const Tenants = struct {
    table: ?*const Table,

    pub fn len(t: Tenants) usize {
        return if (t.table) |table| table.tenants.len else 0;
    }

    pub fn gauge(t: Tenants, at: usize) struct { tenant: []const u8, in_flight: u32, concurrency_max: u32 } {
        const row = &t.table.?.tenants[at];
        return .{ .tenant = row.name, .in_flight = gateway.slots.inFlight(row.slot), .concurrency_max = row.concurrency_max };
    }
};

// -- What they do -------------------------------------------------------------------------------------------------

fn reactors() []*Reactor {
    return gateway.reactors[0..gateway.reactors_count];
}

fn init(config: *const Config, error_text: ?*ErrorText) Status {
    if (gateway.state != .absent) return say(error_text, .state, "zc_gateway_init: this process has a gateway already", .{});
    if (config.abi_version != abi_version) return say(error_text, .invalid, "abi_version is {d}, this library has {d}: rebuild it (make setup)", .{ config.abi_version, abi_version });
    inline for (.{
        .{ "reactors_count", config.reactors_count, 1, limits.reactors_max },
        .{ "connections_max", config.connections_max, 1, limits.connections_max },
        .{ "body_bytes_max", config.body_bytes_max, 1, limits.body_bytes_max },
    }) |bound| {
        if (bound[1] < bound[2] or bound[1] > bound[3]) return say(error_text, .invalid, "{s} is {d}; allowed are {d} to {d}", bound);
    }
    inline for (.{ "header_timeout_ns", "body_timeout_ns", "idle_timeout_ns", "write_timeout_ns", "queue_timeout_ns", "worker_idle_timeout_ns" }) |name| {
        const value = @field(config, name);
        if (value < limits.ms_ns or value > timeout_ns_max) return say(error_text, .invalid, "{s} is {d}; allowed are {d} (1 ms) to {d} (1 day)", .{ name, value, limits.ms_ns, timeout_ns_max });
    }
    if (config.reserved_cpus_count > limits.reserved_cpus_max) return say(error_text, .invalid, "reserved_cpus_count is {d}; allowed are 0 to {d}", .{ config.reserved_cpus_count, limits.reserved_cpus_max });
    if (config.reserved_sellable_ppm > 1_000_000) return say(error_text, .invalid, "reserved_sellable_ppm is {d}; allowed are 0 to 1000000", .{config.reserved_sellable_ppm});
    const path = std.mem.span(config.zygote_path);
    if (path.len == 0 or path.len > socket_path_bytes_max) return say(error_text, .invalid, "zygote_path has {d} bytes; allowed are 1 to {d}", .{ path.len, socket_path_bytes_max });
    const url = std.mem.span(config.problem_base_url);
    if (url.len > problem.base_url_bytes_max) return say(error_text, .too_large, "problem_base_url has {d} bytes; allowed are {d}", .{ url.len, problem.base_url_bytes_max });
    const domain = std.mem.span(config.base_domain);
    if (domain.len > domain_bytes_max) return say(error_text, .too_large, "base_domain has {d} bytes; allowed are {d}", .{ domain.len, domain_bytes_max });
    make(config, path, url, domain) catch |err| return switch (err) {
        error.NoMemory, error.OutOfMemory, error.SystemResources => say(error_text, .no_memory, "memory for {d} reactors with {d} connections each could not be reserved ({s})", .{ config.reactors_count, config.connections_max, @errorName(err) }),
        else => say(error_text, .system, "{s} (last call {s}, errno {d}); is io_uring allowed here, are there descriptors left?", .{ @errorName(err), sys.failed_call, sys.failed_errno }),
    };
    gateway.node = config.node;
    gateway.state = .made;
    return .ok;
}

const timeout_ns_max = 24 * 3600 * limits.s_ns;
const socket_path_bytes_max = 107;
const domain_bytes_max = 253;

fn make(config: *const Config, path: []const u8, url: []const u8, domain: []const u8) !void {
    const texts_bytes = path.len + url.len + domain.len + 4096;
    var arena: Arena = try .init(config.reactors_count * Reactor.memoryBytes(config.connections_max) + texts_bytes);
    gateway.event_fd = try sys.eventfd();
    gateway.slots = try .create();
    if (config.reserved_cpus_count > 0) gateway.ledger.open(
        config.reserved_cpus[0..config.reserved_cpus_count],
        @intCast(@as(u64, config.reserved_sellable_ppm) * Ledger.whole / 1_000_000),
    );
    gateway.revisions = try .create(std.mem.readInt(u64, &try seed(), .little));
    gateway.reserved_bytes = arena.memory.len + @sizeOf(Slots) + @sizeOf(Revisions) +
        config.reactors_count * (@sizeOf(counters.Counters) + @sizeOf(@import("../pool/events.zig").Ring));
    const own_path = try copy(&arena, path);
    const own_url = try copy(&arena, url);
    const own_domain = try copy(&arena, domain);
    for (0..config.reactors_count) |index| {
        try sys.setNoDelay(config.listen_fds[index]);
        gateway.cpus[index] = config.reactor_cpus[index];
        gateway.reactors[index] = try .create(&arena, .{
            .index = @intCast(index),
            .cpu = config.reactor_cpus[index],
            .listen_fd = config.listen_fds[index],
            .zygote_path = own_path,
            .node = config.node,
            .event_fd = gateway.event_fd,
            .listener = .{
                .connections_max = config.connections_max,
                .body_bytes_max = config.body_bytes_max,
                .header_timeout_ns = config.header_timeout_ns,
                .body_timeout_ns = config.body_timeout_ns,
                .idle_timeout_ns = config.idle_timeout_ns,
                .write_timeout_ns = config.write_timeout_ns,
                .problem_base_url = own_url,
            },
            .pool = .{
                .base_domain = own_domain,
                .problem_base_url = own_url,
                .queue_timeout_ns = config.queue_timeout_ns,
                .worker_idle_timeout_ns = config.worker_idle_timeout_ns,
                .probes = index == 0,
                .serve_until_ns = &gateway.serve_until_ns,
            },
            .slots = gateway.slots,
            .ledger = &gateway.ledger,
            .undrained = &gateway.undrained,
        });
        gateway.reactors_count = @intCast(index + 1);
    }
}

fn copy(arena: *Arena, text: []const u8) ![]const u8 {
    const own = try arena.take(u8, text.len + 1);
    @memcpy(own[0..text.len], text);
    return own[0..text.len];
}

fn seed() sys.Error![8]u8 {
    var bytes: [8]u8 = undefined;
    try sys.random(&bytes);
    return bytes;
}

fn start(error_text: ?*ErrorText) Status {
    if (gateway.state != .made) return say(error_text, .state, "zc_gateway_start: call zc_gateway_init first, and start only once", .{});
    gateway.undrained.store(gateway.reactors_count, .release);
    for (reactors()) |r| r.start() catch |err| {
        for (reactors()) |started| started.stop();
        gateway.state = .stopped;
        return switch (err) {
            error.Unpinned => say(error_text, .system, "reactor_cpus has CPU {d}, which this process may not use; allowed are those of `taskset -cp` (a container's cpuset, perhaps)", .{r.cpu}),
            else => say(error_text, .system, "the thread of the reactor for CPU {d} could not be made: {s}", .{ r.cpu, @errorName(err) }),
        };
    };
    gateway.state = .running;
    return .ok;
}

fn apply(document: []const u8, error_text: ?*ErrorText) Status {
    if (gateway.state != .made and gateway.state != .running) return say(error_text, .state, "zc_gateway_apply: call zc_gateway_init first, and nothing after zc_gateway_stop", .{});
    if (document.len > limits.revision_bytes_max) return say(error_text, .too_large, "the revision has {d} bytes; allowed are {d}", .{ document.len, limits.revision_bytes_max });
    var message: [512]u8 = @splat(0);
    const table = gateway.revisions.prepare(document, &message) catch |err| {
        if (error_text) |out| out.text = message;
        return switch (err) {
            error.Invalid => .invalid,
            error.TooLarge => .too_large,
        };
    };
    gateway.slots.assign(table.tenants, table.versions) catch
        return say(error_text, .too_large, "there is no slot left for the revision's tenants: too many deleted ones have invocations in flight", .{});
    for (reactors()) |r| if (gateway.state == .running) r.tableGive(table) else r.tableTake(table);
    for (reactors()) |r| while (!r.tableTaken(table)) sys.sleep(20 * limits.us_ns);
    gateway.revisions.commit();
    gateway.slots.commit();
    return .ok;
}

fn say(error_text: ?*ErrorText, status: Status, comptime format: []const u8, arguments: anytype) Status {
    const out = error_text orelse return status;
    const text = std.fmt.bufPrint(out.text[0 .. out.text.len - 1], format, arguments) catch out.text[0 .. out.text.len - 1];
    out.text[text.len] = 0;
    return status;
}
