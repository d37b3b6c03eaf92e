//! Whether the reactor goes before its workers, or beside them.
//!
//! Called by reactor.zig once per turn. Beside them is the rule: a worker is handed the CPU by a yield, which only threads
//! of the same class hand to each other, and a reactor that went first would interrupt it with each packet. Where
//! somebody burns, nobody is yielded to (pool/burn), and a thread of the ordinary class that wakes up may have to wait for
//! those that the kernel owes more: 4 to 8 ms, twice per call, were measured (docs/decisions/0014). So it goes first then,
//! as long as it needs little. What always holds: a reactor that is kept busy by its clients is beside its workers, so
//! that no flood of requests stops them.
const std = @import("std");
const limits = @import("../limits.zig");
const clock = @import("../io/clock.zig");
const sched = @import("../io/sched.zig");

const Standing = @This();

first: bool = false,
/// Not before, after it needed much, or was refused.
first_after_ns: u64 = 0,
/// When its own CPU clock was read last, and what it said.
looked_ns: u64 = 0,
cpu_ns: u64 = 0,

/// As a reactor begins.
pub fn common() void {
    sched.shortSlices();
}

pub fn tick(s: *Standing, now_ns: u64, crowded: bool) void {
    if (!s.first) {
        if (!crowded or now_ns < s.first_after_ns) return;
        sched.aheadSet() catch {
            // No right to it: that will not change.
            s.first_after_ns = std.math.maxInt(u64);
            return;
        };
        s.first = true;
        s.looked_ns = now_ns;
        s.cpu_ns = clock.cpuOfThread();
        return;
    }
    if (!crowded) return s.back();
    const passed_ns = now_ns - s.looked_ns;
    if (passed_ns < limits.first_look_ns) return;
    const cpu_ns = clock.cpuOfThread();
    if ((cpu_ns -| s.cpu_ns) * limits.first_cpu_parts_count > passed_ns) {
        s.first_after_ns = now_ns + limits.first_pause_ns;
        return s.back();
    }
    s.looked_ns = now_ns;
    s.cpu_ns = cpu_ns;
}

fn back(s: *Standing) void {
    common();
    s.first = false;
}

test "it goes first while somebody burns, and never where it needs much" {
    const Thread = struct {
        fn run(result: *?anyerror) void {
            check() catch |err| {
                result.* = err;
            };
        }
        fn check() !void {
            var s: Standing = .{};
            s.tick(1, false);
            try std.testing.expect(!s.first);
            s.tick(2, true);
            // Where nobody may go first, that is remembered.
            if (!s.first) return std.testing.expectEqual(std.math.maxInt(u64), s.first_after_ns);
            s.tick(3, true);
            try std.testing.expect(s.first);
            // All the time that has passed was its own.
            s.looked_ns = 3;
            s.cpu_ns = clock.cpuOfThread();
            while (clock.cpuOfThread() - s.cpu_ns < limits.first_look_ns) {}
            s.tick(3 + limits.first_look_ns, true);
            try std.testing.expect(!s.first);
            s.tick(4 + limits.first_look_ns, true);
            try std.testing.expect(!s.first);
            s.tick(3 + limits.first_look_ns + limits.first_pause_ns, true);
            try std.testing.expect(s.first);
            s.tick(4 + limits.first_look_ns + limits.first_pause_ns, false);
            try std.testing.expect(!s.first);
        }
    };
    var result: ?anyerror = null;
    const thread = try std.Thread.spawn(.{}, Thread.run, .{&result});
    thread.join();
    if (result) |err| return err;
}
