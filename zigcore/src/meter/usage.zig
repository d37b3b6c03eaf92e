//! The usage record: what one admitted invocation consumed. Exactly one each, whatever became of it.
//!
//! Filled by pool/ when an invocation is settled, before the first byte of its answer leaves; read by whoever keeps the
//! books (meter/journal.zig, the host). Every number is measured by the gateway, none is the worker's word.
//! Names are not in it: `version` is `VersionRow.index`, and the revision in use says whose it is.
const std = @import("std");
const assert = std.debug.assert;
const Outcome = @import("counters.zig").Outcome;

pub const Record = extern struct {
    invocation_id: [16]u8,
    /// Realtime, ns: when the request was complete.
    arrived_unix_ns: u64,
    /// From the complete request to the dispatch.
    queue_ns: u64,
    /// Part of `queue_ns` that a worker's start took; 0: a warm one was there.
    start_ns: u64,
    /// From the dispatch to the answer, or to the end of the worker.
    wall_ns: u64,
    /// The process's CPU clock, all its threads; 0: not executed.
    cpu_ns: u64,
    /// Peak of the worker's private memory.
    memory_bytes: u64,
    request_bytes: u32,
    response_bytes: u32,
    log_bytes: u32,
    version: u32,
    /// Of the answer.
    status: u16,
    outcome: Outcome,
    flags: Flags,
    reserved: u32 = 0,
};

pub const Flags = packed struct(u8) {
    cold: bool = false,
    /// It ran under a reservation that the kernel had admitted.
    deadline: bool = false,
    /// Dispatched to a worker: it ran and counts. Refused ones are never billed.
    executed: bool = false,
    reserved: u5 = 0,
};

comptime {
    assert(@sizeOf(Record) == 88);
    assert(@sizeOf(Outcome) == 1);
}
