//! seccomp: policy.zig, compiled into one packet filter when the library is built, and installed on every thread.
//!
//! Called by apply, last. Shape: the architecture, then the calls with argument rules, then the table of all others as
//! runs of neighbouring numbers with the same action (most verdicts come from the kernel's own cache of them).
//! What always holds: a number that the policy does not name is EPERM, or ENOSYS when it is newer than this list.
const std = @import("std");
const builtin = @import("builtin");
const confine = @import("../io/confine.zig");
const policy = @import("policy.zig");
const Config = @import("config.zig").Config;
const Instruction = confine.Instruction;
const Action = policy.Action;
const Call = std.os.linux.SYS;

pub fn install(config: *const Config) confine.Error!void {
    if (!config.has(.seccomp)) return;
    try confine.installFilter(switch (config.state) {
        .fresh => &program_rewinding,
        .forked => &program_forking,
        .warm, _ => &program,
    });
}

/// The first number that this list does not know (Linux 6.18).
const numbers_count = 470;
const x32_first = 0x40000000;

const offset_number = 0;
const offset_architecture = 4;
const offset_arguments = 16;

const load_word = 0x20;
const jump_equal = 0x15;
const jump_not_less = 0x35;
const jump_any_bit = 0x45;
const answer = 0x06;

const architecture: u32 = switch (builtin.cpu.arch) {
    .x86_64 => 0xc000003e,
    .aarch64 => 0xc00000b7,
    else => @compileError("no seccomp policy for this architecture"),
};

fn verdict(action: Action) u32 {
    return switch (action) {
        .allow => 0x7fff0000,
        .kill => 0x80000000,
        .eperm, .enosys, .enotty, .enotsup => 0x00050000 | @as(u32, @backingInt(action)),
    };
}

/// Null: this architecture has no such call, or only under another name.
fn numberOf(comptime name: []const u8) ?u32 {
    return if (@hasField(Call, name)) @intCast(@backingInt(@field(Call, name))) else null;
}

pub const program = compiled(&.{});
const program_rewinding = compiled(&policy.rewinding);
const program_forking = compiled(&policy.forking);

fn compiled(comptime exceptions: []const policy.Exception) [codeOf(exceptions).len]Instruction {
    return codeOf(exceptions)[0..codeOf(exceptions).len].*;
}

fn codeOf(comptime exceptions: []const policy.Exception) []const Instruction {
    @setEvalBranchQuota(400_000);
    var code: []const Instruction = &.{
        .{ .code = load_word, .value = offset_architecture },
        .{ .code = jump_equal, .value = architecture, .jump_true = 1 },
        .{ .code = answer, .value = verdict(.kill) },
        .{ .code = load_word, .value = offset_number },
    };
    for (policy.rules) |rule| {
        const number = numberOf(rule.call) orelse continue;
        const body = ruleBody(rule, exceptions);
        code = code ++ [_]Instruction{.{ .code = jump_equal, .value = number, .jump_true = 0, .jump_false = body.len }} ++ body;
    }
    var at: usize = 0;
    while (at < numbers_count) {
        var end = at + 1;
        while (end < numbers_count and table[end] == table[at]) end += 1;
        code = code ++ [_]Instruction{
            .{ .code = jump_not_less, .value = end, .jump_true = 1 },
            .{ .code = answer, .value = verdict(table[at]) },
        };
        at = end;
    }
    code = code ++ [_]Instruction{
        // x32 shares the architecture's number; above it lies what only a mistake or an attack calls.
        .{ .code = jump_not_less, .value = x32_first, .jump_true = 1 },
        .{ .code = answer, .value = verdict(.enosys) },
        .{ .code = answer, .value = verdict(.kill) },
    };
    return code;
}

/// By number; calls with argument rules are judged before it is looked at.
const table: [numbers_count]Action = fill: {
    @setEvalBranchQuota(200_000);
    var actions: [numbers_count]Action = @splat(.eperm);
    var named: [numbers_count]bool = @splat(false);
    for (policy.allowed) |group| for (group.calls) |name| put(&actions, &named, name, .allow);
    for (policy.enosys.calls) |name| put(&actions, &named, name, .enosys);
    for (policy.enotsup.calls) |name| put(&actions, &named, name, .enotsup);
    for (policy.killed.calls) |name| put(&actions, &named, name, .kill);
    for (policy.rules) |rule| put(&actions, &named, rule.call, rule.otherwise);
    break :fill actions;
};

fn put(actions: *[numbers_count]Action, named: *[numbers_count]bool, comptime name: []const u8, action: Action) void {
    const number = numberOf(name) orelse return;
    if (number >= numbers_count) return; // newer than the list's end: ENOSYS anyway
    if (named[number]) @compileError("named twice in the policy: " ++ name);
    named[number] = true;
    actions[number] = action;
}

/// The rule, then the exceptions to it, then the refusal.
fn ruleBody(comptime rule: policy.Rule, comptime exceptions: []const policy.Exception) []const Instruction {
    comptime {
        var code = wayIn(rule.conditions);
        for (exceptions) |exception| {
            if (std.mem.eql(u8, exception.call, rule.call)) code = code ++ wayIn(exception.conditions);
        }
        return code ++ [_]Instruction{.{ .code = answer, .value = verdict(rule.otherwise) }};
    }
}

/// Each condition falls through to the next when it holds, and jumps behind the last when not.
fn wayIn(comptime conditions: []const policy.Condition) []const Instruction {
    comptime {
        var bytes: []const Instruction = &.{};
        var left = conditions.len;
        var parts: [conditions.len][]const Instruction = undefined;
        var after: usize = 1; // the `allow` behind the last condition
        while (left > 0) : (left -= 1) {
            parts[left - 1] = conditionCode(conditions[left - 1], after);
            after += parts[left - 1].len;
        }
        for (parts) |part| bytes = bytes ++ part;
        return bytes ++ [_]Instruction{.{ .code = answer, .value = verdict(.allow) }};
    }
}

/// `behind`: instructions between the end of this condition and the refusal.
fn conditionCode(comptime condition: policy.Condition, comptime behind: usize) []const Instruction {
    comptime {
        const low = offset_arguments + 8 * @as(u32, condition.argument);
        const high = low + 4;
        switch (condition.test_) {
            .without => |bits| return &.{
                .{ .code = load_word, .value = low },
                .{ .code = jump_any_bit, .value = bits, .jump_true = behind, .jump_false = 0 },
            },
            .zero => return exactCode(low, high, 0, behind),
            .exactly => |value| return exactCode(low, high, value, behind),
            .one_of => |values| {
                var code: []const Instruction = &.{.{ .code = load_word, .value = low }};
                for (values, 0..) |value, at| {
                    const rest = values.len - at - 1;
                    code = code ++ [_]Instruction{.{
                        .code = jump_equal,
                        .value = value,
                        .jump_true = rest,
                        .jump_false = if (rest == 0) behind else 0,
                    }};
                }
                return code;
            },
        }
    }
}

fn exactCode(comptime low: u32, comptime high: u32, comptime value: u32, comptime behind: usize) []const Instruction {
    return &.{
        .{ .code = load_word, .value = low },
        .{ .code = jump_equal, .value = value, .jump_true = 0, .jump_false = behind + 2 },
        .{ .code = load_word, .value = high },
        .{ .code = jump_equal, .value = 0, .jump_true = 0, .jump_false = behind },
    };
}

// -- Tests: the filter, run as the kernel runs it -------------------------------------------------------------------

const Data = struct { number: u32, architecture: u32 = architecture, arguments: [6]u64 = @splat(0) };

fn run(data: Data) u32 {
    return runOn(&program, data);
}

fn runOn(code: []const Instruction, data: Data) u32 {
    var at: usize = 0;
    var accumulator: u32 = 0;
    while (true) {
        const one = code[at];
        at += 1;
        const taken = switch (one.code) {
            load_word => {
                accumulator = word(data, one.value);
                continue;
            },
            answer => return one.value,
            jump_equal => accumulator == one.value,
            jump_not_less => accumulator >= one.value,
            jump_any_bit => accumulator & one.value != 0,
            else => unreachable,
        };
        at += if (taken) one.jump_true else one.jump_false;
    }
}

fn word(data: Data, offset: u32) u32 {
    if (offset == offset_number) return data.number;
    if (offset == offset_architecture) return data.architecture;
    const argument = data.arguments[(offset - offset_arguments) / 8];
    return @truncate(if (offset % 8 == 0) argument else argument >> 32);
}

fn call(comptime name: []const u8, arguments: [6]u64) u32 {
    return run(.{ .number = numberOf(name).?, .arguments = arguments });
}

const expectEqual = std.testing.expectEqual;

test "every number has the verdict of the table, whatever its arguments, unless a rule judges them" {
    for (table, 0..) |action, number| {
        const ruled = comptime ruled: {
            var numbers: [policy.rules.len]?u32 = undefined;
            for (policy.rules, 0..) |rule, at| numbers[at] = numberOf(rule.call);
            break :ruled numbers;
        };
        if (std.mem.findScalar(?u32, &ruled, @as(u32, @intCast(number))) != null) continue;
        for ([_]u64{ 0, 1, 0xffff_ffff, std.math.maxInt(u64) }) |value| {
            try expectEqual(verdict(action), run(.{ .number = @intCast(number), .arguments = @splat(value) }));
        }
    }
}

test "the verdicts that everything hangs on" {
    try expectEqual(verdict(.allow), call("read", @splat(0)));
    try expectEqual(verdict(.eperm), call("socket", .{ 2, 1, 0, 0, 0, 0 }));
    try expectEqual(verdict(.eperm), call("execve", @splat(0)));
    try expectEqual(verdict(.eperm), call("sendmsg", @splat(0)));
    try expectEqual(verdict(.eperm), call("memfd_create", @splat(0)));
    try expectEqual(verdict(.eperm), call("setrlimit", @splat(0)));
    try expectEqual(verdict(.enosys), call("clone3", @splat(0)));
    try expectEqual(verdict(.enosys), call("io_uring_setup", @splat(0)));
    try expectEqual(verdict(.enotsup), call("setxattr", @splat(0)));
    inline for (policy.killed.calls) |name| {
        if (comptime numberOf(name) != null) try expectEqual(verdict(.kill), call(name, @splat(0)));
    }
}

test "what a rewinding or forking worker may do more, exactly" {
    const exact = [_]struct { []const Instruction, []const u8, [6]u64, Action }{
        .{ &program_rewinding, "ioctl", .{ 5, 0xc0606610, 0, 0, 0, 0 }, .enotty },
        .{ &program_rewinding, "fcntl", .{ 9, 1033, 15, 0, 0, 0 }, .eperm },
        .{ &program_forking, "clone", .{ 0x01200011, 0, 0, 0, 0, 0 }, .eperm },
    };
    inline for (exact) |one| {
        const code, const name, const good, const otherwise = one;
        const number = comptime numberOf(name).?;
        try expectEqual(verdict(.allow), runOn(code, .{ .number = number, .arguments = good }));
        try expectEqual(verdict(otherwise), run(.{ .number = number, .arguments = good }));
        for (0..3) |argument| {
            if (good[argument] == 0) continue;
            for (0..32) |bit| {
                var bad = good;
                bad[argument] ^= @as(u64, 1) << @intCast(bit);
                // Some neighbours are what every worker may do.
                try expectEqual(run(.{ .number = number, .arguments = bad }), runOn(code, .{ .number = number, .arguments = bad }));
            }
        }
    }
    // All else is as for everybody.
    inline for (.{ &program_rewinding, &program_forking }) |code| {
        for (0..numbers_count + 2) |number| {
            for ([_]u64{ 0, 1, 5, 9, 0xffff_ffff }) |value| {
                const data: Data = .{ .number = @intCast(number), .arguments = @splat(value) };
                try expectEqual(run(data), runOn(code, data));
            }
        }
    }
}

test "another architecture and x32 end the process, numbers from the future do not exist" {
    try expectEqual(verdict(.kill), run(.{ .number = 0, .architecture = 0x40000003 }));
    try expectEqual(verdict(.kill), run(.{ .number = x32_first }));
    try expectEqual(verdict(.kill), run(.{ .number = 0xffff_ffff }));
    try expectEqual(verdict(.enosys), run(.{ .number = numbers_count }));
    try expectEqual(verdict(.enosys), run(.{ .number = x32_first - 1 }));
}

test "each rule: allowed as it is meant, refused when any argument is perturbed" {
    inline for (policy.rules) |rule| {
        const number = comptime numberOf(rule.call).?;
        var good: [6]u64 = @splat(0);
        inline for (rule.conditions) |condition| good[condition.argument] = switch (condition.test_) {
            .one_of => |values| values[values.len - 1],
            .without, .zero => 0,
            .exactly => |value| value,
        };
        try expectEqual(verdict(.allow), run(.{ .number = number, .arguments = good }));
        inline for (rule.conditions) |condition| {
            var bad = good;
            const argument = &bad[condition.argument];
            switch (condition.test_) {
                .one_of => |values| {
                    for (values) |value| {
                        argument.* = value;
                        try expectEqual(verdict(.allow), run(.{ .number = number, .arguments = bad }));
                        // The kernel takes an int: what stands above it is no excuse.
                        argument.* = @as(u64, value) | 1 << 32;
                        try expectEqual(verdict(.allow), run(.{ .number = number, .arguments = bad }));
                    }
                    for (0..2048) |value| {
                        argument.* = value;
                        const listed = std.mem.findScalar(u32, values, @intCast(value)) != null;
                        try expectEqual(verdict(if (listed) .allow else rule.otherwise), run(.{ .number = number, .arguments = bad }));
                    }
                    argument.* = 0xdead_beef;
                },
                .without => |bits| argument.* = 0xffff_ffff_0000_0000 | @as(u64, bits),
                .zero => {
                    argument.* = 1;
                    try expectEqual(verdict(rule.otherwise), run(.{ .number = number, .arguments = bad }));
                    argument.* = 1 << 32;
                },
                .exactly => |value| {
                    for (0..64) |bit| {
                        argument.* = value ^ (@as(u64, 1) << @intCast(bit));
                        try expectEqual(verdict(rule.otherwise), run(.{ .number = number, .arguments = bad }));
                    }
                    argument.* = 0;
                },
            }
            try expectEqual(verdict(rule.otherwise), run(.{ .number = number, .arguments = bad }));
        }
    }
}
