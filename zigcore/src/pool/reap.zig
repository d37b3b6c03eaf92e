//! How workers come and go: what the ring and the zygote say about their processes, and what follows from it.
//!
//! Called by reactor.zig (completions), answer (garbage), dispatch and pool (asked to end). A dead worker costs its own
//! invocation an answer that says how it died; the zygote's word on that is waited for, but not for long.
//! What always holds: a worker that is killed answers its invocation only after its process has ended (or the wait for
//! that has), so no code of an answered invocation runs on; a slot is freed in `free` alone.
const std = @import("std");
const assert = std.debug.assert;
const limits = @import("../limits.zig");
const sys = @import("../io/sys.zig");
const notification = @import("../io/notification.zig");
const calls = @import("../io/calls.zig");
const clock = @import("../io/clock.zig");
const Deadlines = @import("../io/deadlines.zig");
const Ring = @import("../io/ring.zig");
const Ledger = @import("../admit/ledger.zig");
const frame = @import("frame.zig");
const Pool = @import("pool.zig");
const Invocation = @import("invocation.zig");
const Version = @import("version.zig");
const Worker = @import("worker.zig");
const Zygote = @import("zygote.zig");
const answer = @import("answer.zig");
const burn = @import("burn.zig");
const claim = @import("claim.zig");
const memory = @import("memory.zig");
const deadline = @import("deadline.zig");
const dispatch = @import("dispatch.zig");
const overrun = @import("overrun.zig");
const shared = @import("shared.zig");

pub const restless = "used the CPU although no invocation ran";

// -- What happens -------------------------------------------------------------------------------------------------

/// A frame from a worker, or the end of its channel.
pub fn received(p: *Pool, tag: Ring.Tag, completion: Ring.Completion) void {
    const w = &p.workers[tag.index];
    assert(w.generation == tag.generation and w.receiving);
    if (completion.flags & Ring.more == 0) w.receiving = false;
    if (p.frame_buffers.of(completion)) |buffer| {
        if (live(w) and completion.res > 0) answer.frameReceived(p, w, buffer.bytes);
        p.frame_buffers.giveBack(buffer.number);
    }
    const broken = completion.res == 0 or completion.res < 0 and
        completion.res != Ring.result_cancelled and completion.res != Ring.result_no_buffers;
    if (live(w)) {
        if (broken) return die(p, w, .ended, "");
        if (!w.receiving) p.frameListen(w);
        return;
    }
    if (!w.receiving) channelClose(p, w);
    free(p, w);
}

/// A frame could not be sent: the worker is gone, or reads nothing.
pub fn sendFailed(p: *Pool, tag: Ring.Tag) void {
    const w = &p.workers[tag.index];
    // Fire and forget: its slot may serve another by now.
    if (w.generation == tag.generation and w.state == .busy) die(p, w, .ended, "");
}

/// A worker's process has ended.
pub fn ended(p: *Pool, tag: Ring.Tag) void {
    const w = &p.workers[tag.index];
    assert(w.generation == tag.generation and w.watching);
    w.watching = false;
    w.ended = true;
    // The kernel says by itself that nobody is left behind the tripwire; older ones (before 5.8) do not.
    if (w.tripwire != sys.none) p.ring.cancel(p.tag(w, .worker_tripwire));
    switch (w.state) {
        .free => unreachable,
        // What it sent before it ended is still in the channel, and the channel's end behind it. A child that it left
        // behind may keep the channel open: then the wait ends with this deadline.
        .starting, .idle, .busy => p.deadlines.set(p.indexOf(w), p.now_ns + limits.exit_drain_ns),
        .stopping => free(p, w),
        .dying => {
            settleDead(p, w, false);
            free(p, w);
        },
    }
}

/// A worker has made a call that ends it, which waits for an answer that it will never get; or its filter has no user left.
pub fn tripped(p: *Pool, tag: Ring.Tag) void {
    const w = &p.workers[tag.index];
    assert(w.generation == tag.generation and w.tripwire != sys.none);
    if (notification.forbiddenCall(w.tripwire)) |number| {
        w.forbidden = @as(u16, number) + 1;
        // In this order: closing the descriptor answers the call (ENOSYS); what is killed already returns to nothing.
        if (w.pidfd != sys.none and !w.ended) sys.pidfdKill(w.pidfd);
    }
    p.ring.close(w.tripwire);
    w.tripwire = sys.none;
    free(p, w);
}

/// A worker's deadline has passed.
pub fn expired(p: *Pool, w: *Worker) void {
    if (live(w) and w.ended) return die(p, w, .ended, "");
    switch (w.state) {
        .free => {},
        .starting => die(p, w, .start, "The worker was not ready in time."),
        .idle => {
            // One with a reservation is looked at more often: a call at another reactor may be waiting for it.
            const rested_ns = p.now_ns - w.idle_since_ns;
            const whole_look = w.claim == Ledger.none or rested_ns < limits.idle_look_ns or deadline.idleLookWhole(p.now_ns);
            if (whole_look and !deadline.restful(w)) return die(p, w, .garbage, restless);
            const version = &p.versions[w.version];
            const end_ns = w.idle_since_ns + p.options.worker_idle_timeout_ns;
            const kept = version.current and version.workers <= version.workers_min;
            if (!kept and p.now_ns >= end_ns or claim.isWanted(p, w)) return stop(p, w);
            if (whole_look and rested_ns >= limits.idle_look_ns / 2) shared.rest(w);
            p.deadlines.set(p.indexOf(w), deadline.idleLookNext(p, w, if (kept) Deadlines.never else end_ns));
        },
        .busy => deadline.expired(p, w),
        .stopping => {
            // It was asked nicely.
            if (w.pidfd != sys.none and !w.ended) {
                sys.pidfdKill(w.pidfd);
            } else p.forkAnswered(w);
            p.deadlines.set(p.indexOf(w), p.now_ns + limits.worker_stop_timeout_ns);
            free(p, w);
        },
        .dying => {
            settleDead(p, w, true);
            p.forkAnswered(w);
            w.exit_waited = true;
            p.deadlines.set(p.indexOf(w), p.now_ns + limits.worker_stop_timeout_ns);
            free(p, w);
        },
    }
}

pub fn zygoteHeard(p: *Pool, heard: Zygote.Heard) void {
    switch (heard) {
        .nothing => {},
        .spawned => |spawned| {
            const w = byRequest(p, spawned.request) orelse {
                // Nobody waits for it any more.
                sys.pidfdKill(spawned.pidfd);
                sys.close(spawned.pidfd);
                for ([_]sys.Fd{ spawned.memory, spawned.cpu }) |fd| if (fd != sys.none) sys.close(fd);
                return;
            };
            if (w.pidfd != sys.none) {
                for ([_]sys.Fd{ spawned.pidfd, spawned.memory, spawned.cpu }) |fd| if (fd != sys.none) sys.close(fd);
                return;
            }
            p.forkAnswered(w);
            w.pid = spawned.pid;
            w.pidfd = spawned.pidfd;
            memory.attach(w, spawned.memory);
            w.family_cpu = spawned.cpu;
            w.movable = spawned.movable;
            // Ready before this word: what it used so far was its start.
            if (w.cpu_ns == 0) w.cpu_ns = deadline.cpuOf(w) orelse 0;
            if (w.nice != 0) burn.weighed(w);
            w.watching = true;
            p.ring.poll(w.pidfd, p.tag(w, .worker_end));
            if (w.state == .dying) sys.pidfdKill(w.pidfd);
        },
        .tripwire => |tripwire| {
            const w = byRequest(p, tripwire.request);
            if (w == null or w.?.tripwire != sys.none or w.?.ended) return sys.close(tripwire.fd);
            w.?.tripwire = tripwire.fd;
            p.ring.poll(tripwire.fd, p.tag(w.?, .worker_tripwire));
        },
        .refused => |refused| {
            const w = byRequest(p, refused.request) orelse return;
            if (w.spawn_answered) return;
            p.forkAnswered(w);
            if (w.state == .starting and w.claim != Ledger.none) return claim.refused(p, w);
            // Its end of the channel may have been closed, and that noticed, before this word.
            if (w.state == .dying and w.was_starting) w.cause = .start;
            if (w.state == .starting or w.state == .dying and w.was_starting and !w.start_reported) {
                var text: [256]u8 = undefined;
                const detail = std.fmt.bufPrint(&text, "The zygote could not make a worker (errno {d}). {s}", .{ refused.errno, printable(refused.text) }) catch "The zygote could not make a worker.";
                const ours = 1;
                startFailedBy(p, w, ours, detail);
            }
            if (w.state == .starting) die(p, w, .start, "") else free(p, w);
        },
        .exited => |exited| {
            const w = byRequest(p, exited.request) orelse return;
            if (w.exit_known) return;
            w.exit_known = true;
            w.exit_status = exited.status;
            w.memory.oom_kills = exited.oom_kills;
            if (w.invocation != Invocation.none) {
                const invocation = &p.invocations.items[w.invocation];
                invocation.memory_bytes = @max(invocation.memory_bytes, exited.memory_peak_bytes);
            }
            w.exit_cpu_ns = exited.cpu_ns;
            if (w.state == .dying) {
                settleDead(p, w, false);
                free(p, w);
            }
        },
        .lost => for (p.workers) |*w| {
            // Who was being made will never be heard of; who runs, runs on.
            if (w.state == .free or w.spawn_answered) continue;
            p.forkAnswered(w);
            if (w.state == .starting) die(p, w, .start, "The zygote ended while it made the worker.") else free(p, w);
        },
    }
}

// -- What we do ---------------------------------------------------------------------------------------------------

/// Ends a worker by force, or accepts that it has ended.
pub fn die(p: *Pool, w: *Worker, cause: Worker.Cause, reason: []const u8) void {
    assert(live(w));
    if (w.invocation != Invocation.none) {
        const invocation = &p.invocations.items[w.invocation];
        // While it lives, or has just died: its control group goes with it.
        invocation.memory_bytes = memory.take(w);
        deadline.cpuRead(w, invocation);
    }
    leave(p, w);
    w.cause = cause;
    w.reason = reason;
    w.to(.dying);
    if (w.pidfd != sys.none and !w.ended) sys.pidfdKill(w.pidfd);
    p.deadlines.set(p.indexOf(w), p.now_ns + limits.exit_status_timeout_ns);
    channelClose(p, w);
    settleDead(p, w, false);
    free(p, w);
}

/// Asks a worker to end: its channel closes, so its loop returns.
pub fn stop(p: *Pool, w: *Worker) void {
    assert(w.state == .idle or w.state == .starting);
    leave(p, w);
    w.to(.stopping);
    p.deadlines.set(p.indexOf(w), p.now_ns + limits.worker_stop_timeout_ns);
    channelClose(p, w);
    free(p, w);
}

fn live(w: *const Worker) bool {
    return w.state == .starting or w.state == .idle or w.state == .busy;
}

/// Out of its version's books.
fn leave(p: *Pool, w: *Worker) void {
    const version = &p.versions[w.version];
    burn.gone(p, w);
    switch (w.state) {
        .starting => {
            version.starting -= 1;
            w.was_starting = true;
        },
        .idle => {
            dispatch.idleRemove(p, w);
            w.was_starting = false;
        },
        .busy => {
            answer.waitEnd(p, w);
            p.busy -= 1;
            w.was_starting = false;
        },
        .free, .stopping, .dying => unreachable,
    }
    version.workers -= 1;
    if (version.queue.count > 0 or version.workers < version.workers_min) p.want(w.version);
}

/// Answers the invocation of a dying worker, or reports its failed start, as soon as enough is known about how it died.
fn settleDead(p: *Pool, w: *Worker, waited: bool) void {
    assert(w.state == .dying);
    const gone = w.ended or w.pidfd == sys.none and w.spawn_answered;
    const known = w.exit_known or w.forbidden > 0 or w.cause != .ended;
    if (!waited and !(gone and known)) return;
    if (w.was_starting) {
        if (w.start_reported) return;
        var text: [128]u8 = undefined;
        const detail = if (w.cause == .ended and memory.exhausted(w))
            "The function used all the memory that it may use while it was imported, and was killed (memory_bytes)."
        else if (w.cause == .ended) exitText(w, &text, "The worker ended before it was ready") else w.reason;
        return startFailedBy(p, w, if (w.cause == .ended) 0 else 1, detail);
    }
    if (w.invocation == Invocation.none) return;
    const invocation = &p.invocations.items[w.invocation];
    deadline.cpuRead(w, invocation);
    if (w.exit_known) deadline.cpuOfExit(w, invocation);
    const version = &p.versions[w.version];
    // A process that does not handle the soft signal dies of it.
    if (w.cause == .ended and w.soft != .none and Worker.Exit.of(w).is(frame.soft_signal)) w.cause = .overrun;
    const exhausted = w.cause == .ended and memory.exhausted(w);
    if (exhausted) w.cause = .overrun;
    switch (w.cause) {
        .none, .start => unreachable,
        .overrun => {
            // What a kill found stays, but for the CPU clock, which is exact only now.
            const found = w.overrun.allowed > 0 and w.overrun.limit != .cpu;
            if (exhausted) w.overrun = memory.overrunOf(invocation) else if (w.soft != .none and !found) w.overrun = overrun.ofTime(p, w, invocation);
            overrun.respond(p, w, w.overrun);
        },
        .garbage => {
            var text: [256]u8 = undefined;
            const detail = std.fmt.bufPrint(&text, "The function's process {s}; it was killed.", .{w.reason}) catch w.reason;
            answer.problemOf(p, w, .function_crashed, detail, &.{.{ .text = .{ "reason", "garbage" } }});
        },
        .ended => {
            var text: [128]u8 = undefined;
            const detail = exitText(w, &text, "The function's process ended in the middle of the invocation");
            switch (Worker.Exit.of(w)) {
                .unknown => answer.problemOf(p, w, .function_crashed, detail, &.{}),
                .status => |status| answer.problemOf(p, w, .function_crashed, detail, &.{.{ .integer = .{ "exit_status", status } }}),
                .signal => |signal| answer.problemOf(p, w, .function_crashed, detail, &.{
                    .{ .integer = .{ "signal", signal } },
                    .{ .text = .{ "signal_name", Worker.signalName(signal) } },
                }),
                .forbidden => |number| answer.problemOf(p, w, .function_crashed, detail, &.{
                    .{ .text = .{ "reason", "forbidden-call" } },
                    .{ .text = .{ "call", calls.name(number) } },
                    .{ .integer = .{ "signal", 31 } },
                    .{ .text = .{ "signal_name", "SIGSYS" } },
                }),
            }
        },
    }
    w.invocation = Invocation.none;
    p.counters.run.record(p.now_ns -| invocation.dispatched_ns);
    answer.settle(p, invocation, if (w.cause == .overrun) overrun.outcome(w.overrun.limit) else .crashed);
    if (w.cause != .overrun) {
        // One that dies again and again starts more slowly.
        version.crashes +|= 1;
        if (version.crashes > limits.crashes_free_max) {
            version.start_after_ns = p.now_ns + Version.backoff(version.crashes - limits.crashes_free_max);
        }
    }
}

/// For the host: a wait status, and above it the number of the forbidden call plus one (gateway/core/data_plane.py).
fn exitStatus(w: *const Worker) i32 {
    if (w.forbidden > 0) return @bitCast(@as(u32, w.forbidden) << 16 | 31);
    return if (w.exit_known) w.exit_status else -1;
}

fn exitText(w: *const Worker, buffer: []u8, comptime what: []const u8) []const u8 {
    return switch (Worker.Exit.of(w)) {
        .unknown => what ++ ".",
        .status => |status| std.fmt.bufPrint(buffer, what ++ " with exit status {d}.", .{status}) catch what,
        .signal => |signal| std.fmt.bufPrint(buffer, what ++ " by {s} ({d}).", .{ Worker.signalName(signal), signal }) catch what,
        .forbidden => |number| std.fmt.bufPrint(buffer, what ++ " for a forbidden system call: {s} ({d}).", .{ calls.name(number), number }) catch what,
    };
}

/// A failed start that is not the function's own word.
fn startFailedBy(p: *Pool, w: *Worker, status: i32, detail: []const u8) void {
    var text: [1024]u8 = undefined;
    const document = std.fmt.bufPrint(&text, "{{\"type\":\"StartFailed\",\"message\":\"{s}\",\"traceback\":\"\"}}", .{detail}) catch unreachable;
    startFailed(p, w, status, document);
}

/// A worker could not start: `document` is its own word (status 0) or ours. Who waits for the version is told, unless
/// others of it run.
pub fn startFailed(p: *Pool, w: *Worker, status: i32, document: []const u8) void {
    const version = &p.versions[w.version];
    w.start_reported = true;
    p.counters.add(.worker_starts_failed_total, 1);
    p.event(.start_failed, w, status, document);
    version.failures +|= 1;
    version.start_after_ns = p.now_ns + Version.backoff(version.failures);
    const still = version.workers - @intFromBool(w.state == .starting);
    if (still > 0) return;
    const Document = struct { type: []const u8 = "", message: []const u8 = "", traceback: []const u8 = "" };
    var fixed: std.heap.FixedBufferAllocator = .init(p.document_scratch);
    const failure = std.json.parseFromSliceLeaky(Document, fixed.allocator(), document, .{ .ignore_unknown_fields = true, .duplicate_field_behavior = .use_last }) catch
        Document{ .message = "It did not say why." };
    while (version.queue.head(&p.invocations)) |invocation| {
        dispatch.queueRemove(p, version, invocation);
        answer.refuseStart(p, invocation, .{ .type = failure.type, .message = failure.message, .traceback = failure.traceback });
    }
}

/// Cancels the receive first: the ring holds the channel open as long as that runs.
fn channelClose(p: *Pool, w: *Worker) void {
    if (w.channel == sys.none) return;
    if (w.receiving) return p.ring.cancel(p.tag(w, .worker_receive));
    p.ring.close(w.channel);
    w.channel = sys.none;
}

/// Gives the slot back once nothing refers to it.
fn free(p: *Pool, w: *Worker) void {
    if (w.state != .stopping and w.state != .dying) return;
    if (w.channel != sys.none or w.receiving or w.watching or w.tripwire != sys.none or w.invocation != Invocation.none) return;
    if (!w.spawn_answered) return;
    if (w.state == .dying and w.was_starting and !w.start_reported) return;
    const by_itself = w.cause == .ended or w.cause == .garbage;
    if (w.state == .dying and by_itself and !w.exit_known and !w.exit_waited) return;
    if (w.state == .dying and by_itself) {
        p.counters.add(.workers_crashed_total, 1);
        if (Worker.Exit.of(w) == .forbidden) p.counters.add(.forbidden_calls_total, 1);
        p.event(.exited, w, exitStatus(w), "");
    }
    if (w.pidfd != sys.none) p.ring.close(w.pidfd);
    w.pidfd = sys.none;
    p.deadlines.clear(p.indexOf(w));
    memory.detach(w);
    if (w.family_cpu != sys.none) sys.close(w.family_cpu);
    w.family_cpu = sys.none;
    sys.unmapShared(w.shared);
    claim.release(p, w);
    w.to(.free);
    w.generation +%= 1;
    p.free[p.free_count] = p.indexOf(w);
    p.free_count += 1;
}

fn byRequest(p: *Pool, request: u64) ?*Worker {
    const slot: u16 = @truncate(request);
    if (slot >= p.workers.len) return null;
    const w = &p.workers[slot];
    return if (w.state != .free and w.request(slot) == request) w else null;
}

/// Text for a JSON string of ours, cut at the first byte that would need escaping.
fn printable(text: []const u8) []const u8 {
    for (text, 0..) |byte, at| if (byte < ' ' or byte > '~' or byte == '"' or byte == '\\') return text[0..at];
    return text[0..@min(text.len, 128)];
}

/// The process ends: every worker is killed, nobody is waited for.
pub fn killAll(p: *Pool) void {
    for (p.workers) |*w| if (w.state != .free and w.pidfd != sys.none and !w.ended) sys.pidfdKill(w.pidfd);
}
