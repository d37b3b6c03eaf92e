//! Hard limits, set once, downwards only: what a worker can never exceed, whatever its tier.
//!
//! Called by apply. They are the backstop: no bound of memory (shared memory and tmpfs are not counted in them).
//! What always holds: where soft is below hard (descriptors, threads) the filter keeps the worker from raising it; the
//! gateway moves it, from outside, when the version's limits change.
const confine = @import("../io/confine.zig");
const limits = @import("../limits.zig");
const Config = @import("config.zig").Config;

const Resource = enum(u32) { cpu = 0, fsize = 1, core = 4, nproc = 6, nofile = 7, memlock = 8, as = 9, sigpending = 11, msgqueue = 12, nice = 13, rtprio = 14 };

/// Queued signals, timers of timer_create included.
const signals_pending_max = 256;

pub fn set(config: *const Config) confine.Error!void {
    if (!config.has(.rlimits)) return;
    try lowerTo(.nofile, config.descriptors, config.descriptors_max);
    // Threads count as processes: of this user in this user namespace.
    try lowerTo(.nproc, config.threads, config.threads_max);
    // Of its whole life: a worker that nobody ends, because the gateway hangs, ends.
    try lower(.cpu, 2 * limits.worker_cpu_ns_max / limits.s_ns);
    try lower(.as, config.address_space_bytes);
    try lower(.fsize, config.tmp_bytes);
    try lower(.sigpending, signals_pending_max);
    inline for (.{ .core, .memlock, .msgqueue, .nice, .rtprio }) |resource| try lower(resource, 0);
}

/// What the zygote was given may be less already.
fn lower(resource: Resource, value: u64) confine.Error!void {
    try lowerTo(resource, value, value);
}

fn lowerTo(resource: Resource, soft: u64, hard_wanted: u64) confine.Error!void {
    const hard = @min(hard_wanted, try confine.hardLimit(@backingInt(resource)));
    try confine.setLimit(@backingInt(resource), @min(soft, hard), hard);
}
