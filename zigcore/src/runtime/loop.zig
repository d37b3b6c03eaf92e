//! The worker's loop: receive a frame, call the handler through CPython's C API, send the answer.
//!
//! Called by abi/worker in the forked child, once; returns when the gateway closes the channel. One invocation costs
//! one recv, one send, and the copy of its bodies; nothing here allocates.
//! What always holds: exactly one answer or failure per request, after its last log line; the GIL is held from `run` to
//! its end, also while waiting, so that threads a handler left behind stand still between invocations.
const std = @import("std");
const assert = std.debug.assert;
const limits = @import("../limits.zig");
const channel = @import("../io/channel.zig");
const Lock = @import("../io/lock.zig");
const self = @import("../io/self.zig");
const signals = @import("../io/signals.zig");
const frame = @import("../pool/frame.zig");
const Checkpoint = @import("checkpoint.zig");
const fork = @import("fork.zig");
const py = @import("python.zig");
const Leavings = @import("leavings.zig");
const Relay = @import("relay.zig");
const reply = @import("reply.zig");
const soft = @import("soft.zig");
const Tmp = @import("tmp.zig");
const Watch = @import("watch.zig");

const Loop = @This();

fd: std.c.fd_t = -1,
shared: []u8 = &.{},
options: Options = undefined,
invoke: *py.Object = undefined,
failure: *py.Object = undefined,
head_always: bool = false,
/// The checkpoint that each invocation starts from; null: memory is left as the invocation left it.
fresh: ?*Checkpoint = null,
/// The answer said that this process ends after it.
last: bool = false,
fresh_result: Error!void = {},
sequence: u64 = 0,
/// Limits of the invocation, as the gateway told them.
timeout_ns: u64 = 0,
cpu_ns: u64 = 0,
output_bytes_max: usize = 0,
log: Log = .{},
buffers: *Buffers = undefined,
/// Of an event loop that the import of a forked worker has used; -1: none.
known: [3]std.c.fd_t = @splat(-1),
/// This is a forked invocation's process: its answer is written down for the worker, which sends it.
holding: bool = false,

/// Apart from the process's own memory: what going back restores stays small, and a forked process leaves its answer here.
const Buffers = struct {
    in: [limits.frame_bytes_max]u8 align(8),
    out: [limits.frame_bytes_max]u8 align(8),
    log: [@sizeOf(frame.Answer) + log_line_bytes_max]u8 align(8),
    /// Of `out`, when a forked process has ended.
    held_bytes: usize,
    /// Of the worker's shared memory and of `in` and `out`, what the last invocation used.
    request_bytes: usize,
    answer_bytes: usize,
    in_bytes: usize,
    out_bytes: usize,
    log_bytes: usize,
};

/// Output lines come from any thread of the worker, without the GIL.
const Log = struct {
    lock: Lock = .{},
    /// False between invocations: a thread that was caught in the middle of a line says nothing any more.
    open: bool = false,
    remaining_bytes: usize = 0,
    /// What a line costs at least. Its newline; more during the start, when the gateway bounds lines, not bytes.
    line_bytes_min: usize = 1,
};

pub const Error = channel.Error || error{Malformed};

/// A longer line is sent in pieces by its writer; here it is cut.
const log_line_bytes_max = 8 * limits.kib;
/// Output while the function is imported.
const log_start_bytes_max = 64 * limits.kib;
/// A failure's text fits one frame with its head.
pub const failure_bytes_max = limits.frame_bytes_max - @sizeOf(frame.Answer);
/// The status of a worker that cannot go on (EXIT_BROKEN of gateway/zygote/child.py).
const exit_broken = 4;
pub const shared_half_bytes = limits.shared_bytes / 2;

comptime {
    assert(@sizeOf(frame.Answer) + limits.answer_header_bytes_max + limits.body_inline_bytes_max <= limits.frame_bytes_max);
    assert(shared_half_bytes >= limits.body_bytes_max); // what the gateway allows at most
}

/// The process's only one: a worker is one version for its whole life.
pub var worker: Loop = .{};

pub fn attach(loop: *Loop, fd: std.c.fd_t) self.Error!void {
    loop.buffers = @ptrCast(try self.reserveShared(@sizeOf(Buffers)));
    loop.fd = fd;
    logOpen(&loop.log, log_start_bytes_max, log_start_bytes_max / limits.starting_log_lines_max + 1);
}

pub const Options = struct {
    shared_fd: std.c.fd_t,
    invoke: *py.Object,
    failure: *py.Object,
    /// Whether the adapter wants the head of a POST, PUT or PATCH too.
    head_always: bool,
    /// Whether each invocation starts from the state of now; `Checkpoint.prepare` has said that it can.
    fresh: bool = false,
    /// Whether each invocation runs in a process of its own, forked from here.
    forked: bool = false,
    /// Whether /tmp is this worker's alone.
    tmp_own: bool = false,
    /// Of a forked worker: the list of its mappings, open until it is ready, where it cannot open it.
    maps: ?std.c.fd_t = null,
    /// Called before each invocation of a fresh worker, to seed what the import left seeded.
    refresh: ?*py.Object = null,
    ready: []const u8,
};

/// Serves until the gateway closes the channel. The GIL is held.
pub fn run(loop: *Loop, options: Options) Error!void {
    assert(loop.fd >= 0);
    loop.shared = try channel.map(options.shared_fd, limits.shared_bytes);
    loop.invoke = options.invoke;
    loop.failure = options.failure;
    loop.head_always = options.head_always;
    loop.options = options;
    if (options.fresh) return loop.runFresh();
    if (options.forked) return loop.runForked(options);
    try loop.announce(.ready, options.ready);
    while (try loop.next()) |parts| try loop.serve(parts);
}

/// Null: the gateway has closed the channel.
fn next(loop: *Loop) Error!?Parts {
    while (true) {
        const bytes = channel.receive(loop.fd, &loop.buffers.in) catch |err| switch (err) {
            error.Closed => return null,
            error.Interrupted => {
                py.signalsRun();
                continue;
            },
            error.TooLarge => return error.Malformed,
            error.System => return err,
        };
        loop.buffers.in_bytes = bytes.len;
        return try Parts.decode(loop.buffers.in[0..bytes.len]);
    }
}

// -- A process for each invocation ---------------------------------------------------------------------------------

/// Of the worker that forks; a fresh one's is among its belongings.
var tmp: Tmp = undefined;
var relay: Relay = .{};
var leavings: Leavings = .{};

fn runForked(loop: *Loop, options: Options) Error!void {
    leavings.note(.{
        .descriptors = &.{ loop.fd, options.shared_fd },
        .event_loop = &loop.known,
        .maps = options.maps,
        .mapped = &.{ @intFromPtr(loop.buffers), @intFromPtr(loop.shared.ptr) },
    });
    tmp.fd = -1;
    if (options.tmp_own) tmp.note() catch return loop.announce(.failed, "{\"type\":\"TooManyFiles\",\"message\":\"the import left too many files in /tmp\",\"traceback\":\"\"}");
    if (leavings.once) |what| loop.sayOnce(what);
    try loop.announce(.ready, options.ready);
    const b = loop.buffers;
    while (try loop.next()) |parts| {
        b.held_bytes = 0;
        loop.sharedClear(parts);
        soft.begin(parts.request.sequence);
        const pid = loop.forkInvocation() catch {
            soft.end();
            loop.sequence = parts.request.sequence;
            try reply.sendText(loop, "OSError", "no process could be made for this invocation: the function's limit of processes, of open files, or of memory, is reached");
            continue;
        };
        if (pid == 0) loop.forkedInvocation(parts);
        soft.forward(pid);
        defer soft.forward(0);
        const status = try loop.attend(pid, parts.request.sequence);
        soft.end();
        fork.sweep(pid);
        relay.clear();
        // What it has changed cannot always be put back: then this was the worker's last.
        loop.last = leavings.once != null or !leavings.putBack() or !tmp.empty();
        // It ended before it had an answer: so does the worker, and says how.
        if (b.held_bytes < @sizeOf(frame.Answer) or b.held_bytes > b.out.len) self.exit(fork.exitStatus(status));
        if (loop.last) b.out[@offsetOf(frame.Answer, "flags")] |= frame.flag_last;
        try channel.send(loop.fd, b.out[0..b.held_bytes]);
        if (loop.last) {
            // The gateway closes the channel once it has the answer, of which a part may be in shared memory.
            _ = try loop.next();
            return;
        }
        loop.buffersClear();
    }
}

/// To the owner, who waits for cold starts without knowing why.
fn sayOnce(loop: *Loop, what: []const u8) void {
    var buffer: [256]u8 = undefined;
    const line = std.fmt.bufPrint(&buffer, "the import left {s}, which one call could pass to the next: a worker serves one call", .{what}) catch unreachable;
    const runtimes = 3;
    loop.log.lock.take();
    defer loop.log.lock.release();
    loop.logSend(runtimes, line);
}

/// 0: in the invocation's process, which has a stream to us in the channel's place.
fn forkInvocation(loop: *Loop) self.Error!i32 {
    const theirs = try relay.open();
    defer self.close(theirs);
    errdefer relay.clear();
    const shared_fd = loop.options.shared_fd;
    const pid = try fork.begin(&.{ .{ .from = theirs, .to = loop.fd }, .{ .from = shared_fd, .to = shared_fd } });
    if (pid == 0) self.close(relay.fd);
    return pid;
}

/// Until the invocation's process has ended: how it did. What it says meanwhile goes on to the gateway.
fn attend(loop: *Loop, pid: i32, sequence: u64) Error!u32 {
    var hears = true;
    while (true) {
        if (hears and channel.ready(relay.fd, relay_look_ms)) {
            const heard = relay.carry(loop.fd, sequence) catch |err| switch (err) {
                error.Malformed => heard: {
                    fork.kill(pid);
                    break :heard .closed;
                },
                else => |other| return other,
            };
            // Closed by its end, most likely: the wait for that is short then.
            if (heard == .closed) hears = false;
            if (heard == .something) continue;
        }
        const ended = if (hears) fork.ended(pid) else fork.wait(pid);
        if (ended catch return error.System) |status| {
            while (hears and (relay.carry(loop.fd, sequence) catch .closed) == .something) {}
            return status;
        }
        // The gateway knows the worker only: its soft signal is for the process that runs the handler.
        if (soft.passOn()) |value| signals.queue(pid, frame.soft_signal, value);
        py.signalsRun();
    }
}

/// How often it is looked whether the process has ended without closing its stream: what it started may hold it.
const relay_look_ms = 50;

fn forkedInvocation(loop: *Loop, parts: Parts) noreturn {
    loop.holding = true;
    if (loop.options.refresh) |refresh| py.call0(refresh);
    loop.serve(parts) catch self.exit(exit_broken);
    self.exit(0);
}

/// Nothing of an invocation stays in what its successors share, once its answer is on its way.
fn buffersClear(loop: *Loop) void {
    const b = loop.buffers;
    @memset(b.in[0..@min(b.in_bytes, b.in.len)], 0);
    @memset(b.out[0..@min(b.out_bytes, b.out.len)], 0);
    @memset(b.log[0..@min(b.log_bytes, b.log.len)], 0);
    b.in_bytes = 0;
    b.out_bytes = 0;
    b.log_bytes = 0;
}

/// The same for the bodies in shared memory, once the gateway has taken the last answer's: it has if it asks again.
/// Large ones it has given back to the kernel.
fn sharedClear(loop: *Loop, parts: Parts) void {
    const b = loop.buffers;
    const request_bytes = if (parts.body == null) parts.request.body_bytes else 0;
    if (parts.request.flags & frame.flag_shared_empty != 0) {
        b.request_bytes = 0;
        b.answer_bytes = 0;
    }
    // A forked process may have written what it likes into the numbers.
    if (b.request_bytes > request_bytes and b.request_bytes < limits.shared_keep_bytes) @memset(loop.shared[request_bytes..b.request_bytes], 0);
    if (b.answer_bytes < limits.shared_keep_bytes) @memset(loop.shared[shared_half_bytes..][0..b.answer_bytes], 0);
    b.request_bytes = request_bytes;
    b.answer_bytes = 0;
}

// -- Fresh state for each invocation ------------------------------------------------------------------------------

fn runFresh(loop: *Loop) Error!void {
    const c = Checkpoint.control orelse return error.System;
    heapSlack();
    loop.fresh = c;
    c.shared_own[1] = @intFromPtr(loop.shared.ptr);
    c.channel_fd = loop.fd;
    // Open during the start; every invocation opens it for itself.
    logClose(&loop.log);
    c.heap.install();
    c.serve(freshBody, loop);
    return loop.fresh_result;
}

/// Once per invocation, each time from the checkpoint's state.
fn freshBody(argument: *anyopaque) callconv(.c) void {
    const loop: *Loop = @ptrCast(@alignCast(argument));
    loop.fresh_result = loop.freshInvocation();
}

fn freshInvocation(loop: *Loop) Error!void {
    const c = loop.fresh.?;
    if (c.generation == 0) {
        c.take() catch |cause| return loop.announce(.failed, switch (cause) {
            error.TooLarge => untaken("it holds more memory after its import than a checkpoint may have"),
            error.TooMany => untaken("it has more mappings than a checkpoint may have"),
            error.Shared => untaken("the import left writable shared memory mapped, which cannot be put back: map it in the handler"),
            else => untaken("the kernel refused a step of the checkpoint"),
        });
        try loop.announce(.ready, loop.options.ready);
    } else loop.buffersClear();
    // Nobody waits for what is done now.
    if (!c.settled and c.rested()) c.settle() catch self.exit(exit_broken);
    if (loop.options.refresh) |refresh| py.call0(refresh);
    const parts = try loop.next() orelse return;
    loop.sharedClear(parts);
    try loop.serve(parts);
    if (loop.last) {
        // The gateway closes the channel once it has the answer, of which a part may be in shared memory.
        _ = try loop.next();
        return Checkpoint.leave();
    }
    c.rewind();
}

extern fn mallopt(parameter: c_int, value: c_int) c_int;
extern fn malloc(bytes: usize) ?*anyopaque;
extern fn free(block: ?*anyopaque) void;

/// malloc keeps room at the top of its heap, inside the checkpoint, and neither trims it nor maps blocks of ordinary
/// size one by one: each of these would be a change of mappings in every invocation, slow to find and to undo.
fn heapSlack() void {
    const trim_threshold = -1;
    const top_pad = -2;
    const mmap_threshold = -3;
    _ = mallopt(trim_threshold, limits.malloc_trim_bytes);
    _ = mallopt(mmap_threshold, limits.malloc_map_bytes);
    _ = mallopt(top_pad, limits.malloc_slack_bytes);
    // Blocks until one makes the heap grow, by the padding too: what was free before is used up, what is on top stays.
    var blocks: [limits.malloc_probes_max]?*anyopaque = @splat(null);
    const before = Checkpoint.heapEnd();
    for (&blocks) |*block| {
        block.* = malloc(limits.malloc_probe_bytes);
        if (Checkpoint.heapEnd() != before) break;
    }
    for (blocks) |block| free(block);
}

/// StartFailed of gateway/contract/worker.py, with the type that makes the host fork instead.
fn untaken(comptime reason: []const u8) []const u8 {
    return "{\"type\":\"FreshStateUnavailable\",\"message\":\"" ++ reason ++ "\",\"traceback\":\"\"}";
}

/// The first word of a worker: ready, or why not.
pub fn announce(loop: *Loop, kind: frame.Kind, document: []const u8) Error!void {
    assert(kind == .ready or kind == .failed);
    if (document.len > failure_bytes_max) return error.TooLarge;
    logClose(&loop.log);
    const head: frame.Answer = .{ .kind = kind, .status = 0, .sequence = 0, .body_bytes = @intCast(document.len) };
    try reply.sendParts(loop, &head, &.{}, document);
}

/// A request, cut into its parts. What the gateway sends is ours, yet checked: a worker must end, not run on wrong bytes.
const Parts = struct {
    request: *align(8) const frame.Request,
    /// The request, path, query and header block, as they came.
    head: []const u8,
    /// Null: in shared memory.
    body: ?[]const u8,

    fn decode(bytes: []align(8) const u8) error{Malformed}!Parts {
        if (bytes.len < @sizeOf(frame.Request)) return error.Malformed;
        const request: *align(8) const frame.Request = @ptrCast(bytes.ptr);
        if (request.magic != frame.magic or request.kind != 1) return error.Malformed;
        const head_bytes = @sizeOf(frame.Request) + @as(usize, request.path_bytes) + request.query_bytes + request.headers_bytes;
        const shared = request.flags & frame.flag_body_shared != 0;
        const whole_bytes = head_bytes + if (shared) 0 else @as(usize, request.body_bytes);
        if (bytes.len != whole_bytes) return error.Malformed;
        if (shared and request.body_bytes > shared_half_bytes) return error.Malformed;
        if (request.sequence == 0 or request.output_bytes_max > limits.body_bytes_max) return error.Malformed;
        return .{ .request = request, .head = bytes[0..head_bytes], .body = if (shared) null else bytes[head_bytes..] };
    }
};

fn serve(loop: *Loop, parts: Parts) Error!void {
    loop.sequence = parts.request.sequence;
    loop.timeout_ns = parts.request.timeout_ns;
    loop.cpu_ns = parts.request.cpu_ns;
    loop.output_bytes_max = parts.request.output_bytes_max;
    logOpen(&loop.log, parts.request.log_bytes_max, 1);
    soft.begin(loop.sequence);
    if (loop.fresh) |c| c.watch.on();
    const called = loop.call(parts);
    if (loop.fresh) |c| c.watch.off();
    soft.end();
    const result = called orelse return reply.sendException(loop);
    defer py.free(result);
    try reply.sendResult(loop, result);
}

fn call(loop: *Loop, parts: Parts) ?*py.Object {
    const body = py.bytesNew(parts.body orelse loop.shared[0..parts.request.body_bytes]) orelse return null;
    defer py.free(body);
    if (!loop.head_always) switch (parts.request.method) {
        .POST, .PUT, .PATCH => return py.call2(loop.invoke, body, py.none()),
        else => {},
    };
    const head = py.bytesNew(parts.head) orelse return null;
    defer py.free(head);
    return py.call2(loop.invoke, body, head);
}

/// Sends one line of output (any thread, without the GIL); what is over the invocation's budget becomes one record that
/// says so. False: nothing more will be sent for this invocation.
pub fn logLine(loop: *Loop, stream: u16, line: []const u8) bool {
    const log = &loop.log;
    log.lock.take();
    defer log.lock.release();
    // This call is ours, not the handler's.
    const watch: ?*Watch = if (loop.fresh) |c| &c.watch else null;
    const before = if (watch) |w| w.pause() else 0;
    defer if (watch) |w| w.resumeAt(before);
    if (!log.open or loop.fd < 0) return false;
    const piece = line[0..@min(line.len, log_line_bytes_max)];
    // Each line costs one byte more than its text, its newline: empty ones are not free.
    const cost = @max(piece.len + 1, log.line_bytes_min);
    if (cost > log.remaining_bytes) {
        log.open = false;
        loop.logSend(3, "truncated");
        return false;
    }
    log.remaining_bytes -= cost;
    loop.logSend(stream, piece);
    return true;
}

fn logSend(loop: *Loop, stream: u16, line: []const u8) void {
    const head: frame.Answer = .{ .kind = .log, .status = stream, .sequence = loop.sequence, .body_bytes = @intCast(line.len) };
    const buffer = &loop.buffers.log;
    loop.buffers.log_bytes = @max(loop.buffers.log_bytes, @sizeOf(frame.Answer) + line.len);
    @memcpy(buffer[0..@sizeOf(frame.Answer)], std.mem.asBytes(&head));
    @memcpy(buffer[@sizeOf(frame.Answer)..][0..line.len], line);
    // A gateway that is gone is noticed by the answer.
    channel.send(loop.fd, buffer[0 .. @sizeOf(frame.Answer) + line.len]) catch {
        loop.log.open = false;
    };
}

fn logOpen(log: *Log, bytes_max: usize, line_bytes_min: usize) void {
    log.lock.take();
    log.open = true;
    log.remaining_bytes = bytes_max;
    log.line_bytes_min = line_bytes_min;
    log.lock.release();
}

pub fn logClose(log: *Log) void {
    log.lock.take();
    log.open = false;
    log.lock.release();
}
