//! The tripwire: a first, small filter that names the call which ends a worker, to somebody outside.
//!
//! Called by apply before the filter proper. A killed process takes the number of its last call with it; a handler inside
//! could be patched by whom it reports. So calls of `policy.killed` are told to the gateway (seccomp_unotify(2)), which
//! ends the worker: nothing in the worker can forge, suppress or survive it. The zygote passes the descriptor on, for
//! workers outlive it; the gateway they do not. The caller never gets an answer. Other architectures end in the filter
//! proper.
//! What always holds: no call is allowed by it that the filter proper refuses.
const std = @import("std");
const confine = @import("../io/confine.zig");
const policy = @import("policy.zig");
const network = @import("network.zig");
const seccomp = @import("seccomp.zig");
const Config = @import("config.zig").Config;
const Instruction = confine.Instruction;

/// Told to the zygote once, along with the descriptor on which calls are heard of; the second one when the listening
/// socket of network.zig comes first.
const word = "u";
const word_network = "n";

/// Whether it can be had: whoever installs a filter needs no_new_privs or a user namespace of its own.
pub fn wanted(config: *const Config, zygote: ?confine.Fd) bool {
    return zygote != null and config.has(.seccomp) and config.has(.user);
}

/// Installs it if it is wanted, and tells the zygote that the user namespace is there.
pub fn set(config: *const Config, zygote: ?confine.Fd) confine.Error!void {
    const ear = zygote orelse return;
    if (!config.has(.user)) return; // nobody listens
    if (!wanted(config, zygote)) return confine.write(ear, word);
    const listener = try confine.installListener(&program);
    defer confine.close(listener);
    const door = network.take() orelse return confine.sendDescriptors(ear, word, &.{listener});
    defer confine.close(door);
    try confine.sendDescriptors(ear, word_network, &.{ door, listener });
}

const user_notification = 0x7fc00000;

pub const program = compile: {
    @setEvalBranchQuota(200_000);
    var code: []const Instruction = &.{
        .{ .code = seccomp.load_word, .value = seccomp.offset_architecture },
        .{ .code = seccomp.jump_equal, .value = seccomp.architecture, .jump_true = 1 },
        .{ .code = seccomp.answer, .value = seccomp.verdict(.allow) },
        .{ .code = seccomp.load_word, .value = seccomp.offset_number },
    };
    var at: usize = 0;
    while (at < seccomp.numbers_count) {
        const told = isKilled(at);
        var end = at + 1;
        while (end < seccomp.numbers_count and isKilled(end) == told) end += 1;
        code = code ++ [_]Instruction{
            .{ .code = seccomp.jump_not_less, .value = end, .jump_true = 1 },
            .{ .code = seccomp.answer, .value = if (told) user_notification else seccomp.verdict(.allow) },
        };
        at = end;
    }
    code = code ++ [_]Instruction{.{ .code = seccomp.answer, .value = seccomp.verdict(.allow) }};
    const fixed: [code.len]Instruction = code[0..code.len].*;
    break :compile fixed;
};

fn isKilled(comptime number: usize) bool {
    for (policy.killed.calls) |name| {
        if (seccomp.numberOf(name)) |known| if (known == number) return true;
    }
    return false;
}

test "it tells of the calls that end a worker, and lets all others pass to the filter proper" {
    for (0..seccomp.numbers_count + 8) |number| {
        const told = inline for (policy.killed.calls) |name| {
            if (comptime seccomp.numberOf(name)) |known| if (known == number) break true;
        } else false;
        const expected: u32 = if (told) user_notification else seccomp.verdict(.allow);
        for ([_]u64{ 0, 1, std.math.maxInt(u64) }) |value| {
            try std.testing.expectEqual(expected, seccomp.run(&program, .{ .number = @intCast(number), .arguments = @splat(value) }));
        }
    }
    const x32_first = 0x40000000;
    try std.testing.expectEqual(seccomp.verdict(.allow), seccomp.run(&program, .{ .number = x32_first }));
    try std.testing.expectEqual(seccomp.verdict(.allow), seccomp.run(&program, .{ .number = 101, .architecture = 0x40000003 }));
}
