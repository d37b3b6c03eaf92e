//! Whether a new worker gets a reservation: a claim in the ledger, a place on a reserved CPU, the kernel's word.
//!
//!     take (the books) → the zygote forks it into the CPU's partition → it is ready → the kernel admits it: deadline
//!
//! Called by pool/pool.zig (start, swap), answer (ready), reap (refused, free) and dispatch (a better place). Under the
//! ordinary class until it is ready: an import is not cut into slices. What always holds: `w.deadline` means that the
//! kernel has admitted this worker; a claim is given back once its process has ended; whatever is refused (books full,
//! EBUSY, no partition) ends in best effort or in the queue, as the tier says, and never in a failed version.
const std = @import("std");
const assert = std.debug.assert;
const limits = @import("../limits.zig");
const sched = @import("../io/sched.zig");
const Ledger = @import("../admit/ledger.zig");
const Pool = @import("pool.zig");
const Version = @import("version.zig");
const Worker = @import("worker.zig");
const reap = @import("reap.zig");

pub const Place = union(enum) {
    /// On the reactor's own CPU.
    shared,
    /// The same, to prove the version and for nothing else: its calls wait for a reservation.
    shared_once,
    /// Index of a claim.
    reserved: u16,
    /// Not now.
    wait,
};

/// Where the next worker of a version goes. `improving`: it has workers, on a reserved CPU or not at all.
pub fn placeFor(p: *Pool, version: *const Version, improving: bool) Place {
    if (version.reservation.runtime_us == 0) return if (improving) .wait else .shared;
    const who = @intFromPtr(version);
    const answer = p.ledger.take(who, version.tenant_key, version.reservation, p.now_ns);
    switch (answer) {
        .taken => |claim| return .{ .reserved = claim },
        .spent, .full => {
            const waits = !improving and !version.reservation.fallback and !version.probe and version.workers == 0;
            if (waits) p.ledger.wait(who, version.tenant_key, version.reservation, p.now_ns);
            // An idle worker of the tenant's other versions is in the way of one that is wanted now.
            if (answer == .spent and evict(p, version, .own)) return .wait;
            if (improving) return .wait;
            if (version.reservation.fallback) return .shared;
            if (version.probe) return .shared_once;
            // Other reactors' workers may be in the way, too: they look (`isWanted`).
            if (!(answer == .full and evict(p, version, .any)) and version.workers == 0) p.ledger.ask(version.tenant_key, answer == .spent);
            return .wait;
        },
        // Not on this machine: said in every answer, and by the doctor.
        .nowhere => return if (improving) .wait else .shared,
    }
}

/// A worker with a claim is ready. False: the kernel did not admit it; it ends, and another is started elsewhere.
pub fn confirm(p: *Pool, w: *Worker) bool {
    assert(w.state == .starting and w.claim != Ledger.none and !w.deadline);
    const reservation = p.versions[w.version].reservation;
    // Its tier changed, or the zygote's word on it has not come yet.
    const settled = w.pid > 0 and reservation.runtime_us > 0;
    if (settled) {
        if (sched.deadlineSet(w.pid, reservation.runtime_us, reservation.deadline_us, reservation.period_us)) {
            w.deadline = true;
            p.counters.add(.reservations_admitted_total, 1);
            return true;
        } else |err| {
            const pause_ns: u64 = if (err == error.Full) limits.reserved_full_pause_ns else limits.reserved_broken_pause_ns;
            p.ledger.close(w.claim, p.now_ns + pause_ns);
        }
    }
    again(p, w);
    return false;
}

/// The zygote could not make it: no partition, most likely.
pub fn refused(p: *Pool, w: *Worker) void {
    assert(w.state == .starting and w.claim != Ledger.none);
    p.ledger.close(w.claim, p.now_ns + limits.reserved_broken_pause_ns);
    again(p, w);
}

fn again(p: *Pool, w: *Worker) void {
    p.counters.add(.reservations_refused_total, 1);
    const index = w.version;
    const version = &p.versions[index];
    if (w.probe and version.current) version.probe = true;
    reap.stop(p, w);
    p.want(index);
}

/// A worker without reservation became free, of a version that should have one: try for a better one, not too often.
pub fn improve(p: *Pool, index: u32) void {
    const version = &p.versions[index];
    if (!p.ledger.exists() or p.now_ns < version.improve_after_ns or !version.current) return;
    version.improve_after_ns = p.now_ns + limits.reserved_full_pause_ns;
    version.improving = true;
    p.want(index);
}

/// The process has ended.
pub fn release(p: *Pool, w: *Worker) void {
    if (w.claim == Ledger.none) return;
    p.ledger.give(w.claim);
    w.claim = Ledger.none;
    w.deadline = false;
}

/// The tier's reservation is another one now: those who have the old one end after what they do, and so do those who have
/// none where calls are meant to wait for one.
pub fn renew(p: *Pool, index: u32) void {
    const reservation = p.versions[index].reservation;
    const waits = reservation.runtime_us > 0 and !reservation.fallback and p.ledger.exists();
    for (p.workers) |*w| {
        if (w.version != index or w.claim == Ledger.none and !waits) continue;
        switch (w.state) {
            .idle => reap.stop(p, w),
            .busy => w.stop_after = true,
            // `confirm` takes what is in force then, if it fits what was claimed.
            .starting => w.stop_after = true,
            .free, .stopping, .dying => {},
        }
    }
}

/// Whether a worker that does nothing must make room for a call that waits at another reactor, or for another version.
pub fn isWanted(p: *Pool, w: *const Worker) bool {
    if (w.claim == Ledger.none) return false;
    const version = &p.versions[w.version];
    return switch (p.ledger.wanted(w.claim)) {
        .no => false,
        .own => true,
        .any => version.workers > version.workers_min,
    };
}

/// Ends the worker with a reservation that has been idle longest; true: room is on its way.
fn evict(p: *Pool, wanting: *const Version, whose: enum { own, any }) bool {
    var oldest: ?*Worker = null;
    for (p.workers) |*w| {
        if (w.claim == Ledger.none) continue;
        const version = &p.versions[w.version];
        if (version == wanting) continue;
        if (whose == .own and version.tenant_key != wanting.tenant_key) continue;
        switch (w.state) {
            .stopping, .dying => return true,
            .idle => if (version.workers > version.workers_min or whose == .own) {
                if (oldest == null or w.idle_since_ns < oldest.?.idle_since_ns) oldest = w;
            },
            .free, .starting, .busy => {},
        }
    }
    reap.stop(p, oldest orelse return false);
    return true;
}
