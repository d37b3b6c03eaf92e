//! The names of system calls on this architecture, for messages to people.
//!
//! Called by pool/reap, when a worker was ended for one. What always holds: any number has an answer.
const std = @import("std");
const Call = std.os.linux.SYS;

pub fn name(number: u16) []const u8 {
    const call = std.enums.fromInt(Call, number) orelse return "an unknown call";
    return std.enums.tagName(Call, call) orelse "an unknown call";
}

test "calls have names, other numbers an answer" {
    try std.testing.expectEqualStrings("ptrace", name(@intCast(@backingInt(Call.ptrace))));
    try std.testing.expectEqualStrings("an unknown call", name(60_000));
}
