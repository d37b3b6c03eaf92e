//! The table in use and the one before or after it, each in memory taken at start.
//!
//! Called by the host's thread in abi/gateway.zig: `prepare` builds the new table in the region that nobody uses
//! (route/revision.zig), the caller swaps it in on every reactor, `commit` makes the other region the spare one.
//! What always holds: on any error nothing changes for those who are served.
const std = @import("std");
const assert = std.debug.assert;
const pages = @import("../io/pages.zig");
const revision = @import("revision.zig");
const Table = @import("table.zig").Table;

pub const Error = revision.Error;

/// Two regions, one in use. About 170 MiB of address space, resident only where documents have reached.
pub const Revisions = struct {
    regions: [2]revision.Region,
    tables: [2]Table,
    state: enum(u8) { empty = 0, first = 1, second = 2 },
    /// `prepare` succeeded and `commit` has not come yet.
    prepared: bool,
    /// The spare region holds a whole table.
    has_previous: bool,
    seed: u64,

    /// `seed`: random, per process.
    pub fn create(seed: u64) error{OutOfMemory}!*Revisions {
        const revisions = try pages.create(Revisions);
        assert(revisions.state == .empty and !revisions.prepared);
        revisions.seed = seed;
        return revisions;
    }

    pub fn destroy(revisions: *Revisions) void {
        pages.destroy(Revisions, revisions);
    }

    /// The table that was in use before, until the next `prepare`; null: there is none, or it is being overwritten.
    pub fn previous(revisions: *const Revisions) ?*const Table {
        return if (revisions.has_previous) &revisions.tables[revisions.spare()] else null;
    }

    fn spare(revisions: *const Revisions) usize {
        return if (revisions.state == .first) 1 else 0;
    }

    /// The table in use; null before the first `commit`.
    pub fn current(revisions: *const Revisions) ?*const Table {
        return switch (revisions.state) {
            .empty => null,
            .first => &revisions.tables[0],
            .second => &revisions.tables[1],
        };
    }

    /// Decodes and checks. The table is the spare region's: valid until the next `prepare`, for good after `commit`.
    /// `message` (zc_error.text) receives a NUL-terminated text on error.
    pub fn prepare(revisions: *Revisions, document: []const u8, message: *[512]u8) Error!*Table {
        revisions.prepared = false;
        revisions.has_previous = false;
        const at = revisions.spare();
        try revision.decode(&revisions.regions[at], document, revisions.seed, &revisions.tables[at], message);
        revisions.prepared = true;
        return &revisions.tables[at];
    }

    /// After every reactor has taken the prepared table and none holds anything of the other.
    pub fn commit(revisions: *Revisions) void {
        assert(revisions.prepared);
        revisions.prepared = false;
        revisions.has_previous = revisions.state != .empty;
        revisions.state = if (revisions.state == .first) .second else .first;
    }
};
