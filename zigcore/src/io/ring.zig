//! One io_uring, as a reactor uses it: operations in, completions out, every completion tagged.
//!
//! A thin wrapper over std.os.linux.IoUring (set-up, queue arithmetic) with our own enter (time-outs without a timer
//! operation). SINGLE_ISSUER + DEFER_TASKRUN: completions are made only when the reactor asks, so it processes them in
//! batches and is never interrupted. Called by reactor, http/ and pool/. What always holds: `user_data` is a Tag, and
//! whoever receives one checks its generation before touching what `index` names.
const std = @import("std");
const assert = std.debug.assert;
const linux = std.os.linux;
const sys = @import("sys.zig");

const Ring = @This();

uring: linux.IoUring,

/// What a completion belongs to.
pub const Kind = enum(u8) {
    /// Completions that nobody waits for (cancel, close); failures of fire-and-forget operations end here too.
    ignored,
    accept,
    wake,
    client_receive,
    client_send,
    client_shutdown,
    worker_receive,
    worker_send,
    worker_end,
    worker_tripwire,
    zygote_receive,
    _,
};

pub const Tag = packed struct(u64) {
    kind: Kind,
    index: u24,
    generation: u32,

    pub const ignored: Tag = .{ .kind = .ignored, .index = 0, .generation = 0 };

    pub fn of(user_data: u64) Tag {
        return @bitCast(user_data);
    }
};

pub const Completion = linux.io_uring_cqe;

pub const more = linux.IORING_CQE_F_MORE;

/// Negative results that we tell apart; everything else negative means that the operation's object is broken.
pub const result_cancelled = -125;
pub const result_no_buffers = -105;

/// Opens the ring disabled: the reactor's thread enables it and is then its only issuer.
pub fn init(entries: u16) !Ring {
    return .{ .uring = try linux.IoUring.init(entries, linux.IORING_SETUP_SINGLE_ISSUER | linux.IORING_SETUP_DEFER_TASKRUN |
        linux.IORING_SETUP_TASKRUN_FLAG | linux.IORING_SETUP_R_DISABLED) };
}

pub fn deinit(ring: *Ring) void {
    ring.uring.deinit();
}

/// On the reactor's thread, once.
pub fn enable(ring: *Ring) sys.Error!void {
    try sys.ringEnable(ring.uring.fd);
}

/// Submits everything queued and makes completions; waits for one, at most `wait_ns`, unless that is null.
pub fn enter(ring: *Ring, wait_ns: ?u64) sys.Error!void {
    _ = sys.ringEnter(ring.uring.fd, ring.uring.flush_sq(), wait_ns) catch |err| switch (err) {
        // A signal, or ETIME (Other): nothing was lost, the loop comes back.
        error.Again, error.Other => return,
        else => return err,
    };
}

/// Whether the kernel has completions for us, made or ready to be made: one look at memory, no system call.
pub fn pending(ring: *Ring) bool {
    return ring.uring.cq_ready() > 0 or
        @atomicLoad(u32, ring.uring.sq.flags, .acquire) & (linux.IORING_SQ_TASKRUN | linux.IORING_SQ_CQ_OVERFLOW) != 0;
}

/// Completions that have been made already.
pub fn ready(ring: *Ring) bool {
    return ring.uring.cq_ready() > 0;
}

pub fn queued(ring: *Ring) bool {
    return ring.uring.sq_ready() > 0;
}

/// The next completion, removed from the queue.
pub fn next(ring: *Ring) ?Completion {
    if (ring.uring.cq_ready() == 0) return null;
    const cq = &ring.uring.cq;
    const completion = cq.cqes[cq.head.* & cq.mask];
    ring.uring.cq_advance(1);
    return completion;
}

fn operation(ring: *Ring, opcode: linux.IORING_OP, fd: sys.Fd, address: usize, len: usize, tag: Tag) *linux.io_uring_sqe {
    const sqe = ring.uring.get_sqe() catch full: {
        // The queue is full: hand it over now. The kernel takes all of it, errors come as completions.
        _ = sys.ringEnter(ring.uring.fd, ring.uring.flush_sq(), null) catch {};
        break :full ring.uring.get_sqe() catch @panic("io_uring takes no submissions: the ring is broken");
    };
    sqe.prep_rw(opcode, fd, address, len, 0);
    sqe.user_data = @bitCast(tag);
    return sqe;
}

/// Accepts until cancelled; each completion's result is a new descriptor.
pub fn accept(ring: *Ring, fd: sys.Fd, tag: Tag) void {
    const sqe = ring.operation(.ACCEPT, fd, 0, 0, tag);
    sqe.rw_flags = linux.SOCK.CLOEXEC;
    sqe.ioprio |= linux.IORING_ACCEPT_MULTISHOT;
}

/// Accepts a connection that is there already; never waits (Linux 6.10; before that it fails).
pub fn acceptOne(ring: *Ring, fd: sys.Fd, tag: Tag) void {
    const dont_wait = 2;
    const sqe = ring.operation(.ACCEPT, fd, 0, 0, tag);
    sqe.rw_flags = linux.SOCK.CLOEXEC;
    sqe.ioprio |= dont_wait;
}

pub const Shots = enum { one, many };

/// Receives into one buffer of `group`, or into many until the end, an error, or none is left (`more` is then not set).
pub fn receive(ring: *Ring, fd: sys.Fd, group: u16, shots: Shots, tag: Tag) void {
    const sqe = ring.operation(.RECV, fd, 0, 0, tag);
    sqe.flags |= linux.IOSQE_BUFFER_SELECT;
    if (shots == .many) sqe.ioprio |= linux.IORING_RECV_MULTISHOT;
    sqe.buf_index = group;
}

/// Sends what the socket takes; the completion's result says how much. `bytes` must stay until then.
pub fn send(ring: *Ring, fd: sys.Fd, bytes: []const u8, tag: Tag) void {
    const sqe = ring.operation(.SEND, fd, @intFromPtr(bytes.ptr), bytes.len, tag);
    sqe.rw_flags = sys.msg_nosignal;
}

/// Sends one datagram at once; there is a completion only if that fails, also because the socket is full.
pub fn sendQuietly(ring: *Ring, fd: sys.Fd, bytes: []const u8, tag: Tag) void {
    const sqe = ring.operation(.SEND, fd, @intFromPtr(bytes.ptr), bytes.len, tag);
    // Never held back by the kernel: it would send later, from memory that may serve another worker by then.
    sqe.rw_flags = sys.msg_nosignal | sys.msg_dontwait;
    sqe.flags |= linux.IOSQE_CQE_SKIP_SUCCESS;
}

pub fn sendMessage(ring: *Ring, fd: sys.Fd, message: *const sys.Message, tag: Tag) void {
    const sqe = ring.operation(.SENDMSG, fd, @intFromPtr(message), 1, tag);
    sqe.rw_flags = sys.msg_nosignal;
}

pub fn receiveMessage(ring: *Ring, fd: sys.Fd, message: *sys.Message, tag: Tag) void {
    const sqe = ring.operation(.RECVMSG, fd, @intFromPtr(message), 1, tag);
    sqe.rw_flags = @bitCast(@as(u32, sys.msg_cmsg_cloexec));
}

pub fn read(ring: *Ring, fd: sys.Fd, bytes: []u8, tag: Tag) void {
    const sqe = ring.operation(.READ, fd, @intFromPtr(bytes.ptr), bytes.len, tag);
    sqe.off = std.math.maxInt(u64);
}

/// Completes once `fd` is readable: for a pidfd, when the process has ended.
pub fn poll(ring: *Ring, fd: sys.Fd, tag: Tag) void {
    const sqe = ring.operation(.POLL_ADD, fd, 0, 0, tag);
    const pollin = 1;
    sqe.rw_flags = pollin;
}

pub fn shutdownWrites(ring: *Ring, fd: sys.Fd, tag: Tag) void {
    const shut_wr = 1;
    _ = ring.operation(.SHUTDOWN, fd, 0, shut_wr, tag);
}

pub fn close(ring: *Ring, fd: sys.Fd) void {
    assert(fd >= 0);
    _ = ring.operation(.CLOSE, fd, 0, 0, .ignored);
}

/// Cancels the operation with this tag; its own completion still comes (cancelled, or done before that).
pub fn cancel(ring: *Ring, target: Tag) void {
    const sqe = ring.operation(.ASYNC_CANCEL, -1, @as(u64, @bitCast(target)), 0, .ignored);
    sqe.flags |= linux.IOSQE_CQE_SKIP_SUCCESS;
}

/// Buffers that the kernel fills: registered once, named by number in completions, given back after use.
pub const Buffers = struct {
    entries: []linux.io_uring_buf,
    memory: []u8,
    buffer_bytes: u32,
    group: u16,
    tail: u16 = 0,
    /// With the kernel now.
    free_count: u32 = 0,

    /// `ring_memory`: count × 16 bytes, page-aligned; `memory`: count × buffer_bytes. Both stay for ever.
    pub fn init(ring: *Ring, group: u16, ring_memory: []align(4096) u8, memory: []u8, buffer_bytes: u32) sys.Error!Buffers {
        const count = memory.len / buffer_bytes;
        assert(std.math.isPowerOfTwo(count) and count <= 32768 and ring_memory.len >= count * @sizeOf(linux.io_uring_buf));
        const entries: [*]linux.io_uring_buf = @ptrCast(ring_memory.ptr);
        try sys.ringRegisterBuffers(ring.uring.fd, @intFromPtr(ring_memory.ptr), @intCast(count), group);
        var buffers: Buffers = .{ .entries = entries[0..count], .memory = memory, .buffer_bytes = buffer_bytes, .group = group };
        for (0..count) |number| buffers.giveBack(@intCast(number));
        return buffers;
    }

    /// The bytes that a receive completion brought, or null when it brought no buffer.
    pub fn of(buffers: *Buffers, completion: Completion) ?struct { number: u16, bytes: []u8 } {
        if (completion.flags & linux.IORING_CQE_F_BUFFER == 0) return null;
        const number: u16 = @intCast(completion.flags >> linux.IORING_CQE_BUFFER_SHIFT);
        assert(number < buffers.entries.len);
        buffers.free_count -= 1;
        const bytes: usize = if (completion.res > 0) @intCast(completion.res) else 0;
        assert(bytes <= buffers.buffer_bytes);
        return .{ .number = number, .bytes = buffers.memory[@as(usize, number) * buffers.buffer_bytes ..][0..bytes] };
    }

    pub fn giveBack(buffers: *Buffers, number: u16) void {
        const mask: u16 = @intCast(buffers.entries.len - 1);
        const entry = &buffers.entries[buffers.tail & mask];
        entry.addr = @intFromPtr(buffers.memory.ptr) + @as(usize, number) * buffers.buffer_bytes;
        entry.len = buffers.buffer_bytes;
        entry.bid = number;
        buffers.tail +%= 1;
        buffers.free_count += 1;
        assert(buffers.free_count <= buffers.entries.len);
        // The ring's tail overlays the reserved field of entry 0.
        const header: *linux.io_uring_buf_ring = @ptrCast(buffers.entries.ptr);
        @atomicStore(u16, &header.tail, buffers.tail, .release);
    }
};
