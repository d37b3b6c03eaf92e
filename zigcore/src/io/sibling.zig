//! A fork whose child belongs to the caller's own parent, and what else the zygote's template asks the kernel for.
//!
//! Called by runtime/template. libc's fork cannot give a child away, so this is clone3 itself, and what libc's would have
//! done for a process with one thread is done here: where libc keeps the thread's number (`Thread.tid`) and its list of
//! robust locks are the kernel's to tell.
//! What always holds: who has no `Thread` does not fork this way; descriptors that came with a message are closed or given
//! back in `Message`, all of them.
const std = @import("std");
const linux = std.os.linux;
const sys = @import("sys.zig");
const check = sys.check;
const arg = sys.arg;

pub const Error = sys.Error;
pub const Fd = sys.Fd;

/// What the kernel knows of the calling thread on libc's behalf.
pub const Thread = struct {
    tid: usize,
    robust: usize,
    robust_bytes: usize,

    /// Null: the kernel does not tell (it was built without CONFIG_CHECKPOINT_RESTORE).
    pub fn own() ?Thread {
        const pr_get_tid_address = 40;
        var thread: Thread = .{ .tid = 0, .robust = 0, .robust_bytes = 0 };
        if (!sys.ok(linux.syscall5(.prctl, pr_get_tid_address, @intFromPtr(&thread.tid), 0, 0, 0)) or thread.tid == 0) return null;
        const tid: *const i32 = @ptrFromInt(thread.tid);
        if (tid.* != @as(i32, @intCast(linux.syscall0(.gettid)))) return null;
        if (!sys.ok(linux.syscall3(.get_robust_list, 0, @intFromPtr(&thread.robust), @intFromPtr(&thread.robust_bytes)))) return null;
        return thread;
    }
};

/// 0: the child, whose parent is the caller's. The caller has one thread.
pub fn fork(thread: *const Thread) Error!i32 {
    const clone_parent = 0x8000;
    const clone_child_settid = 0x0100_0000;
    const clone_child_cleartid = 0x0020_0000;
    // struct clone_args, version 0. No signal for its end: the child's is what the caller's own parent gets for the caller.
    const arguments: [8]u64 = .{ clone_parent | clone_child_settid | clone_child_cleartid, 0, thread.tid, 0, 0, 0, 0, 0 };
    const pid = try check("clone3", linux.syscall2(.clone3, @intFromPtr(&arguments), @sizeOf(@TypeOf(arguments))));
    if (pid == 0 and thread.robust != 0) _ = linux.syscall2(.set_robust_list, thread.robust, thread.robust_bytes);
    return @intCast(pid);
}

const clone_newpid = 0x2000_0000;

/// Who is forked from now on is the first process of a new PID namespace.
pub fn newProcesses() Error!void {
    _ = try check("unshare", linux.syscall1(.unshare, clone_newpid));
}

/// From now on, of that one.
pub fn processesOf(namespace: Fd) Error!void {
    _ = try check("setns", linux.syscall2(.setns, arg(namespace), clone_newpid));
}

/// With one message.
pub const descriptors_max = 8;

pub const Message = struct {
    bytes: usize,
    descriptors: [descriptors_max]Fd,
    descriptors_count: usize,

    pub fn close(message: *const Message) void {
        for (message.descriptors[0..message.descriptors_count]) |fd| sys.close(fd);
    }
};

/// Waits for one; null: the other side is gone. A message that does not fit in whole is `error.Again`.
pub fn receive(fd: Fd, buffer: []u8) Error!?Message {
    const Control = extern struct { head: linux.cmsghdr, descriptors: [descriptors_max]Fd };
    const cmsg_cloexec = 0x4000_0000;
    while (true) {
        var control: Control align(8) = undefined;
        var part: [1]std.posix.iovec = .{.{ .base = buffer.ptr, .len = buffer.len }};
        var header: linux.msghdr = .{ .name = null, .namelen = 0, .iov = &part, .iovlen = 1, .control = &control, .controllen = @sizeOf(Control), .flags = 0 };
        const result = linux.syscall3(.recvmsg, arg(fd), @intFromPtr(&header), cmsg_cloexec);
        if (linux.errno(result) == .INTR) continue;
        const bytes = try check("recvmsg", result);
        var message: Message = .{ .bytes = bytes, .descriptors = undefined, .descriptors_count = 0 };
        if (header.controllen >= @sizeOf(linux.cmsghdr) and control.head.level == linux.SOL.SOCKET and control.head.type == linux.SCM.RIGHTS) {
            message.descriptors_count = (control.head.len - @sizeOf(linux.cmsghdr)) / @sizeOf(Fd);
            for (0..message.descriptors_count) |at| message.descriptors[at] = control.descriptors[at];
        }
        const truncated = linux.MSG.TRUNC | linux.MSG.CTRUNC;
        if (header.flags & truncated != 0) {
            message.close();
            return error.Again;
        }
        return if (bytes == 0) null else message;
    }
}

/// False: nobody hears it any more.
pub fn say(fd: Fd, number: i32) bool {
    while (true) {
        const result = linux.syscall6(.sendto, arg(fd), @intFromPtr(&number), @sizeOf(i32), linux.MSG.NOSIGNAL, 0, 0);
        if (linux.errno(result) != .INTR) return sys.ok(result);
    }
}
