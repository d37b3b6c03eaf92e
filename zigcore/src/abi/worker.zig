//! Exported functions of a worker, its jail and its loop: check, call, map error to status; no logic.
//!
//! Called by gateway/core/jail.py and gateway/core/worker_loop.py in a forked worker. The declarations are in include/zigcore.h.
const std = @import("std");
const channel = @import("../io/channel.zig");
const confine = @import("../io/confine.zig");
const self = @import("../io/self.zig");
const signals = @import("../io/signals.zig");
const jail = @import("../jail/apply.zig");
const dispatch = @import("../jail/dispatch.zig");
const fds = @import("../jail/fds.zig");
const mounts = @import("../jail/mounts.zig");
const JailConfig = @import("../jail/config.zig").Config;
const Checkpoint = @import("../runtime/checkpoint.zig");
const base = @import("../runtime/base.zig");
const holes = @import("../runtime/holes.zig");
const immortal = @import("../runtime/immortal.zig");
const Loop = @import("../runtime/loop.zig");
const py = @import("../runtime/python.zig");
const reply = @import("../runtime/reply.zig");
const soft = @import("../runtime/soft.zig");
const template = @import("../runtime/template.zig");

const ErrorText = extern struct { text: [512]u8 };
const Status = enum(c_int) { ok = 0, invalid = 1, no_memory = 2, system = 3, state = 4, too_large = 5 };
const head_always: u32 = 1; // ZC_WORKER_HEAD_ALWAYS
const fresh: u32 = 2; // ZC_WORKER_FRESH
const forked: u32 = 4; // ZC_WORKER_FORKED

export fn zc_jail_begin(config: *const JailConfig, err: ?*ErrorText) c_int {
    jail.begin(config) catch return jailFailed(err);
    return @backingInt(Status.ok);
}

export fn zc_jail_enter(config: *const JailConfig, zygote_fd: c_int, err: ?*ErrorText) c_int {
    var watch: ?dispatch.Dispatch = null;
    if (config.state == .fresh) {
        const place = Checkpoint.reserve() catch return say(err, .no_memory, "memory for the checkpoint", .{});
        watch = .{ .selector = place.selector, .exempt_start = place.exempt.start, .exempt_bytes = place.exempt.bytes };
    }
    jail.enter(config, zygote_fd, watch) catch return jailFailed(err);
    return @backingInt(Status.ok);
}

fn jailFailed(err: ?*ErrorText) c_int {
    return say(err, .system, "{s}: {s}: errno {d}", .{ jail.step, confine.failed_call, confine.failed_errno });
}

export fn zc_signals_default() void {
    signals.ignoredForget();
}

export fn zc_worker_soft_install(err: ?*ErrorText) c_int {
    soft.install() catch return say(err, .system, "rt_sigaction is refused", .{});
    return @backingInt(Status.ok);
}

export fn zc_worker_soft_take(allowed_ns: *u64) c_int {
    const which = soft.take();
    // At once, for what comes next may take its time: reading source files for a traceback.
    if (which != .none) _ = reply.sayInterrupted(&Loop.worker, "");
    allowed_ns.* = switch (which) {
        .none => 0,
        .wall_clock => Loop.worker.timeout_ns,
        .cpu => Loop.worker.cpu_ns,
    };
    return @backingInt(which);
}

export fn zc_worker_soft_say(traceback: [*]const u8, traceback_bytes: usize) c_int {
    return @backingInt(if (reply.sayInterrupted(&Loop.worker, traceback[0..traceback_bytes])) Status.ok else Status.state);
}

export fn zc_worker_attach(channel_fd: c_int) c_int {
    if (channel_fd < 0) return @backingInt(Status.invalid);
    Loop.worker.attach(channel_fd) catch return @backingInt(Status.no_memory);
    return @backingInt(Status.ok);
}

export fn zc_worker_prepare(known: [*]const c_int, known_count: usize, random: usize, err: ?*ErrorText) c_int {
    if (Checkpoint.control != null) return say(err, .state, "prepared already", .{});
    var buffer: [256]u8 = undefined;
    const Files = fds.Rewinder;
    const reason = Checkpoint.prepare(.{
        .known = known[0..known_count],
        .random = random,
        .dispatching = dispatch.active,
        .tmp_own = mounts.tmp_is_private,
        .shared_own = @intFromPtr(Loop.worker.buffers),
        .files = if (fds.rewinder_missing) |why| .{ .missing = why } else .{ .opened = .{
            .pagemap = Files.pagemap,
            .maps = Files.maps,
            .stat = Files.stat,
            .timers = Files.timers,
            .memory = Files.memory,
        } },
    }, &buffer) orelse return @backingInt(Status.ok);
    return say(err, .system, "{s}", .{reason});
}

export fn zc_worker_known(known: [*]const c_int, known_count: usize) c_int {
    if (known_count > Loop.worker.known.len) return @backingInt(Status.invalid);
    @memcpy(Loop.worker.known[0..known_count], known[0..known_count]);
    return @backingInt(Status.ok);
}

export fn zc_worker_figures(figures: *Checkpoint.Figures) void {
    figures.* = if (Checkpoint.control) |c| c.figures() else .{};
}

export fn zc_worker_immortalise() u64 {
    const gil = py.Gil.take();
    defer gil.release();
    return immortal.all();
}

export fn zc_zygote_fill() u64 {
    const gil = py.Gil.take();
    defer gil.release();
    return holes.fill();
}

export fn zc_zygote_share(err: ?*ErrorText) c_int {
    _ = base.share() catch |cause| return say(err, .system, "the zygote's memory cannot be shared: {t}", .{cause});
    return @backingInt(Status.ok);
}

export fn zc_zygote_template(jailed: c_int, order: *template.Order, pid: *c_int, err: ?*ErrorText) c_int {
    const gil = py.Gil.take();
    defer gil.release();
    const made = template.start(order, jailed != 0) catch |cause| return say(err, .system, "the zygote's template: {t}", .{cause});
    pid.* = made orelse 0;
    return @backingInt(Status.ok);
}

export fn zc_worker_run(
    shared_fd: c_int,
    invoke: ?*py.Object,
    failure: ?*py.Object,
    refresh: ?*py.Object,
    flags: u32,
    ready: [*]const u8,
    ready_bytes: usize,
    err: ?*ErrorText,
) c_int {
    if (Loop.worker.fd < 0) return say(err, .state, "zc_worker_attach comes first", .{});
    const options: Loop.Options = .{
        .shared_fd = shared_fd,
        .invoke = invoke orelse return say(err, .invalid, "invoke is NULL", .{}),
        .failure = failure orelse return say(err, .invalid, "failure is NULL", .{}),
        .head_always = flags & head_always != 0,
        .fresh = flags & fresh != 0,
        .forked = flags & forked != 0,
        .tmp_own = mounts.tmp_is_private,
        .maps = if (fds.forked_maps_open) fds.forked_maps else null,
        .refresh = refresh,
        .ready = ready[0..ready_bytes],
    };
    if (options.fresh and Checkpoint.control == null) return say(err, .state, "zc_worker_prepare comes first", .{});
    const gil = py.Gil.take();
    defer gil.release();
    Loop.worker.run(options) catch |cause| return fail(err, cause);
    return @backingInt(Status.ok);
}

export fn zc_worker_log(stream: c_int, line: [*]const u8, line_bytes: usize) c_int {
    if (stream != 1 and stream != 2) return @backingInt(Status.invalid);
    const sent = Loop.worker.logLine(@intCast(stream), line[0..line_bytes]);
    return @backingInt(if (sent) Status.ok else Status.too_large);
}

export fn zc_worker_failed(document: [*]const u8, document_bytes: usize) c_int {
    if (Loop.worker.fd < 0) return @backingInt(Status.state);
    Loop.worker.announce(.failed, document[0..document_bytes]) catch |cause| return fail(null, cause);
    return @backingInt(Status.ok);
}

fn fail(err: ?*ErrorText, cause: Loop.Error) c_int {
    return switch (cause) {
        // A gateway that goes away in the middle of an answer is an ordinary end.
        error.Closed => @backingInt(Status.ok),
        error.Malformed => say(err, .invalid, "what came on the channel is not a request frame", .{}),
        error.TooLarge => say(err, .too_large, "a frame is longer than limits.frame_bytes_max", .{}),
        error.System, error.Interrupted => say(err, .system, "channel or shared memory: errno {d}", .{channel.failed_errno}),
    };
}

fn say(err: ?*ErrorText, status: Status, comptime format: []const u8, values: anytype) c_int {
    if (err) |out| {
        const text = std.fmt.bufPrint(out.text[0 .. out.text.len - 1], format, values) catch out.text[0..0];
        out.text[text.len] = 0;
    }
    return @backingInt(status);
}
