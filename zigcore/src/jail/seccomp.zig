//! seccomp: policy.zig, compiled into one packet filter when the library is built, and installed on every thread.
//!
//! Called by apply, last. Shape: the architecture, then the calls with argument rules, then the table of all others as
//! runs of neighbouring numbers with the same action (most verdicts come from the kernel's own cache of them).
//! One program for each combination of profiles, with and without the tripwire before it.
//! What always holds: a number that the policy does not name is EPERM, or ENOSYS when it is newer than this list.
const std = @import("std");
const builtin = @import("builtin");
const confine = @import("../io/confine.zig");
const policy = @import("policy.zig");
const Config = @import("config.zig").Config;
const Instruction = confine.Instruction;
const Action = policy.Action;
const Call = std.os.linux.SYS;

/// `tripped`: tripwire.zig is in place, and ends who makes a call of `policy.killed`.
pub fn install(config: *const Config, tripped: bool) confine.Error!void {
    if (!config.has(.seccomp)) return;
    const variant: Variant = .{
        .processes = config.may(.processes),
        .network = config.may(.network),
        .tripped = tripped,
        .state = switch (config.state) {
            .warm, _ => .warm,
            .fresh => .fresh,
            .forked => .forked,
        },
    };
    if (variant.network and !tripped) return confine.refuse("a network without the tripwire");
    switch (variant.number()) {
        inline 0...variants.len - 1 => |at| try confine.installFilter(&Filter(variants[at]).program),
        else => unreachable,
    }
}

/// One program each; with a network there is always a tripwire (network.zig wants the same parts).
pub const Variant = struct {
    processes: bool = false,
    network: bool = false,
    tripped: bool = false,
    state: enum { warm, fresh, forked } = .warm,

    fn number(variant: Variant) usize {
        const state: usize = @backingInt(variant.state);
        const processes = @as(usize, @intFromBool(variant.processes));
        if (variant.network) return plain_count + processes + 2 * state;
        return processes + 2 * @as(usize, @intFromBool(variant.tripped)) + 4 * state;
    }

    fn of(at: usize) Variant {
        const processes = at & 1 != 0;
        if (at >= plain_count) return .{ .processes = processes, .network = true, .tripped = true, .state = @fromBackingInt((at - plain_count) / 2) };
        return .{ .processes = processes, .tripped = at & 2 != 0, .state = @fromBackingInt(at / 4) };
    }
};

const plain_count = 12;

pub const variants = all: {
    var list: [plain_count + 6]Variant = undefined;
    for (&list, 0..) |*variant, at| {
        variant.* = .of(at);
        std.debug.assert(variant.number() == at);
    }
    break :all list;
};

/// The first number that this list does not know (Linux 6.18).
pub const numbers_count = 470;
const x32_first = 0x40000000;

pub const offset_number = 0;
pub const offset_architecture = 4;
const offset_arguments = 16;

pub const load_word = 0x20;
pub const jump_equal = 0x15;
pub const jump_not_less = 0x35;
const jump_any_bit = 0x45;
pub const answer = 0x06;

pub const architecture: u32 = switch (builtin.cpu.arch) {
    .x86_64 => 0xc000003e,
    .aarch64 => 0xc00000b7,
    else => @compileError("no seccomp policy for this architecture"),
};

pub fn verdict(action: Action) u32 {
    return switch (action) {
        .allow => 0x7fff0000,
        .kill => 0x80000000,
        .told => 0x7ff00000,
        .eperm, .enosys, .enotty, .enotsup => 0x00050000 | @as(u32, @backingInt(action)),
    };
}

/// Null: this architecture has no such call, or only under another name.
pub fn numberOf(comptime name: []const u8) ?u32 {
    return if (@hasField(Call, name)) @intCast(@backingInt(@field(Call, name))) else null;
}

pub fn Filter(comptime variant: Variant) type {
    return struct {
        pub const rules = rulesOf(variant);
        pub const program = compile(variant);
        /// By number; calls with argument rules are judged before it is looked at.
        pub const table = tableOf(variant);
    };
}

fn profilesOf(comptime variant: Variant) []const policy.Profile {
    comptime {
        var profiles: []const policy.Profile = &.{};
        if (variant.processes) profiles = profiles ++ [_]policy.Profile{policy.processes};
        if (variant.network) profiles = profiles ++ [_]policy.Profile{policy.network};
        switch (variant.state) {
            .warm => {},
            .fresh => profiles = profiles ++ [_]policy.Profile{policy.rewinding},
            .forked => profiles = profiles ++ [_]policy.Profile{policy.forking},
        }
        return profiles;
    }
}

fn rulesOf(comptime variant: Variant) []const policy.Rule {
    comptime {
        var rules: []const policy.Rule = &policy.rules;
        for (profilesOf(variant)) |profile| rules = rules ++ profile.rules;
        return rules;
    }
}

fn exceptionsOf(comptime variant: Variant) []const policy.Exception {
    comptime {
        var exceptions: []const policy.Exception = &.{};
        for (profilesOf(variant)) |profile| exceptions = exceptions ++ profile.exceptions;
        return exceptions;
    }
}

fn compile(comptime variant: Variant) [length(variant)]Instruction {
    return code(variant)[0..length(variant)].*;
}

fn length(comptime variant: Variant) usize {
    return code(variant).len;
}

fn code(comptime variant: Variant) []const Instruction {
    comptime {
        @setEvalBranchQuota(400_000);
        const table = tableOf(variant);
        var lines: []const Instruction = &.{
            .{ .code = load_word, .value = offset_architecture },
            .{ .code = jump_equal, .value = architecture, .jump_true = 1 },
            .{ .code = answer, .value = verdict(.kill) },
            .{ .code = load_word, .value = offset_number },
        };
        for (rulesOf(variant)) |rule| {
            const number = numberOf(rule.call) orelse continue;
            const body = ruleBody(rule, exceptionsOf(variant));
            lines = lines ++ [_]Instruction{.{ .code = jump_equal, .value = number, .jump_true = 0, .jump_false = body.len }} ++ body;
        }
        var at: usize = 0;
        while (at < numbers_count) {
            var end = at + 1;
            while (end < numbers_count and table[end] == table[at]) end += 1;
            lines = lines ++ [_]Instruction{
                .{ .code = jump_not_less, .value = end, .jump_true = 1 },
                .{ .code = answer, .value = verdict(table[at]) },
            };
            at = end;
        }
        return lines ++ [_]Instruction{
            // x32 shares the architecture's number; above it lies what only a mistake or an attack calls.
            .{ .code = jump_not_less, .value = x32_first, .jump_true = 1 },
            .{ .code = answer, .value = verdict(.enosys) },
            .{ .code = answer, .value = verdict(.kill) },
        };
    }
}

fn tableOf(comptime variant: Variant) [numbers_count]Action {
    @setEvalBranchQuota(400_000);
    var actions: [numbers_count]Action = @splat(.eperm);
    var named: [numbers_count]bool = @splat(false);
    for (policy.allowed) |group| for (group.calls) |name| put(&actions, &named, name, .allow);
    for (policy.enosys.calls) |name| put(&actions, &named, name, .enosys);
    for (policy.enotsup.calls) |name| put(&actions, &named, name, .enotsup);
    for (policy.killed.calls) |name| put(&actions, &named, name, if (variant.tripped) .told else .kill);
    for (rulesOf(variant)) |rule| put(&actions, &named, rule.call, rule.otherwise);
    for (profilesOf(variant)) |profile| {
        for (profile.allowed) |group| for (group.calls) |name| put(&actions, &named, name, .allow);
    }
    return actions;
}

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
        var lines = wayIn(rule.conditions);
        for (exceptions) |exception| {
            if (std.mem.eql(u8, exception.call, rule.call)) lines = lines ++ wayIn(exception.conditions);
        }
        return lines ++ [_]Instruction{.{ .code = answer, .value = verdict(rule.otherwise) }};
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
            .not => |value| return &.{
                .{ .code = load_word, .value = low },
                .{ .code = jump_equal, .value = value, .jump_true = behind, .jump_false = 0 },
            },
            .without => |bits| return &.{
                .{ .code = load_word, .value = low },
                .{ .code = jump_any_bit, .value = bits, .jump_true = behind, .jump_false = 0 },
            },
            .zero => return exactCode(low, high, &.{0}, behind),
            .exactly => |values| return exactCode(low, high, values, behind),
            .one_of => |values| return lowCode(low, values, behind),
        }
    }
}

/// Falls through when the low word is one of `values`.
fn lowCode(comptime low: u32, comptime values: []const u32, comptime behind: usize) []const Instruction {
    comptime {
        var lines: []const Instruction = &.{.{ .code = load_word, .value = low }};
        for (values, 0..) |value, at| {
            const rest = values.len - at - 1;
            lines = lines ++ [_]Instruction{.{
                .code = jump_equal,
                .value = value,
                .jump_true = rest,
                .jump_false = if (rest == 0) behind else 0,
            }};
        }
        return lines;
    }
}

fn exactCode(comptime low: u32, comptime high: u32, comptime values: []const u32, comptime behind: usize) []const Instruction {
    comptime {
        return lowCode(low, values, behind + 2) ++ [_]Instruction{
            .{ .code = load_word, .value = high },
            .{ .code = jump_equal, .value = 0, .jump_true = 0, .jump_false = behind },
        };
    }
}

// -- Tests: the filter, run as the kernel runs it -------------------------------------------------------------------

pub const Data = struct { number: u32, architecture: u32 = architecture, arguments: [6]u64 = @splat(0) };

pub fn run(program: []const Instruction, data: Data) u32 {
    var at: usize = 0;
    var accumulator: u32 = 0;
    while (true) {
        const one = program[at];
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

fn call(comptime variant: Variant, comptime name: []const u8, arguments: [6]u64) u32 {
    return run(&Filter(variant).program, .{ .number = numberOf(name).?, .arguments = arguments });
}

const expectEqual = std.testing.expectEqual;

test "every number has the verdict of the table, whatever its arguments, unless a rule judges them" {
    @setEvalBranchQuota(400_000);
    inline for (variants) |variant| {
        const filter = Filter(variant);
        const ruled = comptime ruled: {
            var numbers: [filter.rules.len]?u32 = undefined;
            for (filter.rules, 0..) |rule, at| numbers[at] = numberOf(rule.call);
            break :ruled numbers;
        };
        for (filter.table, 0..) |action, number| {
            if (std.mem.findScalar(?u32, &ruled, @as(u32, @intCast(number))) != null) continue;
            for ([_]u64{ 0, 1, 0xffff_ffff, std.math.maxInt(u64) }) |value| {
                try expectEqual(verdict(action), run(&filter.program, .{ .number = @intCast(number), .arguments = @splat(value) }));
            }
        }
    }
}

test "the verdicts that everything hangs on" {
    @setEvalBranchQuota(400_000);
    inline for (variants) |variant| {
        try expectEqual(verdict(.allow), call(variant, "read", @splat(0)));
        try expectEqual(verdict(if (variant.network) .allow else .eperm), call(variant, "socket", .{ 2, 1, 0, 0, 0, 0 }));
        try expectEqual(verdict(.eperm), call(variant, "socket", .{ 2, 2, 0, 0, 0, 0 }));
        try expectEqual(verdict(.eperm), call(variant, "socket", .{ 10, 1, 0, 0, 0, 0 }));
        try expectEqual(verdict(.eperm), call(variant, "socket", .{ 16, 3, 0, 0, 0, 0 }));
        try expectEqual(verdict(.eperm), call(variant, "socket", .{ 1, 1, 0, 0, 0, 0 }));
        try expectEqual(verdict(.eperm), call(variant, "socket", .{ 2, 3, 0, 0, 0, 0 }));
        try expectEqual(verdict(if (variant.network) .allow else .eperm), call(variant, "connect", @splat(0)));
        try expectEqual(verdict(if (variant.network) .allow else .eperm), call(variant, "setsockopt", .{ 3, 6, 1, 0, 0, 0 }));
        try expectEqual(verdict(.eperm), call(variant, "setsockopt", .{ 3, 6, 31, 0, 0, 0 }));
        try expectEqual(verdict(.eperm), call(variant, "recvmsg", @splat(0)));
        try expectEqual(verdict(.eperm), call(variant, "accept4", @splat(0)));
        try expectEqual(verdict(.eperm), call(variant, "sendto", .{ 3, 0, 0, 0, 1, 16 }));
        try expectEqual(verdict(.eperm), call(variant, "bind", @splat(0)));
        try expectEqual(verdict(.eperm), call(variant, "listen", @splat(0)));
        try expectEqual(verdict(if (variant.processes) .allow else .eperm), call(variant, "execve", @splat(0)));
        try expectEqual(verdict(if (variant.processes or variant.state == .forked) .allow else .eperm), call(variant, "clone", .{ 0x1200011, 0, 0, 0, 0, 0 }));
        try expectEqual(verdict(.eperm), call(variant, "clone", .{ 0x1200011 | 0x10000000, 0, 0, 0, 0, 0 }));
        try expectEqual(verdict(.eperm), call(variant, "execveat", @splat(0)));
        try expectEqual(verdict(.eperm), call(variant, "sendmsg", @splat(0)));
        try expectEqual(verdict(.eperm), call(variant, "memfd_create", @splat(0)));
        try expectEqual(verdict(.eperm), call(variant, "setrlimit", @splat(0)));
        try expectEqual(verdict(.enosys), call(variant, "clone3", @splat(0)));
        try expectEqual(verdict(.enosys), call(variant, "io_uring_setup", @splat(0)));
        try expectEqual(verdict(.enotsup), call(variant, "setxattr", @splat(0)));
        inline for (policy.killed.calls) |name| {
            if (comptime numberOf(name) != null) {
                // Told, but nobody hears it: the kernel answers ENOSYS. The call is never made.
                try expectEqual(verdict(if (variant.tripped) .told else .kill), call(variant, name, @splat(0)));
            }
        }
    }
}

test "a profile adds what it names, and changes no other verdict" {
    @setEvalBranchQuota(400_000);
    inline for (variants) |variant| {
        const plain = Filter(.{ .tripped = variant.tripped });
        for (Filter(variant).table, plain.table, 0..) |with, without, number| {
            if (with == without) continue;
            try std.testing.expect(profilesName(variant, number));
        }
    }
}

test "each exception: allowed as it is meant, and no neighbour of it" {
    @setEvalBranchQuota(400_000);
    inline for (variants) |variant| inline for (comptime exceptionsOf(variant)) |exception| {
        const number = comptime numberOf(exception.call).?;
        const plain = Variant{ .tripped = variant.tripped };
        var good: [6]u64 = @splat(0);
        inline for (exception.conditions) |condition| good[condition.argument] = switch (condition.test_) {
            .one_of, .exactly => |values| values[values.len - 1],
            .not, .without, .zero => 0,
        };
        try expectEqual(verdict(.allow), call(variant, exception.call, good));
        try std.testing.expect(call(plain, exception.call, good) != verdict(.allow));
        inline for (exception.conditions) |condition| {
            for (0..if (condition.test_ == .exactly) 64 else 32) |bit| {
                var bad = good;
                bad[condition.argument] ^= @as(u64, 1) << @intCast(bit);
                // Some neighbours are what every worker may do.
                const expected = run(&Filter(plain).program, .{ .number = number, .arguments = bad });
                try expectEqual(expected, call(variant, exception.call, bad));
            }
        }
    };
}

fn profilesName(comptime variant: Variant, number: usize) bool {
    inline for (comptime profilesOf(variant)) |profile| {
        inline for (profile.allowed) |group| {
            inline for (group.calls) |name| if (comptime numberOf(name)) |known| if (known == number) return true;
        }
        inline for (profile.rules) |rule| if (comptime numberOf(rule.call)) |known| if (known == number) return true;
    }
    return false;
}

test "another architecture and x32 end the process, numbers from the future do not exist" {
    @setEvalBranchQuota(400_000);
    inline for (variants) |variant| {
        const program = &Filter(variant).program;
        try expectEqual(verdict(.kill), run(program, .{ .number = 0, .architecture = 0x40000003 }));
        try expectEqual(verdict(.kill), run(program, .{ .number = x32_first }));
        try expectEqual(verdict(.kill), run(program, .{ .number = 0xffff_ffff }));
        try expectEqual(verdict(.enosys), run(program, .{ .number = numbers_count }));
        try expectEqual(verdict(.enosys), run(program, .{ .number = x32_first - 1 }));
    }
}

test "each rule: allowed as it is meant, refused when any argument is perturbed" {
    @setEvalBranchQuota(400_000);
    inline for (variants) |variant| inline for (Filter(variant).rules) |rule| {
        const program = &Filter(variant).program;
        const number = comptime numberOf(rule.call).?;
        var good: [6]u64 = @splat(0);
        inline for (rule.conditions) |condition| good[condition.argument] = switch (condition.test_) {
            .one_of, .exactly => |values| values[values.len - 1],
            .not, .without, .zero => 0,
        };
        try expectEqual(verdict(.allow), run(program, .{ .number = number, .arguments = good }));
        inline for (rule.conditions) |condition| {
            var bad = good;
            const argument = &bad[condition.argument];
            switch (condition.test_) {
                .one_of => |values| {
                    for (values) |value| {
                        argument.* = value;
                        try expectEqual(verdict(.allow), run(program, .{ .number = number, .arguments = bad }));
                        // The kernel takes an int: what stands above it is no excuse.
                        argument.* = @as(u64, value) | 1 << 32;
                        try expectEqual(verdict(.allow), run(program, .{ .number = number, .arguments = bad }));
                    }
                    for (0..2048) |value| {
                        argument.* = value;
                        const listed = std.mem.findScalar(u32, values, @intCast(value)) != null;
                        try expectEqual(verdict(if (listed) .allow else rule.otherwise), run(program, .{ .number = number, .arguments = bad }));
                    }
                    argument.* = 0xdead_beef;
                },
                .not => |value| {
                    for (0..128) |other| {
                        argument.* = other;
                        try expectEqual(verdict(if (other == value) rule.otherwise else .allow), run(program, .{ .number = number, .arguments = bad }));
                    }
                    argument.* = 7 << 32 | @as(u64, value);
                },
                .without => |bits| argument.* = 0xffff_ffff_0000_0000 | @as(u64, bits),
                .zero => {
                    argument.* = 1;
                    try expectEqual(verdict(rule.otherwise), run(program, .{ .number = number, .arguments = bad }));
                    argument.* = 1 << 32;
                },
                .exactly => |values| {
                    for (values) |value| {
                        argument.* = value;
                        try expectEqual(verdict(.allow), run(program, .{ .number = number, .arguments = bad }));
                        for (0..64) |bit| {
                            argument.* = value ^ (@as(u64, 1) << @intCast(bit));
                            try expectEqual(verdict(rule.otherwise), run(program, .{ .number = number, .arguments = bad }));
                        }
                    }
                    argument.* = 0;
                },
            }
            try expectEqual(verdict(rule.otherwise), run(program, .{ .number = number, .arguments = bad }));
        }
    };
}
