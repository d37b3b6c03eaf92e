//! Syscall user dispatch: lets a worker that rewinds itself know whether an invocation asked the kernel for anything.
//!
//! Called by apply, before the filter closes: it allows no such prctl. No wall: it only ever takes work from the rewinder
//! (runtime/watch). What always holds: the selector says "let pass" until the rewinder says otherwise.
const confine = @import("../io/confine.zig");

/// Where the rewinder's selector is, and the code whose calls always pass.
pub const Dispatch = struct { selector: usize, exempt_start: usize, exempt_bytes: usize };

/// Whether the kernel does it: Linux before 5.11 does not.
pub var active = false;

pub fn arm(dispatch: ?Dispatch) void {
    const wanted = dispatch orelse return;
    confine.dispatchCalls(wanted.exempt_start, wanted.exempt_bytes, wanted.selector) catch return;
    active = true;
}
