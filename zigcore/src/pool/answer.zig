//! What a worker sends, and every answer that an invocation can have: the function's, its failure's, ours.
//!
//! Called by reap (frames as they come), serve and dispatch (refusals). Everything from a worker is hostile: a frame that
//! breaks the wire format costs the worker its life and its invocation a 500, nobody else anything.
//! What always holds: `settle` ends an invocation exactly once, and only after its answer is on its way or its client is
//! known to be gone.
const std = @import("std");
const assert = std.debug.assert;
const limits = @import("../limits.zig");
const sys = @import("../io/sys.zig");
const clock = @import("../io/clock.zig");
const Connection = @import("../http/connection.zig");
const reply = @import("../http/reply.zig");
const Response = @import("../http/response.zig");
const problem = @import("../http/problem.zig");
const admit = @import("../admit/admit.zig");
const Ledger = @import("../admit/ledger.zig");
const Outcome = @import("../meter/counters.zig").Outcome;
const books = @import("books.zig");
const deadline = @import("deadline.zig");
const frame = @import("frame.zig");
const intake = @import("../http/intake.zig");
const Pool = @import("pool.zig");
const Invocation = @import("invocation.zig");
const Worker = @import("worker.zig");
const burn = @import("burn.zig");
const claim = @import("claim.zig");
const dispatch = @import("dispatch.zig");
const memory = @import("memory.zig");
const overrun = @import("overrun.zig");
const quota = @import("quota.zig");
const reap = @import("reap.zig");
const shared = @import("shared.zig");

/// One datagram from a worker that is starting, idle or busy.
pub fn frameReceived(p: *Pool, w: *Worker, bytes: []const u8) void {
    if (bytes.len < @sizeOf(frame.Answer)) return reap.die(p, w, .garbage, "sent a frame that is shorter than its header");
    if (bytes.len > limits.frame_bytes_max) return reap.die(p, w, .garbage, "sent a frame that is longer than allowed");
    var header: frame.Answer = undefined;
    @memcpy(std.mem.asBytes(&header), bytes[0..@sizeOf(frame.Answer)]);
    if (header.magic != frame.magic) return reap.die(p, w, .garbage, "sent a frame that does not start as one");
    const is_shared = header.flags & frame.flag_body_shared != 0;
    const inline_bytes: usize = if (is_shared) 0 else header.body_bytes;
    const rest = bytes[@sizeOf(frame.Answer)..];
    if (rest.len != @as(usize, header.headers_bytes) + inline_bytes) return reap.die(p, w, .garbage, "sent a frame whose lengths do not add up");
    const block = rest[0..header.headers_bytes];
    const body = rest[header.headers_bytes..];
    switch (header.kind) {
        .log => log(p, w, header.status, body),
        .ready => if (w.state == .starting) ready(p, w, body) else reap.die(p, w, .garbage, "said again that it is ready"),
        .failed => if (w.state == .starting) {
            reap.startFailed(p, w, 0, body);
            reap.stop(p, w);
        } else reap.die(p, w, .garbage, "said that it cannot start after it had started"),
        .interrupted => {
            if (w.state != .busy or header.sequence != w.sequence or !deadline.interrupted(p, w, body))
                return reap.die(p, w, .garbage, "said that it was interrupted when it was not");
        },
        .answer, .failure => {
            if (w.state != .busy or header.sequence != w.sequence) return reap.die(p, w, .garbage, "sent an answer to no invocation");
            if (w.answer_bytes > 0) return reap.die(p, w, .garbage, "sent a second answer");
            if (header.flags & frame.flag_last != 0) w.stop_after = true;
            if (header.kind == .failure) return failed(p, w, &header, block);
            if (mustWait(p, w, &header)) return wait(p, w, bytes);
            answered(p, w, &header, block, body);
        },
        _ => reap.die(p, w, .garbage, "sent a frame of unknown kind"),
    }
}

fn ready(p: *Pool, w: *Worker, document: []const u8) void {
    const version = &p.versions[w.version];
    version.failures = 0;
    version.start_after_ns = 0;
    if (w.claim != Ledger.none and !claim.confirm(p, w)) return;
    p.counters.start.record(p.now_ns - w.started_ns);
    w.cpu_ns = deadline.cpuOf(w) orelse 0;
    p.event(.ready, w, 0, document);
    dispatch.next(p, w);
}

/// A line of output; more than the invocation may say is the runtime's fault or malice, and dropped.
fn log(p: *Pool, w: *Worker, stream: u16, line: []const u8) void {
    if (w.state != .busy) {
        w.stray_frames += 1;
        if (w.stray_frames > limits.stray_frames_max) return reap.die(p, w, .garbage, "sent output without end and without an invocation");
        if (w.state != .starting or w.stray_frames > limits.starting_log_lines_max) return;
        p.event(.log, w, 0, line);
        return;
    }
    const invocation = &p.invocations.items[w.invocation];
    w.stray_frames += 1;
    if (invocation.log_bytes > invocation.log_bytes_max +| limits.log_notice_bytes) {
        if (w.stray_frames > limits.stray_frames_max + invocation.log_bytes_max) reap.die(p, w, .garbage, "sent output without end");
        return;
    }
    invocation.log_bytes +|= @intCast(line.len);
    _ = p.events.push(.{
        .kind = .log,
        .time_ns = clock.realtime(),
        .stream = stream,
        .version = w.version,
        .invocation_id = invocation.id,
        .pid = w.pid,
    }, line);
}

// -- The function's answer ----------------------------------------------------------------------------------------

fn answered(p: *Pool, w: *Worker, header: *const frame.Answer, block: []const u8, body: []const u8) void {
    const invocation = &p.invocations.items[w.invocation];
    invocation.memory_bytes = memory.take(w);
    if (header.status < 200 or header.status > 599) return reap.die(p, w, .garbage, "answered with a status outside 200 to 599");
    // A runtime of ours does not send such a one; whoever does is told the same.
    if (header.body_bytes > invocation.output_bytes_max) return outputTooLarge(p, w, header.body_bytes);
    deadline.cpuTake(w, invocation);
    invocation.status = header.status;
    const c = invocation.connection orelse {
        if (header.flags & frame.flag_body_shared != 0) _ = shared.answerOf(w, header.body_bytes);
        if (!blockValid(block, header.headers_count)) return reap.die(p, w, .garbage, "sent a header that is not one");
        return release(p, w, .ok);
    };
    const version = &p.versions[w.version];
    // The worker goes on with the next one at once, and will not be long.
    p.listener.gathering = version.queue.count > 0 and !w.stop_after and version.run_recent_ns < limits.answers_late_run_ns;
    defer p.listener.gathering = false;
    var response = begin(p, c, invocation, header.status);
    var it = frame.BlockIterator.init(block, header.headers_count, limits.answer_headers_max) catch
        return reap.die(p, w, .garbage, "sent more headers than allowed");
    while (it.next() catch return reap.die(p, w, .garbage, "sent a header block whose lengths do not add up")) |entry| {
        switch (Response.workerHeader(entry.name, entry.value)) {
            .send => response.headerOfWorker(entry.name, entry.value),
            .drop => {},
            .invalid => return reap.die(p, w, .garbage, "sent a header with a byte that no header may contain"),
        }
    }
    if (response.at > 2 * limits.answer_header_bytes_max) return reap.die(p, w, .garbage, "sent headers larger than allowed");
    if (header.flags & frame.flag_body_shared != 0) {
        // `output_bytes_max` is at most half of the shared memory. Copied once, then the worker may do with it what it likes.
        const source = shared.answerOf(w, header.body_bytes);
        // `mustWait` has seen that there is one.
        const number = intake.bodyBuffer(p.listener, .answer).?;
        assert(c.body_buffer == null);
        c.body_buffer = number;
        @memcpy(p.listener.bodies.bytes(number)[0..source.len], source);
        finish(p, c, &response, header.status, .{ .pooled = header.body_bytes });
    } else {
        finish(p, c, &response, header.status, .{ .bytes = body });
    }
    release(p, w, .ok);
}

fn outputTooLarge(p: *Pool, w: *Worker, bytes: u64) void {
    const invocation = &p.invocations.items[w.invocation];
    deadline.cpuTake(w, invocation);
    overrun.respond(p, w, .{ .limit = .output, .allowed = invocation.output_bytes_max, .used = bytes });
    release(p, w, .output_limit);
}

// -- Answers that wait for a buffer -------------------------------------------------------------------------------

/// A large answer needs a buffer of its own. When there is none it waits, and its worker with it: the function has run,
/// so its answer is not thrown away for want of memory. The wait ends: whoever holds a buffer for long loses it to
/// those that wait (`intake.reclaim`, which `feed` asks in every turn).
fn mustWait(p: *const Pool, w: *const Worker, header: *const frame.Answer) bool {
    const invocation = &p.invocations.items[w.invocation];
    return header.flags & frame.flag_body_shared != 0 and header.body_bytes <= invocation.output_bytes_max and
        invocation.connection != null and p.listener.bodies.room(.answer) == 0;
}

fn wait(p: *Pool, w: *Worker, bytes: []const u8) void {
    // The request's frame has been received by the worker: its place is free.
    @memcpy(w.frame[0..bytes.len], bytes);
    w.answer_bytes = @intCast(bytes.len);
    w.traceback_bytes = 0;
    p.answers[p.answers_count] = p.indexOf(w);
    p.answers_count += 1;
    // Its handler has ended: it has no limit to cross any more.
    p.deadlines.clear(p.indexOf(w));
}

/// Sends what waits, first come first served, as far as there are buffers; what nobody waits for any more is dropped.
pub fn feed(p: *Pool) void {
    if (p.listener.bodies.room(.answer) == 0) intake.reclaim(p.listener);
    var at: u32 = 0;
    while (at < p.answers_count) {
        const w = &p.workers[p.answers[at]];
        if (p.listener.bodies.room(.answer) == 0 and p.invocations.items[w.invocation].connection != null) {
            at += 1;
            continue;
        }
        const bytes = w.frame[0..w.answer_bytes];
        waitEnd(p, w);
        frameReceived(p, w, bytes);
    }
}

pub fn waitEnd(p: *Pool, w: *Worker) void {
    if (w.answer_bytes == 0) return;
    w.answer_bytes = 0;
    const waiting = p.answers[0..p.answers_count];
    const at = std.mem.findScalar(u16, waiting, p.indexOf(w)).?;
    @memmove(waiting[at .. waiting.len - 1], waiting[at + 1 ..]);
    p.answers_count -= 1;
}

fn blockValid(block: []const u8, count: u16) bool {
    var it = frame.BlockIterator.init(block, count, limits.answer_headers_max) catch return false;
    while (it.next() catch return false) |_| {}
    return true;
}

/// The invocation is answered; its worker takes the next one.
fn release(p: *Pool, w: *Worker, outcome: Outcome) void {
    const invocation = &p.invocations.items[w.invocation];
    const version = &p.versions[w.version];
    const run_ns = p.now_ns -| invocation.dispatched_ns;
    p.counters.run.record(run_ns);
    version.run_recent_ns = @max(run_ns, version.run_recent_ns - version.run_recent_ns / 16);
    version.crashes = 0;
    w.served += 1;
    // Threads of one that was told to end have been told nothing.
    if (w.soft != .none or w.cpu_ns > limits.worker_cpu_ns_max) w.stop_after = true;
    w.invocation = Invocation.none;
    settle(p, invocation, outcome);
    shared.release(w);
    burn.calm(p, w);
    dispatch.next(p, w);
}

/// The function's failure: a block of entries instead of headers.
fn failed(p: *Pool, w: *Worker, header: *const frame.Answer, block: []const u8) void {
    const invocation = &p.invocations.items[w.invocation];
    invocation.memory_bytes = memory.take(w);
    var it = frame.BlockIterator.init(block, header.headers_count, limits.failure_entries_max) catch
        return reap.die(p, w, .garbage, "sent a failure with more entries than allowed");
    var failure: Failure = .{};
    while (it.next() catch return reap.die(p, w, .garbage, "sent a failure whose lengths do not add up")) |entry| {
        if (std.mem.eql(u8, entry.name, "kind")) failure.kind = entry.value;
        if (std.mem.eql(u8, entry.name, "type")) failure.type = entry.value;
        if (std.mem.eql(u8, entry.name, "message")) failure.message = entry.value;
        if (std.mem.eql(u8, entry.name, "traceback")) failure.traceback = entry.value;
        if (std.mem.eql(u8, entry.name, "argument")) failure.arguments = true;
    }
    if (std.mem.eql(u8, failure.kind, "output-limit")) {
        const bytes = std.fmt.parseInt(u64, failure.message, 10) catch 0;
        if (bytes <= invocation.output_bytes_max) return reap.die(p, w, .garbage, "called an answer too large that is not");
        return outputTooLarge(p, w, bytes);
    }
    // Whatever it raised in the end: it was cut off. Threads that it has left do not outlive it.
    if (w.soft_seen) return deadline.kill(p, w, overrun.ofTime(p, w, invocation));
    deadline.cpuTake(w, invocation);
    if (std.mem.eql(u8, failure.kind, "invalid-arguments")) {
        // Without an argument to name (the body is not JSON, or not an object) the message says what is wrong.
        const detail = if (failure.arguments or failure.message.len == 0) "The arguments do not fit the function's signature." else failure.message;
        problemOf(p, w, .invalid_arguments, detail, &.{.{ .arguments = .{ block, header.headers_count } }});
        return release(p, w, .invalid_arguments);
    }
    if (std.mem.eql(u8, failure.kind, "memory-limit")) {
        const traceback = failure.traceback[failure.traceback.len -| limits.traceback_bytes_max..];
        @memcpy(w.frame[0..traceback.len], traceback);
        w.traceback_bytes = @intCast(traceback.len);
        overrun.respond(p, w, memory.overrunOf(invocation));
        return release(p, w, .memory_limit);
    }
    if (!std.mem.eql(u8, failure.kind, "function-error")) return reap.die(p, w, .garbage, "sent a failure of unknown kind");
    const members = [_]Member{
        .{ .failure = .{ failure.type, failure.message } },
        .{ .text_tail = .{ "traceback", failure.traceback } },
    };
    problemOf(p, w, .function_error, "The function raised an exception.", members[0..if (invocation.owner) 2 else 1]);
    release(p, w, .function_error);
}

const Failure = struct {
    kind: []const u8 = "",
    type: []const u8 = "",
    message: []const u8 = "",
    traceback: []const u8 = "",
    arguments: bool = false,
};

// -- Our own answers ----------------------------------------------------------------------------------------------

pub const Member = union(enum) {
    text: struct { []const u8, []const u8 },
    /// Of a long text the end is kept.
    text_tail: struct { []const u8, []const u8 },
    integer: struct { []const u8, i64 },
    /// `error`: type and message.
    failure: struct { []const u8, []const u8 },
    /// `errors`: every `argument` of a failure's block, which has been checked.
    arguments: struct { []const u8, u16 },
    texts: struct { []const u8, []const []const u8 },

    fn write(member: Member, body: *problem.Body) void {
        switch (member) {
            .text => |text| body.text(text[0], text[1]),
            .text_tail => |text| body.textBounded(text[0], text[1], .tail, limits.traceback_bytes_max),
            .integer => |integer| body.integer(integer[0], integer[1]),
            .failure => |failure| {
                body.objectBegin("error");
                body.textBounded("type", failure[0], .head, 512);
                body.textBounded("message", failure[1], .head, 8 * limits.kib);
                body.end();
            },
            .arguments => |block| {
                body.arrayBegin("errors");
                var it = frame.BlockIterator.init(block[0], block[1], limits.failure_entries_max) catch unreachable;
                while (it.next() catch unreachable) |entry| {
                    if (!std.mem.eql(u8, entry.name, "argument")) continue;
                    const nul = std.mem.findScalar(u8, entry.value, 0) orelse entry.value.len;
                    body.objectBegin("");
                    body.textBounded("argument", entry.value[0..nul], .head, 512);
                    body.textBounded("detail", entry.value[@min(nul + 1, entry.value.len)..], .head, 2048);
                    body.end();
                }
                body.end();
            },
            .texts => |texts| {
                body.arrayBegin(texts[0]);
                for (texts[1]) |text| body.text("", text);
                body.end();
            },
        }
    }
};

/// For a request that is no invocation (yet).
pub fn refuse(p: *Pool, c: *Connection, kind: problem.Type, detail: []const u8) void {
    refuseWith(p, c, kind, detail, &.{});
}

pub fn refuseWith(p: *Pool, c: *Connection, kind: problem.Type, detail: []const u8, members: []const Member) void {
    const id = reply.idNext(p.listener);
    var response = reply.begin(p.listener, c, kind.about().status, &id);
    problemSend(p, c, &response, &id, kind, detail, members);
}

/// Headers that only some refusals have.
pub const More = struct {
    /// Instead of the type's own.
    retry_after_s: ?u32 = null,
    /// `Link: <…>; rel="payment"`; empty: none.
    payment_url: []const u8 = "",
    rate: admit.Rate = .{},
};

pub fn refuseMore(p: *Pool, c: *Connection, kind: problem.Type, detail: []const u8, members: []const Member, more: More) void {
    const id = reply.idNext(p.listener);
    var response = reply.begin(p.listener, c, kind.about().status, &id);
    quota.rateHeaders(&response, more.rate);
    problemSendMore(p, c, &response, &id, kind, detail, members, more);
}

/// An admitted invocation that no worker has seen.
pub fn refuseQueued(p: *Pool, invocation: *Invocation, kind: problem.Type, detail: []const u8, members: []const Member, outcome: Outcome) void {
    assert(invocation.state == .queued);
    if (invocation.connection) |c| {
        var response = begin(p, c, invocation, kind.about().status);
        problemSend(p, c, &response, &invocation.id, kind, detail, members);
    }
    settle(p, invocation, outcome);
}

/// The same, because its version cannot start: the owner sees why.
pub fn refuseStart(p: *Pool, invocation: *Invocation, failure: struct { type: []const u8, message: []const u8, traceback: []const u8 }) void {
    assert(invocation.state == .queued);
    if (!invocation.owner) return refuseQueued(p, invocation, .not_ready, "A worker of this function could not start.", &.{}, .refused_not_ready);
    if (invocation.connection) |c| {
        var response = begin(p, c, invocation, 500);
        problemSend(p, c, &response, &invocation.id, .not_ready_failed, "A worker of this function could not start.", &.{
            .{ .failure = .{ failure.type, failure.message } },
            .{ .text_tail = .{ "traceback", failure.traceback } },
        });
    }
    settle(p, invocation, .refused_not_ready);
}

/// An answer of ours to the invocation that runs on a worker.
pub fn problemOf(p: *Pool, w: *Worker, kind: problem.Type, detail: []const u8, members: []const Member) void {
    problemOfMore(p, w, kind, detail, members, .{});
}

pub fn problemOfMore(p: *Pool, w: *Worker, kind: problem.Type, detail: []const u8, members: []const Member, more: More) void {
    const invocation = &p.invocations.items[w.invocation];
    invocation.status = kind.about().status;
    const c = invocation.connection orelse return;
    var response = begin(p, c, invocation, kind.about().status);
    problemSendMore(p, c, &response, &invocation.id, kind, detail, members, more);
}

fn problemSend(p: *Pool, c: *Connection, response: *Response, id: *const [16]u8, kind: problem.Type, detail: []const u8, members: []const Member) void {
    problemSendMore(p, c, response, id, kind, detail, members, .{});
}

fn problemSendMore(p: *Pool, c: *Connection, response: *Response, id: *const [16]u8, kind: problem.Type, detail: []const u8, members: []const Member, more: More) void {
    const about = kind.about();
    var body: problem.Body = .init(p.problem_scratch, kind, p.options.problem_base_url, &std.fmt.bytesToHex(id.*, .lower), detail);
    for (members) |member| member.write(&body);
    response.header("Content-Type", problem.content_type);
    const retry_after_s: u32 = more.retry_after_s orelse @as(u32, about.retry_after_s orelse 0);
    if (retry_after_s > 0) response.headerNumber("Retry-After", retry_after_s);
    if (Response.isUrl(more.payment_url)) response.link(more.payment_url, "payment");
    if (kind == .unauthorized) response.header("WWW-Authenticate", "Bearer realm=\"tailcut\"");
    if (kind == .method_not_allowed) response.header("Allow", "GET, HEAD");
    finish(p, c, response, about.status, .{ .bytes = body.finish() });
}

fn begin(p: *Pool, c: *Connection, invocation: *const Invocation, status: u16) Response {
    var response = reply.begin(p.listener, c, status, &invocation.id);
    response.header("Tailcut-Version", p.versions[invocation.version].id());
    response.header("Tailcut-Start", if (invocation.cold) "cold" else "warm");
    response.headerNumber("Tailcut-Cpu-Us", invocation.cpu_ns / limits.us_ns);
    response.headerNumber("Tailcut-Memory-Bytes", invocation.memory_bytes);
    const waited_until_ns = if (invocation.state == .running) invocation.dispatched_ns else p.now_ns;
    if (invocation.state == .running) response.header("Tailcut-Sched", if (p.workers[invocation.worker].deadline) "deadline" else "best-effort");
    response.headerNumber("Tailcut-Queue-Us", (waited_until_ns -| invocation.arrived_ns) / limits.us_ns);
    if (invocation.owner) quota.rateHeaders(&response, invocation.admission.rate);
    return response;
}

pub fn finish(p: *Pool, c: *Connection, response: *Response, status: u16, body: reply.Body) void {
    // The connection's buffer holds a frame's body and twice the headers that a worker may send: ours always fit.
    p.counters.answered(status);
    if (c.invocation) |index| {
        const invocation = &p.invocations.items[index];
        invocation.status = status;
        invocation.response_bytes = switch (body) {
            .bytes => |bytes| @intCast(bytes.len),
            .pooled => |bytes| bytes,
        };
    }
    if (!reply.finish(p.listener, c, response, status, body)) {
        c.invocation = null;
        p.listener.close(c);
    }
}

/// Ends an invocation: what was reserved for it is given back. Its answer is on its way, or nobody waits for one.
pub fn settle(p: *Pool, invocation: *Invocation, outcome: Outcome) void {
    assert(invocation.state != .free);
    if (invocation.connection) |c| assert(c.invocation == null);
    const record = books.close(p, invocation, outcome);
    admit.release(p.slots, invocation.admission, books.billed(&record));
    p.counters.outcome(invocation.version, outcome);
    p.invocations.give(invocation);
}

/// The client of an invocation is gone: one that waits is dropped, one that runs runs on unheard.
pub fn forget(p: *Pool, c: *Connection) void {
    const invocation = &p.invocations.items[c.invocation.?];
    assert(invocation.connection == c);
    c.invocation = null;
    invocation.connection = null;
    if (invocation.state == .queued) {
        dispatch.queueRemove(p, &p.versions[invocation.version], invocation);
        settle(p, invocation, .cancelled);
    }
    p.listener.forgotten(c);
}
