//! The process that workers are forked from: the zygote as it was when its heap had been made quiet, and never ran again.
//!
//! Called by abi/worker in the zygote, once, in the place of runtime/base's `share`. The zygote itself runs Python between
//! two forks: the 200 to 400 pages that it writes meanwhile would be in every worker (as its own: copied into its
//! checkpoint, given back at its end), and the zygote would copy them anew after each fork. The template does nothing but
//! wait in here, and forks children for the zygote: they are its siblings, so the zygote waits for them as for its own.
//! What always holds: the template runs no Python; it ends with the zygote; of an order nothing stays in its memory once
//! the child has it.
const std = @import("std");
const limits = @import("../limits.zig");
const self = @import("../io/self.zig");
const sibling = @import("../io/sibling.zig");
const signals = @import("../io/signals.zig");
const base = @import("base.zig");
const py = @import("python.zig");

/// Where the caller has put the template's end of their socket, and the PID namespace to come back to after each fork.
pub const orders_fd: self.Fd = 64;
pub const processes_fd: self.Fd = 65;

/// What the child finds: the order, in `bytes`, and the descriptors that came with it.
pub const Order = extern struct {
    bytes: [*]u8,
    bytes_count: u32,
    descriptors_count: u32,
    descriptors: [sibling.descriptors_max]self.Fd,
};

pub const Error = base.Error || error{Unsupported};

/// For people who look at processes: it is none of the workers.
const name: self.Name = "template".* ++ @as([8]u8, @splat(0));

const sighup = 1;
const sigint = 2;
const sigterm = 15;
const stop_signals: u64 = 1 << (sighup - 1) | 1 << (sigint - 1) | 1 << (sigterm - 1);

var buffer: [limits.order_bytes_max]u8 = undefined;

/// Returns in the zygote with the template's pid, and in each worker with null and its order. The GIL is held.
/// `jailed`: each child is the first process of a PID namespace.
pub fn start(order: *Order, jailed: bool) Error!?i32 {
    const zygote = self.processId();
    if (sibling.Thread.own() == null) return error.Unsupported;
    // Done once: from here on until a child has told it of its birth, CPython holds its locks as around any fork.
    py.forkPrepare();
    errdefer py.forkDoneParent();
    _ = try base.share();
    const pid = try self.forkProcess();
    if (pid != 0) {
        py.forkDoneParent();
        return pid;
    }
    serve(order, zygote, jailed);
    py.forkDoneChild();
    return null;
}

/// Returns in children only.
fn serve(order: *Order, zygote: i32, jailed: bool) void {
    self.dieWithParent();
    // It may have ended before that was said.
    if (self.parentId() != zygote) self.exit(0);
    self.closeRange(3, orders_fd - 1);
    self.closeRange((if (jailed) processes_fd else orders_fd) + 1, std.math.maxInt(u32));
    const thread = sibling.Thread.own() orelse self.exit(1);
    var workers_name: self.Name = @splat(0);
    self.nameGet(&workers_name);
    self.nameSet(&name);
    base.populate() catch {};
    // It ends with the zygote: a signal to all of their group (Ctrl-C) would end it first, and the zygote for want of it.
    const mask = signals.maskSet(stop_signals);
    while (true) {
        const received = sibling.receive(orders_fd, &buffer) catch {
            // As much of it as fits has arrived.
            @memset(&buffer, 0);
            if (!sibling.say(orders_fd, -1)) self.exit(1);
            continue;
        };
        const message = received orelse self.exit(0);
        const pid = fork(&thread, jailed) catch -1;
        if (pid == 0) {
            self.nameSet(&workers_name);
            _ = signals.maskSet(mask);
            order.* = .{
                .bytes = &buffer,
                .bytes_count = @intCast(message.bytes),
                .descriptors_count = @intCast(message.descriptors_count),
                .descriptors = message.descriptors,
            };
            return;
        }
        message.close();
        @memset(buffer[0..message.bytes], 0);
        if (!sibling.say(orders_fd, pid)) self.exit(0);
    }
}

fn fork(thread: *const sibling.Thread, jailed: bool) sibling.Error!i32 {
    if (!jailed) return sibling.fork(thread);
    try sibling.newProcesses();
    const pid = sibling.fork(thread) catch -1;
    // Or the next worker would be forked into this one's namespace.
    if (pid != 0) sibling.processesOf(processes_fd) catch self.exit(1);
    return pid;
}
