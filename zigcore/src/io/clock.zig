//! Reads clocks; everything else receives the time as `now_ns`, read once per turn of a reactor's loop.
//!
//! Why here: tests give any time they like, and the hot path reads a clock once for a batch of completions.
//! Called by reactor, pool/ (the worker's CPU clock) and abi/. libc is used since it answers from the vDSO.
const std = @import("std");

const Timespec = extern struct { seconds: i64, nanoseconds: i64 };
extern "c" fn clock_gettime(clock: i32, time: *Timespec) c_int;

const realtime_id = 0;
const monotonic_id = 1;

fn read(clock: i32) ?u64 {
    var time: Timespec = undefined;
    if (clock_gettime(clock, &time) != 0) return null;
    return @as(u64, @intCast(time.seconds)) * std.time.ns_per_s + @as(u64, @intCast(time.nanoseconds));
}

pub fn monotonic() u64 {
    return read(monotonic_id).?;
}

pub fn realtime() u64 {
    return read(realtime_id).?;
}

/// CPU time of the calling thread.
pub fn cpuOfThread() u64 {
    const thread_id = 3;
    return read(thread_id) orelse 0;
}

/// CPU time that a process has used, all its threads: a system call of about 0.3 µs. Null once the process is gone.
pub fn cpuOf(pid: i32) ?u64 {
    if (pid <= 0) return null;
    const scheduler_clock = 2;
    return read((~pid << 3) | scheduler_clock);
}

const days = [_]*const [3]u8{ "Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed" };
const months = [_]*const [3]u8{ "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec" };

pub const date_bytes = 29;

/// "Sun, 06 Nov 1994 08:49:37 GMT" (RFC 9110 section 5.6.7) of a CLOCK_REALTIME reading.
pub fn httpDate(realtime_ns: u64, out: *[date_bytes]u8) void {
    const epoch: std.time.epoch.EpochSeconds = .{ .secs = realtime_ns / std.time.ns_per_s };
    const day = epoch.getEpochDay();
    const year = day.calculateYearDay();
    const month = year.calculateMonthDay();
    const time = epoch.getDaySeconds();
    const text = std.fmt.bufPrint(out, "{s}, {d:0>2} {s} {d:0>4} {d:0>2}:{d:0>2}:{d:0>2} GMT", .{
        days[@intCast(day.day % 7)],          month.day_index + 1,
        months[@backingInt(month.month) - 1], year.year,
        time.getHoursIntoDay(),               time.getMinutesIntoHour(),
        time.getSecondsIntoMinute(),
    }) catch unreachable;
    std.debug.assert(text.len == date_bytes);
}

test "the date of RFC 9110" {
    var out: [date_bytes]u8 = undefined;
    httpDate(784111777 * std.time.ns_per_s, &out);
    try std.testing.expectEqualStrings("Sun, 06 Nov 1994 08:49:37 GMT", &out);
}

test "the CPU clock of this process runs, that of no process does not" {
    try std.testing.expect(cpuOf(@intCast(std.os.linux.getpid())).? > 0);
    try std.testing.expectEqual(null, cpuOf(-1));
}
