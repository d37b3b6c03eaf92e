//! The workers of one reactor and the invocations that they serve: state, start, swap of revisions, tick.
//!
//! Called by reactor.zig. Its parts, in the order of an invocation's life: serve (who, where, may it), dispatch (which
//! worker, when), answer (what came back), reap (what died). What always holds: every admitted invocation is settled
//! exactly once (`answer.settle`), and nothing here keeps a row of a revision across a swap.
const std = @import("std");
const assert = std.debug.assert;
const limits = @import("../limits.zig");
const sys = @import("../io/sys.zig");
const clock = @import("../io/clock.zig");
const Ring = @import("../io/ring.zig");
const Arena = @import("../io/arena.zig");
const Deadlines = @import("../io/deadlines.zig");
const Listener = @import("../http/listener.zig");
const Table = @import("../route/table.zig").Table;
const VersionRow = @import("../route/table.zig").Version;
const target = @import("../http/target.zig");
const Slots = @import("../admit/slots.zig").Slots;
const Journal = @import("../meter/journal.zig");
const Ledger = @import("../admit/ledger.zig");
const table_module = @import("../route/table.zig");
const Counters = @import("../meter/counters.zig").Counters;
const event_records = @import("events.zig");
const Invocation = @import("invocation.zig");
const Version = @import("version.zig");
const Worker = @import("worker.zig");
const Zygote = @import("zygote.zig");
const answer = @import("answer.zig");
const burn = @import("burn.zig");
const claim = @import("claim.zig");
const dispatch = @import("dispatch.zig");
const reap = @import("reap.zig");

const Pool = @This();

ring: *Ring,
listener: *Listener,
options: Options,
zygote: Zygote,
table: ?*const Table,
slots: *Slots,
ledger: *Ledger,
counters: *Counters,
events: *event_records.Ring,
now_ns: u64,

invocations: Invocation.Set,
journal: Journal,
versions: []Version,
workers: []Worker,
free: []u16,
free_count: u32,
deadlines: Deadlines,
frame_buffers: Ring.Buffers,
/// Versions with a queue, without their minimum, or to be probed: looked at on every slow tick.
wanting: []u32,
wanting_count: u32,
slow_tick_ns: u64,
/// All versions ever known: walked by swaps.
known: []u32,
known_count: u32,

/// Workers whose large answer waits for a buffer, first come first served.
answers: []u16,
answers_count: u32,

/// Workers that the zygote has been asked for, and has not answered.
forking: []u16,
forking_count: u32,

queued: u32,
busy: u32,
dispatched_last_ns: u64,
/// When burn.zig looks next at what runs, and at what the demoted got.
burn_look_ns: u64,
burn_share_ns: u64,
/// At its last look somebody had been running for longer than a yield is worth.
burning: bool,
demoted_busy: u32,
demoted_starting: u32,
/// For one request at a time: its decoded path, the body of a problem.
path_scratch: []u8,
problem_scratch: []u8,
document_scratch: []u8,

pub const Options = struct {
    base_domain: []const u8,
    problem_base_url: []const u8,
    queue_timeout_ns: u64,
    worker_idle_timeout_ns: u64,
    /// The first reactor starts the workers that prove a version.
    probes: bool,
};

const frame_group = 1;
/// One byte more than a frame may have: a longer datagram shows by filling it.
const frame_buffer_bytes = limits.frame_bytes_max + 64;
const frame_buffers_count = 64;
pub const slow_tick_pause_ns = limits.ms_ns;
const worker_deadline_granularity_ns = limits.ms_ns;
pub const problem_bytes_max = 64 * limits.kib;

pub fn memoryBytes(connections_max: u32) usize {
    return (connections_max + limits.workers_max + 64) * (@sizeOf(Invocation) + 16) +
        limits.versions_max * (@sizeOf(Version) + 8) +
        limits.workers_max * (@sizeOf(Worker) + 64 + limits.frame_bytes_max) +
        frame_buffers_count * (frame_buffer_bytes + 64) + limits.mib;
}

pub fn init(pool: *Pool, ring: *Ring, listener: *Listener, arena: *Arena, options: Options, zygote_path: []const u8, cpu: u32, slots: *Slots, ledger: *Ledger, counters: *Counters, events_ring: *event_records.Ring) !void {
    const workers = try arena.take(Worker, limits.workers_max);
    const free = try arena.take(u16, limits.workers_max);
    const shared = try sys.mapReserve(@as(usize, limits.workers_max) * limits.shared_bytes);
    for (workers, 0..) |*w, index| {
        w.* = std.mem.zeroes(Worker);
        w.state = .free;
        w.channel = sys.none;
        w.pidfd = sys.none;
        w.tripwire = sys.none;
        w.claim = Ledger.none;
        w.memory = .{};
        w.shared = @alignCast(shared[index * limits.shared_bytes ..][0..limits.shared_bytes]);
        w.frame = try arena.take(u8, limits.frame_bytes_max);
        free[limits.workers_max - 1 - index] = @intCast(index);
    }
    const ring_memory = try arena.takePages(frame_buffers_count * 16);
    pool.* = .{
        .ring = ring,
        .listener = listener,
        .options = options,
        .zygote = .{ .ring = ring, .path = zygote_path, .cpu = cpu },
        .table = null,
        .slots = slots,
        .ledger = ledger,
        .counters = counters,
        .events = events_ring,
        .now_ns = 0,
        .invocations = .init(try arena.take(Invocation, listener.connections.len + limits.workers_max)),
        .journal = try .init(),
        .versions = try arena.take(Version, limits.versions_max),
        .workers = workers,
        .free = free,
        .free_count = limits.workers_max,
        .deadlines = .init(try arena.take(u64, limits.workers_max), worker_deadline_granularity_ns),
        .frame_buffers = try .init(ring, frame_group, ring_memory, try arena.take(u8, frame_buffers_count * frame_buffer_bytes), frame_buffer_bytes),
        .wanting = try arena.take(u32, limits.versions_max),
        .wanting_count = 0,
        .slow_tick_ns = 0,
        .known = try arena.take(u32, limits.versions_max),
        .known_count = 0,
        .answers = try arena.take(u16, limits.workers_max),
        .answers_count = 0,
        .forking = try arena.take(u16, limits.workers_max),
        .forking_count = 0,
        .queued = 0,
        .busy = 0,
        .dispatched_last_ns = 0,
        .burn_look_ns = 0,
        .burn_share_ns = 0,
        .burning = false,
        .demoted_busy = 0,
        .demoted_starting = 0,
        .path_scratch = try arena.take(u8, target.scratch_bytes),
        .problem_scratch = try arena.take(u8, problem_bytes_max),
        .document_scratch = try arena.take(u8, 2 * limits.frame_bytes_max),
    };
}

// -- Revisions ----------------------------------------------------------------------------------------------------

/// Takes a new table. Nothing refers to the old one when it returns.
pub fn swap(p: *Pool, table: *const Table) void {
    for (p.known[0..p.known_count]) |index| {
        p.versions[index].current = false;
        p.versions[index].spawn = "";
    }
    p.table = table;
    for (table.versions) |*row| {
        const known_before = p.versions[row.index].known;
        const reservation_before = p.versions[row.index].reservation;
        const weight_before = p.versions[row.index].cpu_weight;
        const version = p.versionOf(row);
        if (known_before and !std.meta.eql(reservation_before, version.reservation)) claim.renew(p, row.index);
        if (known_before and weight_before != version.cpu_weight) burn.weigh(p, row.index);
        // A probe proves a version once; the same row in the next revision does not start it again.
        if (row.probe and p.options.probes and !known_before) version.probe = true;
        if (version.probe or version.workers_min > 0) p.want(row.index);
    }
    var kept: u32 = 0;
    for (p.known[0..p.known_count]) |index| {
        const version = &p.versions[index];
        if (!version.current) p.retire(index);
        if (version.current or version.workers > 0 or version.queue.count > 0) {
            p.known[kept] = index;
            kept += 1;
        } else version.known = false;
    }
    p.known_count = kept;
}

/// The version's state here, brought up to its row.
pub fn versionOf(p: *Pool, row: *const VersionRow) *Version {
    const version = &p.versions[row.index];
    if (!version.known) {
        // The index may have belonged to another version whose workers are all gone.
        const wanting = version.wanting;
        version.* = .{ .known = true, .wanting = wanting, .idle_top = Worker.none, .idle_bottom = Worker.none };
        version.id_bytes = @intCast(row.id.len);
        @memcpy(version.id_buffer[0..row.id.len], row.id);
        p.counters.versionReset(row.index);
        p.known[p.known_count] = row.index;
        p.known_count += 1;
    }
    version.current = true;
    version.concurrency_max = row.concurrency_max;
    version.workers_min = row.workers_min;
    version.spawn = row.spawn;
    version.children = row.children;
    const tenant = &p.table.?.tenants[row.tenant];
    version.reservation = tenant.reservation;
    version.cpu_weight = tenant.cpu_weight;
    version.tenant_key = table_module.tenantHash(1, tenant.name) | 1;
    version.open_files_max = row.open_files_max;
    version.processes_max = row.processes_max;
    return version;
}

/// A version that the revision does not have: idle workers end now, busy ones after their answer.
fn retire(p: *Pool, index: u32) void {
    const version = &p.versions[index];
    version.probe = false;
    version.workers_min = 0;
    while (version.idle > 0) reap.stop(p, &p.workers[version.idle_bottom]);
    for (p.workers) |*w| {
        if (w.state == .starting and w.version == index) reap.stop(p, w);
    }
}

// -- Starting workers ---------------------------------------------------------------------------------------------

/// Asks the zygote for a worker of the version. False: not now (no zygote, no slot, no room for its events, no
/// bandwidth where it must have some).
pub fn start(p: *Pool, index: u32) bool {
    return p.startAt(index, false);
}

/// The same on a reserved CPU, or not at all.
pub fn startReserved(p: *Pool, index: u32) bool {
    return p.startAt(index, true);
}

fn startAt(p: *Pool, index: u32, improving: bool) bool {
    const version = &p.versions[index];
    assert(version.current and version.workers < version.workersMax());
    if (!p.zygote.connected() or p.free_count == 0 or !p.events.startAllowed()) return false;
    if (p.forksWaiting(version.tenant_key) >= limits.tenant_forks_max) return false;
    const slot = p.free[p.free_count - 1];
    const w = &p.workers[slot];
    assert(w.state == .free and w.claim == Ledger.none);
    const place = claim.placeFor(p, version, improving);
    if (place == .wait) return false;
    if (place == .reserved) w.claim = place.reserved;
    p.spawn(w, slot, version) catch {
        claim.release(p, w);
        // Descriptors or memory are short, or the zygote's queue is full: later.
        version.failures +|= 1;
        version.start_after_ns = p.now_ns + Version.backoff(version.failures);
        return false;
    };
    p.free_count -= 1;
    p.forking[p.forking_count] = slot;
    p.forking_count += 1;
    w.to(.starting);
    w.version = index;
    w.sequence = 0;
    w.invocation = Invocation.none;
    w.pid = 0;
    w.pidfd = sys.none;
    w.tripwire = sys.none;
    w.forbidden = 0;
    w.cpu_ns = 0;
    w.served = 0;
    w.stray_frames = 0;
    w.bodies = .{};
    w.answer_bytes = 0;
    w.was_starting = false;
    w.start_reported = false;
    w.exit_waited = false;
    w.stop_after = place == .shared_once;
    w.probe = version.probe;
    w.deadline = false;
    w.nice = burn.niceOf(version.cpu_weight);
    w.demoted = false;
    w.burn_cpu_ns = 0;
    w.started_ns = p.now_ns;
    w.watching = false;
    w.spawn_answered = false;
    w.ended = false;
    w.exit_known = false;
    w.cause = .none;
    w.overrun = .{};
    w.soft = .none;
    w.soft_seen = false;
    w.traceback_bytes = 0;
    w.movable = false;
    w.children = version.children;
    w.family_cpu = sys.none;
    w.open_files = version.open_files_max;
    w.processes = version.processes_max;
    w.idle_since_ns = 0;
    w.exit_cpu_ns = 0;
    w.reason = "";
    p.frameListen(w);
    version.workers += 1;
    version.starting += 1;
    version.probe = false;
    p.deadlines.set(slot, p.now_ns + limits.start_timeout_ns);
    p.counters.add(.workers_started_total, 1);
    return true;
}

/// Requests of a tenant's that the zygote has not answered.
fn forksWaiting(p: *const Pool, tenant: u64) u32 {
    var count: u32 = 0;
    for (p.forking[0..p.forking_count]) |slot| count += @intFromBool(p.versions[p.workers[slot].version].tenant_key == tenant);
    return count;
}

/// The zygote has answered the request for a worker, or will not any more.
pub fn forkAnswered(p: *Pool, w: *Worker) void {
    if (w.spawn_answered) return;
    w.spawn_answered = true;
    const waiting = p.forking[0..p.forking_count];
    const at = std.mem.findScalar(u16, waiting, p.indexOf(w)).?;
    p.forking_count -= 1;
    p.forking[at] = p.forking[p.forking_count];
    // Its tenant may have another wanted.
    p.slow_tick_ns = 0;
}

fn spawn(p: *Pool, w: *Worker, slot: u16, version: *const Version) sys.Error!void {
    const pair = try sys.channelPair(2 * limits.frame_bytes_max);
    errdefer sys.close(pair[0]);
    defer sys.close(pair[1]);
    const memory = try sys.memfdSealed(limits.shared_bytes);
    defer sys.close(memory);
    try sys.mapShared(w.shared, memory);
    errdefer sys.unmapShared(w.shared);
    const cpu = if (w.claim == Ledger.none) p.zygote.cpu else p.ledger.cpuOf(w.claim);
    try p.zygote.spawn(w.request(slot), version.spawn, cpu, w.claim != Ledger.none, pair[1], memory);
    w.channel = pair[0];
}

pub fn frameListen(p: *Pool, w: *Worker) void {
    assert(!w.receiving and w.channel != sys.none);
    w.receiving = true;
    p.ring.receive(w.channel, frame_group, .many, p.tag(w, .worker_receive));
}

// -- Time ---------------------------------------------------------------------------------------------------------

/// Once per turn of the loop, after completions.
pub fn tick(p: *Pool) void {
    if (p.zygote.tick(p.now_ns)) p.slow_tick_ns = 0;
    if (p.deadlines.due(p.now_ns)) {
        var expired = p.deadlines.expire(p.now_ns);
        while (expired.next()) |slot| reap.expired(p, &p.workers[slot]);
    }
    if (p.answers_count > 0) answer.feed(p);
    burn.tick(p);
    if (p.wanting_count > 0 and p.now_ns >= p.slow_tick_ns) {
        p.slow_tick_ns = p.now_ns + slow_tick_pause_ns;
        var at: u32 = 0;
        while (at < p.wanting_count) {
            const index = p.wanting[at];
            if (dispatch.attend(p, index)) {
                at += 1;
            } else {
                p.versions[index].wanting = false;
                p.wanting_count -= 1;
                p.wanting[at] = p.wanting[p.wanting_count];
            }
        }
    }
}

/// When `tick` must run again although nothing happens.
pub fn wakeAt(p: *const Pool) u64 {
    const slow = if (p.wanting_count > 0) p.slow_tick_ns else Deadlines.never;
    return @min(p.deadlines.earliest, slow, p.zygote.wakeAt(), burn.wakeAt(p));
}

/// Puts a version on the list that the slow tick looks at.
pub fn want(p: *Pool, index: u32) void {
    const version = &p.versions[index];
    if (version.wanting) return;
    version.wanting = true;
    p.wanting[p.wanting_count] = index;
    p.wanting_count += 1;
}

/// Whether a worker runs an invocation that is young enough to be waited for without sleeping.
pub fn busyYoung(p: *const Pool) bool {
    return p.busy > 0 and p.now_ns - p.dispatched_last_ns < limits.yield_run_max_ns;
}

/// Whether somebody has been computing for longer than that: a yield would hand the CPU to whom the kernel owes most, for a
/// whole slice, and nothing would wake us (docs/decisions/0014).
pub fn crowded(p: *const Pool) bool {
    return p.demoted_busy + p.demoted_starting > 0 or p.burning and p.busy > 0;
}

pub fn gauges(p: *Pool) void {
    var counts: [std.enums.values(Worker.State).len]u64 = @splat(0);
    var deadline: u64 = 0;
    for (p.workers) |*w| {
        counts[@backingInt(w.state)] += 1;
        deadline += @intFromBool(w.deadline and w.state != .free);
    }
    p.counters.workersSet(.starting, counts[@backingInt(Worker.State.starting)]);
    p.counters.workersSet(.idle, counts[@backingInt(Worker.State.idle)]);
    p.counters.workersSet(.busy, counts[@backingInt(Worker.State.busy)]);
    p.counters.workersSet(.stopping, counts[@backingInt(Worker.State.stopping)] + counts[@backingInt(Worker.State.dying)]);
    p.counters.set(.queue_length, p.queued);
    p.counters.set(.workers_deadline, deadline);
    p.counters.set(.events_dropped_total, p.events.dropped_total);
}

// -- Small things that the parts share ----------------------------------------------------------------------------

pub fn indexOf(p: *const Pool, w: *const Worker) u16 {
    return @intCast((@intFromPtr(w) - @intFromPtr(p.workers.ptr)) / @sizeOf(Worker));
}

pub fn tag(p: *const Pool, w: *const Worker, kind: Ring.Kind) Ring.Tag {
    return .{ .kind = kind, .index = p.indexOf(w), .generation = w.generation };
}

pub fn event(p: *Pool, kind: event_records.Kind, w: *const Worker, status: i32, payload: []const u8) void {
    _ = p.events.push(.{ .kind = kind, .time_ns = clock.realtime(), .version = w.version, .pid = w.pid, .status = status }, payload);
}
