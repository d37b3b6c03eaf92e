//! One reactor: a thread on one CPU with its ring, its clients and its workers. The loop.
//!
//! Called by abi/gateway.zig (init, start, and control through atomics and an eventfd). A turn of the loop: read the
//! clock, process every completion, tick, submit everything at once, then let the worker run. Why it yields rather than
//! sleeps while a worker runs a young invocation: a sleeping reactor would be woken across CPUs by each packet, in the
//! middle of the invocation (kernel-facts: 22 against 29 thousand requests a second). What always holds: no allocation,
//! no lock, no call into the host's interpreter.
const std = @import("std");
const assert = std.debug.assert;
const limits = @import("limits.zig");
const sys = @import("io/sys.zig");
const clock = @import("io/clock.zig");
const Ring = @import("io/ring.zig");
const Arena = @import("io/arena.zig");
const Connection = @import("http/connection.zig");
const intake = @import("http/intake.zig");
const Listener = @import("http/listener.zig");
const transfer = @import("http/transfer.zig");
const Table = @import("route/table.zig").Table;
const Slots = @import("admit/slots.zig").Slots;
const Ledger = @import("admit/ledger.zig");
const Counters = @import("meter/counters.zig").Counters;
const EventRing = @import("pool/events.zig").Ring;
const Pool = @import("pool/pool.zig");
const Standing = @import("pool/standing.zig");
const serve = @import("pool/serve.zig");
const answer = @import("pool/answer.zig");
const reap = @import("pool/reap.zig");

const Reactor = @This();

cpu: u32,
ring: Ring,
listener: Listener,
pool: Pool,
counters: *Counters,
events: *EventRing,
event_fd: sys.Fd,
wake_fd: sys.Fd,
wake_count: u64,
gauges_ns: u64,
/// In a row without anything new.
yields: u32,
standing: Standing,
drained: bool,
/// Reactors of this gateway that have not drained yet.
undrained: *std.atomic.Value(u32),
thread: ?std.Thread,

// Written by the host's thread, read here after a wake-up.
table_next: std.atomic.Value(?*const Table),
table_seen: std.atomic.Value(?*const Table),
/// A connected socket of the host's own, to be served as a client; none: there is none.
client_next: std.atomic.Value(sys.Fd),
listen_wanted: std.atomic.Value(bool),
drain_wanted: std.atomic.Value(bool),
pinned: std.atomic.Value(Pinned),
stop_wanted: std.atomic.Value(bool),

pub const Options = struct {
    index: u32,
    cpu: u32,
    listen_fd: sys.Fd,
    zygote_path: []const u8,
    node: u64,
    event_fd: sys.Fd,
    listener: Listener.Options,
    pool: Pool.Options,
    slots: *Slots,
    ledger: *Ledger,
    undrained: *std.atomic.Value(u32),
};

const Pinned = enum(u8) { unknown, yes, no };

const wait_ns_max = limits.s_ns;
const gauges_pause_ns = 10 * limits.ms_ns;
/// Completions of one turn: between turns the clock is read and time-outs are looked at.
const turn_completions_max = 4096;

pub fn memoryBytes(connections_max: u32) usize {
    return Listener.memoryBytes(connections_max) + Pool.memoryBytes(connections_max) + @sizeOf(Reactor) + limits.mib;
}

/// Takes all of the reactor's memory and opens its ring.
pub fn create(arena: *Arena, options: Options) !*Reactor {
    const r = &(try arena.take(Reactor, 1))[0];
    r.cpu = options.cpu;
    r.ring = try .init(limits.ring_entries);
    r.counters = try .create();
    r.events = try .create();
    r.event_fd = options.event_fd;
    r.wake_fd = try sys.eventfd();
    r.gauges_ns = 0;
    r.yields = 0;
    r.standing = .{};
    r.drained = false;
    r.undrained = options.undrained;
    r.pinned = .init(.unknown);
    r.thread = null;
    r.table_next = .init(null);
    r.table_seen = .init(null);
    r.client_next = .init(sys.none);
    r.listen_wanted = .init(false);
    r.drain_wanted = .init(false);
    r.stop_wanted = .init(false);
    // Each reactor counts in its own range: ids stay unique on the node.
    // From 1: a zero second half of an id says "nothing" in the journal.
    const counter_first = (@as(u64, options.index) << 56) + 1;
    r.listener = try .init(&r.ring, options.listen_fd, arena, options.listener, options.node, counter_first, r.counters);
    try r.pool.init(&r.ring, &r.listener, arena, options.pool, options.zygote_path, options.cpu, options.slots, options.ledger, r.counters, r.events);
    return r;
}

pub const StartError = error{
    /// The CPU does not exist or is not allowed to this process.
    Unpinned,
} || std.Thread.SpawnError;

/// Returns once the reactor runs on its CPU: on any other every hand-over to its workers would be slow, and quietly so.
pub fn start(r: *Reactor) StartError!void {
    assert(r.thread == null);
    r.thread = try std.Thread.spawn(.{}, run, .{r});
    while (true) switch (r.pinned.load(.acquire)) {
        .unknown => sys.sleep(20 * limits.us_ns),
        .yes => return,
        .no => return error.Unpinned,
    };
}

// -- Control, from the host's thread ------------------------------------------------------------------------------

/// Hands a table over; it is in use once `tableTaken` says so.
pub fn tableGive(r: *Reactor, table: *const Table) void {
    r.table_next.store(table, .release);
    sys.eventfdRaise(r.wake_fd);
}

pub fn tableTaken(r: *const Reactor, table: *const Table) bool {
    return r.table_seen.load(.acquire) == table;
}

/// Serves `fd` as a client; false: the one before has not been taken yet.
pub fn clientGive(r: *Reactor, fd: sys.Fd) bool {
    assert(fd >= 0);
    if (r.client_next.cmpxchgStrong(sys.none, fd, .release, .monotonic) != null) return false;
    sys.eventfdRaise(r.wake_fd);
    return true;
}

pub fn listen(r: *Reactor) void {
    r.listen_wanted.store(true, .release);
    sys.eventfdRaise(r.wake_fd);
}

pub fn drain(r: *Reactor) void {
    r.drain_wanted.store(true, .release);
    sys.eventfdRaise(r.wake_fd);
}

pub fn stop(r: *Reactor) void {
    r.stop_wanted.store(true, .release);
    sys.eventfdRaise(r.wake_fd);
    if (r.thread) |thread| thread.join();
    r.thread = null;
}

// -- The loop -----------------------------------------------------------------------------------------------------

fn run(r: *Reactor) void {
    sys.nameThread("tailcut-reactor");
    sys.pin(r.cpu) catch return r.pinned.store(.no, .release);
    Standing.common();
    r.pinned.store(.yes, .release);
    r.ring.enable() catch @panic("io_uring: the ring cannot be enabled");
    r.wakeListen();
    while (!r.stop_wanted.load(.monotonic)) {
        r.turn();
        r.rest();
    }
    reap.killAll(&r.pool);
    transfer.sendLate(&r.listener);
    r.ring.enter(null) catch {};
}

fn turn(r: *Reactor) void {
    const now_ns = clock.monotonic();
    r.pool.now_ns = now_ns;
    r.listener.tick(now_ns);
    for (0..turn_completions_max) |_| {
        r.completed(r.ring.next() orelse break);
    }
    r.pool.tick();
    r.standing.tick(now_ns, r.pool.crowded());
    r.listener.expire();
    if (r.events.flush(0)) sys.eventfdRaise(r.event_fd);
    if (r.listener.draining and !r.drained) r.drainedCheck();
}

/// Submits; then the worker's turn, or sleep.
fn rest(r: *Reactor) void {
    const yields = r.pool.busyYoung() and !r.pool.crowded();
    // Kept back only from one short invocation to the next: not when the last one turned out to be none.
    if (transfer.lateEnough(&r.listener) or r.yields > 0 or r.pool.queued == 0 or !yields) transfer.sendLate(&r.listener);
    if (yields and r.yields < limits.yields_idle_max) {
        if (r.ring.queued()) r.ringEnter(null);
        if (!r.ring.pending()) {
            // Between scheduling groups (an autogroup for each session, a cgroup for each worker) a yield does not hand the
            // CPU over: after a few that changed nothing, sleep until the answer wakes us.
            r.yields += 1;
            sys.yield();
        }
        if (r.ring.pending()) {
            r.yields = 0;
            if (!r.ring.ready()) r.ringEnter(null);
        }
        return;
    }
    r.yields = 0;
    transfer.sendLate(&r.listener);
    if (r.ring.ready()) return r.ringEnter(null);
    const now_ns = r.pool.now_ns;
    var until_ns = @min(r.listener.deadlines.earliest, r.pool.wakeAt(), now_ns + wait_ns_max);
    if (!r.listener.accepting and !r.listener.draining) until_ns = @min(until_ns, r.listener.accept_again_ns);
    if (now_ns >= r.gauges_ns) r.gauges(now_ns) else until_ns = @min(until_ns, r.gauges_ns);
    r.ringEnter(until_ns -| now_ns);
}

fn ringEnter(r: *Reactor, wait_ns: ?u64) void {
    r.ring.enter(wait_ns) catch |err| switch (err) {
        // Short of memory for the moment: what was not submitted is submitted in the next turn.
        error.NoMemory => sys.yield(),
        else => @panic("io_uring_enter fails: the ring is broken"),
    };
}

fn completed(r: *Reactor, completion: Ring.Completion) void {
    const tag: Ring.Tag = .of(completion.user_data);
    switch (tag.kind) {
        .ignored => {},
        .wake => r.woken(),
        .accept => r.listener.accepted(completion),
        .client_receive => {
            if (completion.res > 0) r.counters.add(.received_bytes_total, @intCast(completion.res));
            if (r.listener.received(tag, completion)) |c| r.advance(c);
        },
        .client_send => {
            if (completion.res > 0) r.counters.add(.sent_bytes_total, @intCast(completion.res));
            if (r.listener.sent(tag, completion)) |c| r.advance(c);
        },
        .client_shutdown => r.listener.shutdownDone(tag),
        .worker_receive => reap.received(&r.pool, tag, completion),
        .worker_send => reap.sendFailed(&r.pool, tag),
        .worker_end => reap.ended(&r.pool, tag),
        .worker_tripwire => reap.tripped(&r.pool, tag),
        .zygote_receive => reap.zygoteHeard(&r.pool, r.pool.zygote.heard(completion)),
        _ => unreachable,
    }
}

/// Deals with everything that a connection wants, until it wants nothing.
fn advance(r: *Reactor, c: *Connection) void {
    while (true) switch (intake.take(&r.listener, c)) {
        .none => return,
        .head => serve.head(&r.pool, c),
        .request => serve.request(&r.pool, c),
        .gone => return answer.forget(&r.pool, c),
    };
}

fn wakeListen(r: *Reactor) void {
    r.ring.read(r.wake_fd, std.mem.asBytes(&r.wake_count), .{ .kind = .wake, .index = 0, .generation = 0 });
}

fn woken(r: *Reactor) void {
    r.wakeListen();
    if (r.table_next.load(.acquire)) |table| {
        if (r.table_seen.load(.monotonic) != table) {
            r.tableTake(table);
        }
    }
    const client = r.client_next.swap(sys.none, .acquire);
    if (client != sys.none) r.listener.open(client);
    if (r.drain_wanted.load(.acquire)) {
        r.listener.drain();
    } else if (r.listen_wanted.swap(false, .acquire)) {
        r.listener.listen();
    }
}

/// Also called by abi/gateway.zig before the thread runs.
pub fn tableTake(r: *Reactor, table: *const Table) void {
    r.pool.swap(table);
    r.table_seen.store(table, .release);
}

fn drainedCheck(r: *Reactor) void {
    if (!r.listener.empty() or r.listener.accepting or r.pool.busy > 0 or r.pool.queued > 0) return;
    r.drained = true;
    if (r.undrained.fetchSub(1, .acq_rel) > 1) return;
    // The last one speaks for all.
    _ = r.events.push(.{ .kind = .drained, .time_ns = clock.realtime() }, "");
    if (r.events.flush(0)) sys.eventfdRaise(r.event_fd);
}

fn gauges(r: *Reactor, now_ns: u64) void {
    r.gauges_ns = now_ns + gauges_pause_ns;
    r.pool.gauges();
    const l = &r.listener;
    r.counters.set(.connections_open, l.connections.len - l.free_count);
    r.counters.set(.body_buffers_used, limits.body_buffers_count - l.bodies.free_count);
    r.counters.set(.receive_buffers_held, l.held_count);
}
