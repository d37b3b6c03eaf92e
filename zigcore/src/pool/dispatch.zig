//! Which worker runs an invocation, and when: at once, from its version's queue, or not at all.
//!
//! Called by serve (a new invocation), answer and reap (a worker is free, or one less), and the pool's slow tick.
//! Why a queue per version: one version's crowd never stands before another's call. Workers are used last in, first out,
//! so that the caches are warm and those not needed reach their idle time-out. More workers are started only when the
//! ones there are are stuck in long invocations: on one CPU a second worker makes short ones slower, not faster.
//! What always holds: a busy worker has exactly one invocation and that one names it.
const std = @import("std");
const assert = std.debug.assert;
const limits = @import("../limits.zig");
const sys = @import("../io/sys.zig");
const Connection = @import("../http/connection.zig");
const cookies = @import("../http/cookies.zig");
const intake = @import("../http/intake.zig");
const target = @import("../http/target.zig");
const frame = @import("frame.zig");
const Pool = @import("pool.zig");
const Invocation = @import("invocation.zig");
const Version = @import("version.zig");
const Worker = @import("worker.zig");
const answer = @import("answer.zig");
const burn = @import("burn.zig");
const claim = @import("claim.zig");
const memory = @import("memory.zig");
const deadline = @import("deadline.zig");
const reap = @import("reap.zig");
const serve = @import("serve.zig");
const shared = @import("shared.zig");

/// A new invocation: to an idle worker, or into the queue.
pub fn place(p: *Pool, invocation: *Invocation, function: target.Function) void {
    const version = &p.versions[invocation.version];
    while (version.idle > 0 and version.queue.count == 0) {
        const w = idleBest(p, version);
        if (!deadline.restEnd(p, w)) {
            reap.die(p, w, .garbage, reap.restless);
            continue;
        }
        if (p.now_ns - w.idle_since_ns >= limits.idle_unbilled_ns) memory.rest(w);
        idleRemove(p, w);
        return run(p, w, invocation, function);
    }
    if (version.workers == 0 and p.now_ns < version.start_after_ns) {
        return answer.refuseQueued(p, invocation, .not_ready, "The last start of this version failed; the next one is tried soon.", &.{}, .refused_not_ready);
    }
    if (p.queued >= limits.queue_max or version.queue.count >= limits.queue_version_max) {
        return answer.refuseQueued(p, invocation, .overloaded, "The queue for this function's workers is full.", &.{}, .refused_queue);
    }
    version.queue.push(&p.invocations, invocation);
    p.queued += 1;
    if (version.workers == 0) _ = p.start(invocation.version);
    p.want(invocation.version);
}

/// A worker can take the next invocation (or rest).
pub fn next(p: *Pool, w: *Worker) void {
    assert(w.state == .busy or w.state == .starting);
    const version = &p.versions[w.version];
    // Not before it has served one: two reactors would take it from each other for ever.
    if (w.state == .busy and claim.isWanted(p, w)) w.stop_after = true;
    if (w.state == .busy) p.busy -= 1 else version.starting -= 1;
    w.to(.idle);
    if (version.reservation.runtime_us > 0 and !w.deadline) claim.improve(p, w.version);
    if (w.ended) {
        version.idle += 1;
        idlePush(p, version, w);
        return reap.die(p, w, .ended, "");
    }
    if (!w.stop_after) if (version.queue.head(&p.invocations)) |invocation| {
        queueRemove(p, version, invocation);
        const c = invocation.connection.?;
        return run(p, w, invocation, serve.functionOf(p, c));
    };
    version.idle += 1;
    idlePush(p, version, w);
    w.idle_since_ns = p.now_ns;
    p.deadlines.set(p.indexOf(w), deadline.idleLookNext(p, w, p.now_ns + p.options.worker_idle_timeout_ns));
    if (!version.current or w.stop_after) reap.stop(p, w);
}

/// Takes a queued invocation out of its queue.
pub fn queueRemove(p: *Pool, version: *Version, invocation: *Invocation) void {
    assert(invocation.state == .queued);
    version.queue.remove(&p.invocations, invocation);
    p.queued -= 1;
}

/// The slow tick's look at a version: time-outs, more workers. True: look again.
pub fn attend(p: *Pool, index: u32) bool {
    const version = &p.versions[index];
    while (version.queue.head(&p.invocations)) |invocation| {
        if (p.now_ns - invocation.arrived_ns < p.options.queue_timeout_ns) break;
        queueRemove(p, version, invocation);
        answer.refuseQueued(p, invocation, .overloaded, "No worker became free for this invocation in time.", &.{
            .{ .integer = .{ "allowed_ms", @intCast(p.options.queue_timeout_ns / limits.ms_ns) } },
        }, .refused_queue);
    }
    if (!version.current) {
        // Its workers serve what is queued; without any nobody would.
        if (version.workers == 0) failQueue(p, version, .not_ready, "This version has left the node.");
        return version.queue.count > 0;
    }
    if (version.improving) {
        version.improving = false;
        if (p.now_ns >= version.start_after_ns and version.workers < version.workersMax() and version.starting == 0) _ = p.startReserved(index);
    }
    if (p.now_ns >= version.start_after_ns and version.workers < version.workersMax() and wantsWorker(p, version)) {
        if (!p.start(index) and p.free_count == 0) makeRoom(p, version);
    }
    return version.queue.count > 0 or version.workers < version.workers_min or version.probe;
}

fn wantsWorker(p: *Pool, version: *Version) bool {
    if (version.probe) return version.starting == 0;
    // Workers that are kept although nobody waits leave room for those that somebody waits for.
    if (version.queue.count == 0 and version.workers < version.workers_min) {
        return version.starting == 0 and p.free_count > limits.workers_spare_count;
    }
    const first = version.queue.head(&p.invocations) orelse return false;
    if (version.workers == 0) return true;
    if (version.starting >= @min(limits.version_starting_max, version.queue.count)) return false;
    if (p.now_ns - first.arrived_ns < limits.queue_scale_ns) return false;
    // An answer may have come while this thread had to wait for its CPU: look again when it has been read.
    if (p.ring.pending()) return false;
    const patient = p.now_ns - first.arrived_ns < limits.queue_scale_busy_ns;
    for (p.workers) |*w| {
        if (w.state != .busy or &p.versions[w.version] != version) continue;
        if (p.now_ns - p.invocations.items[w.invocation].dispatched_ns < limits.yield_run_max_ns) return false;
        if (patient and !sys.processSleeps(w.pid)) return false;
    }
    return true;
}

/// All slots are taken: the worker that has been idle longest ends, or, for a version that has none, one of whoever has most.
fn makeRoom(p: *Pool, wanting: *const Version) void {
    var oldest: ?*Worker = null;
    for (p.workers) |*w| switch (w.state) {
        // A slot is about to be free.
        .stopping, .dying => return,
        .idle => if (oldest == null or w.idle_since_ns < oldest.?.idle_since_ns) {
            oldest = w;
        },
        .free, .starting, .busy => {},
    };
    if (oldest) |w| return reap.stop(p, w);
    if (wanting.workers > 0) return;
    for (p.workers) |*w| {
        if (w.state == .busy and !w.stop_after and p.versions[w.version].workers > 1) {
            w.stop_after = true;
            return;
        }
    }
}

/// Everything queued for a version is refused: not executed.
pub fn failQueue(p: *Pool, version: *Version, kind: @import("../http/problem.zig").Type, detail: []const u8) void {
    while (version.queue.head(&p.invocations)) |invocation| {
        queueRemove(p, version, invocation);
        answer.refuseQueued(p, invocation, kind, detail, &.{}, .refused_not_ready);
    }
}

// -- Running ------------------------------------------------------------------------------------------------------

fn run(p: *Pool, w: *Worker, invocation: *Invocation, function: target.Function) void {
    assert(w.state == .idle and w.invocation == Invocation.none);
    if (!memory.begin(w, invocation.memory_bytes_max)) return unfit(p, w, invocation);
    const c = invocation.connection.?;
    w.to(.busy);
    w.sequence += 1;
    w.invocation = p.invocations.indexOf(invocation);
    w.stray_frames = 0;
    // It was started for this one, or for one that left the queue meanwhile.
    if (w.served == 0 and w.idle_since_ns == 0) invocation.start_ns = p.now_ns - @max(invocation.arrived_ns, w.started_ns);
    invocation.state = .running;
    invocation.worker = p.indexOf(w);
    invocation.dispatched_ns = p.now_ns;
    p.busy += 1;
    // On another CPU there is nobody to yield to.
    if (!w.deadline) p.dispatched_last_ns = p.now_ns;
    deadline.begin(p, w, invocation);
    burn.begin(p, w);
    if (invocation.open_files_max != w.open_files or invocation.processes_max != w.processes) softLimits(w, invocation);
    p.counters.queue.record(p.now_ns - invocation.arrived_ns);
    const bytes = encode(p, w, invocation, c, function);
    intake.bodyGiveBack(p.listener, c);
    p.ring.sendQuietly(w.channel, w.frame[0..bytes], p.tag(w, .worker_send));
}

/// A worker that cannot be brought below a bound that has become smaller ends, and the invocation waits for another.
fn unfit(p: *Pool, w: *Worker, invocation: *Invocation) void {
    const version = &p.versions[w.version];
    version.idle += 1;
    idlePush(p, version, w);
    reap.stop(p, w);
    version.queue.push(&p.invocations, invocation);
    p.queued += 1;
    p.want(invocation.version);
}

/// The version's limits have changed since this worker was started: its soft limits move, from outside.
fn softLimits(w: *Worker, invocation: *const Invocation) void {
    const descriptors = invocation.open_files_max == 0 or invocation.open_files_max == w.open_files or
        w.movable and sys.limitSoft(w.pid, .descriptors, invocation.open_files_max);
    const processes = invocation.processes_max == 0 or invocation.processes_max == w.processes or
        w.movable and sys.limitSoft(w.pid, .processes, invocation.processes_max);
    // Where that is refused, one that is started with the new limits takes its place.
    if (!descriptors or !processes) w.stop_after = true;
    w.open_files = invocation.open_files_max;
    w.processes = invocation.processes_max;
}

/// Writes the invocation's frame; what is too large for it goes into the worker's shared memory.
fn encode(p: *Pool, w: *Worker, invocation: *const Invocation, c: *const Connection, function: target.Function) usize {
    const head = c.head();
    const body = intake.bodyOf(p.listener, c);
    var at: usize = @sizeOf(frame.Request);
    copy(w.frame, &at, function.rest);
    copy(w.frame, &at, function.query);
    const headers_at = at;
    var headers_count: u16 = 0;
    for (c.parser.headersAll()) |*header| {
        if (header.known.isHopByHop()) continue;
        if (header.known == .authorization and invocation.authorization_hidden) continue;
        const name = header.name(head);
        // RFC 9112 section 3.2.2: an absolute target says whom the request is for, whatever Host says. It was routed by it.
        const value = if (header.known == .host) c.parser.host(head) else header.value(head);
        // Head, path and query fit a frame together (limits.zig), so this does too: an authority stands in the head as well.
        var end = frame.entryWrite(w.frame, at, name, value).?;
        if (cookies.isHeader(name)) {
            const value_at = at + frame.entry_overhead_bytes + name.len;
            const left = cookies.strip(w.frame[value_at..end]);
            if (left == 0) continue;
            frame.entryCut(w.frame, at, left);
            end = value_at + left;
        }
        const written = w.frame[at + frame.entry_overhead_bytes ..][0..name.len];
        _ = std.ascii.lowerString(written, written);
        at = end;
        headers_count += 1;
    }
    const headers_bytes = at - headers_at;
    const is_shared = body.len > limits.body_inline_bytes_max or at + body.len > w.frame.len;
    if (is_shared) shared.put(w, body) else copy(w.frame, &at, body);
    var flags: u8 = if (is_shared) frame.flag_body_shared else 0;
    if (w.bodies.emptied) flags |= frame.flag_shared_empty;
    w.bodies.emptied = false;
    const header: frame.Request = .{
        .flags = flags,
        .method = c.parser.method,
        .sequence = w.sequence,
        .invocation_id = invocation.id,
        .path_bytes = @intCast(function.rest.len),
        .query_bytes = @intCast(function.query.len),
        .headers_count = headers_count,
        .headers_bytes = @intCast(headers_bytes),
        .body_bytes = @intCast(body.len),
        .timeout_ns = invocation.timeout_ns,
        .cpu_ns = invocation.cpu_ns_max,
        .log_bytes_max = invocation.log_bytes_max,
        .output_bytes_max = invocation.output_bytes_max,
    };
    @memcpy(w.frame[0..@sizeOf(frame.Request)], std.mem.asBytes(&header));
    return at;
}

fn copy(buffer: []u8, at: *usize, bytes: []const u8) void {
    @memcpy(buffer[at.*..][0..bytes.len], bytes);
    at.* += bytes.len;
}

// -- The stack of idle workers ------------------------------------------------------------------------------------

fn idlePush(p: *Pool, version: *Version, w: *Worker) void {
    const slot = p.indexOf(w);
    w.next = version.idle_top;
    w.previous = Worker.none;
    if (version.idle_top == Worker.none) version.idle_bottom = slot else p.workers[version.idle_top].previous = slot;
    version.idle_top = slot;
}

/// The last used; where CPU is reserved, the last used of those that have it.
fn idleBest(p: *Pool, version: *const Version) *Worker {
    const top = &p.workers[version.idle_top];
    if (version.reservation.runtime_us == 0) return top;
    var w = top;
    while (!w.deadline) {
        if (w.next == Worker.none) return top;
        w = &p.workers[w.next];
    }
    return w;
}

pub fn idleRemove(p: *Pool, w: *Worker) void {
    const version = &p.versions[w.version];
    assert(w.state == .idle and version.idle > 0);
    if (w.previous == Worker.none) version.idle_top = w.next else p.workers[w.previous].next = w.next;
    if (w.next == Worker.none) version.idle_bottom = w.previous else p.workers[w.next].previous = w.previous;
    version.idle -= 1;
}
