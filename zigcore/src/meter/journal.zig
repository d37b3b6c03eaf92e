//! The node's crash-safe log of usage records: one reactor's part, in mapped segment files.
//!
//! Called by pool/ (`reserve` at admission, `write` when an invocation is settled) on the reactor's thread and by
//! abi/gateway.zig (`give`) on the host's, which creates the files, syncs and ships them (gateway/host/journal.py).
//! A store to a mapped file survives `kill -9` of the process; the host's fdatasync bounds what a power cut can take.
//!
//! A segment: one page of header, then slots of 128 bytes, each with a CRC32C of its own. `committed` in the header is
//! moved after the slot is whole, so a reader never sees half a record, and recovery needs to check only what lies
//! behind it. What always holds: an admitted invocation has a slot reserved, so writing cannot fail; with no room in the
//! segment and none given in time, `reserve` refuses and the invocation never runs.
//!
//! Beside the segments each reactor has a table of what is in flight: a row per invocation, set at admission, emptied
//! once its record is written. After a crash it says which invocations had begun and never ended.
const std = @import("std");
const assert = std.debug.assert;
const limits = @import("../limits.zig");
const sys = @import("../io/sys.zig");
const crc32c = @import("../io/crc32c.zig").hash;
const Record = @import("usage.zig").Record;

const Journal = @This();

/// Where segments are mapped: one written, one waiting, one retired until the host looks.
places: []align(4096) u8,
/// Of the segment that is written; null before the first.
current: ?*Segment = null,
current_place: u8 = 0,
at: u32 = 0,
/// Slots that admitted invocations will write.
reserved: u32 = 0,
next: std.atomic.Value(?*Segment) = .init(null),
/// Written by the host's thread only.
given: u8 = 0,
inflight: ?*[limits.inflight_max]Inflight = null,

pub const magic = "TCJRNL01".*;

pub const Header = extern struct {
    magic: [8]u8,
    /// First half of every invocation id in it: node and epoch.
    node: u64,
    number: u64,
    /// Bytes from the start of the file that are whole.
    committed: std.atomic.Value(u64),
    /// No record will follow.
    sealed: std.atomic.Value(u64),
    reserved: [4056]u8,
};

pub const Slot = extern struct {
    /// Of everything behind it.
    crc: u32,
    kind: u32,
    record: Record,
    /// The id's text, zeros behind it.
    version_id: [32]u8,

    pub const kind_usage: u32 = 1;
};

pub const Segment = extern struct {
    header: Header,
    slots: [limits.journal_slots_max]Slot,
};

/// What had begun: an all-zero id means empty.
pub const Inflight = extern struct {
    invocation_id: [16]u8,
    arrived_unix_ns: u64,
    version_id: [32]u8,
    reserved: u64 = 0,
};

comptime {
    assert(@sizeOf(Header) == 4096);
    assert(@sizeOf(Slot) == 128);
    assert(@sizeOf(Inflight) == 64);
    assert(@sizeOf(Segment) == limits.journal_segment_bytes);
}

const places_count = 3;

pub fn init() sys.Error!Journal {
    return .{ .places = try sys.mapReserve(places_count * limits.journal_segment_bytes + inflight_bytes) };
}

const inflight_bytes = std.mem.alignForward(usize, limits.inflight_max * @sizeOf(Inflight), 4096);

pub const GiveError = sys.Error || error{NotNeeded};

/// The host's thread: an empty file of `journal_segment_bytes`, allocated on disk, becomes the next segment.
pub fn give(journal: *Journal, fd: sys.Fd, node: u64, number: u64) GiveError!void {
    if (journal.next.load(.acquire) != null) return error.NotNeeded;
    // Of three places one is being written and none waits: the third was retired before the second was taken.
    const place: usize = journal.given % places_count;
    const bytes = journal.places[place * limits.journal_segment_bytes ..][0..limits.journal_segment_bytes];
    try sys.mapShared(@alignCast(bytes), fd);
    const segment: *Segment = @ptrCast(@alignCast(bytes));
    segment.header.magic = magic;
    segment.header.node = node;
    segment.header.number = number;
    segment.header.sealed.store(0, .monotonic);
    // Every page is touched here, so that the reactor never waits for one.
    for (0..limits.journal_segment_bytes / 4096) |page| bytes[page * 4096 + 4095] = 0;
    segment.header.committed.store(@sizeOf(Header), .release);
    journal.given +%= 1;
    if (journal.given == places_count * 64) journal.given = 0;
    journal.next.store(segment, .release);
}

/// The host's thread, before the reactor runs: the file for what is in flight.
pub fn giveInflight(journal: *Journal, fd: sys.Fd) sys.Error!void {
    const bytes = journal.places[places_count * limits.journal_segment_bytes ..][0..inflight_bytes];
    try sys.mapShared(@alignCast(bytes), fd);
    @memset(bytes, 0);
    journal.inflight = @ptrCast(@alignCast(bytes));
}

/// Whether the host should give a segment.
pub fn wants(journal: *const Journal) bool {
    return journal.next.load(.acquire) == null;
}

/// Promises a slot to an invocation. False: there is no room on the disk, so it must not run. Without a table of what is
/// in flight nobody keeps books here (a data plane without a host), and everything is promised.
pub fn reserve(journal: *Journal) bool {
    if (journal.inflight == null) return true;
    const left = if (journal.current != null) limits.journal_slots_max - journal.at else 0;
    if (journal.reserved >= left) {
        const more: u32 = if (journal.next.load(.acquire) != null) limits.journal_slots_max else 0;
        if (journal.reserved >= left + more) return false;
    }
    journal.reserved += 1;
    return true;
}

/// The invocation never was: it was refused after all.
pub fn giveBack(journal: *Journal) void {
    if (journal.inflight == null) return;
    assert(journal.reserved > 0);
    journal.reserved -= 1;
}

/// What is in flight; `index` is the invocation's place in the reactor's set.
pub fn begin(journal: *Journal, index: u32, invocation_id: [16]u8, arrived_unix_ns: u64, version_id: []const u8) void {
    const rows = journal.inflight orelse return;
    const row = &rows[index];
    row.arrived_unix_ns = arrived_unix_ns;
    row.version_id = padded(version_id);
    row.invocation_id = invocation_id;
}

/// Cannot fail: the slot was reserved.
pub fn write(journal: *Journal, index: u32, record: *const Record, version_id: []const u8) void {
    const rows = journal.inflight orelse return;
    assert(journal.reserved > 0);
    if (journal.current == null or journal.at == limits.journal_slots_max) journal.turn();
    const segment = journal.current.?;
    const slot = &segment.slots[journal.at];
    slot.kind = Slot.kind_usage;
    slot.record = record.*;
    slot.version_id = padded(version_id);
    slot.crc = crc32c(std.mem.asBytes(slot)[@sizeOf(u32)..]);
    journal.at += 1;
    journal.reserved -= 1;
    segment.header.committed.store(@sizeOf(Header) + @as(u64, journal.at) * @sizeOf(Slot), .release);
    rows[index].invocation_id = @splat(0);
}

/// The current segment is full; the next one was there when the slot was reserved.
fn turn(journal: *Journal) void {
    if (journal.current) |full| full.header.sealed.store(1, .release);
    journal.current = journal.next.load(.acquire).?;
    journal.at = 0;
    journal.next.store(null, .release);
}

/// How many of the slots in `bytes` are whole, from the first on, as bytes.
pub fn valid(bytes: []const u8) usize {
    var at: usize = 0;
    while (at + @sizeOf(Slot) <= bytes.len) : (at += @sizeOf(Slot)) {
        const slot = bytes[at..][0..@sizeOf(Slot)];
        if (std.mem.readInt(u32, slot[0..4], .little) != crc32c(slot[4..])) break;
    }
    return at;
}

fn padded(text: []const u8) [32]u8 {
    var out: [32]u8 = @splat(0);
    const bytes = @min(text.len, out.len);
    @memcpy(out[0..bytes], text[0..bytes]);
    return out;
}

fn testRecord(n: u64) Record {
    var record: Record = std.mem.zeroes(Record);
    record.cpu_ns = n;
    record.outcome = .ok;
    return record;
}

test "records are written whole, segments follow each other, and without room nothing is promised" {
    var journal: Journal = try .init();
    const first = try sys.memfdSealed(limits.journal_segment_bytes);
    defer sys.close(first);
    const second = try sys.memfdSealed(limits.journal_segment_bytes);
    defer sys.close(second);
    const table = try sys.memfdSealed(inflight_bytes);
    defer sys.close(table);
    try std.testing.expect(journal.reserve()); // nobody keeps books yet
    try journal.giveInflight(table);
    try std.testing.expect(!journal.reserve());
    try std.testing.expect(journal.wants());
    try journal.give(first, 7, 1);
    try std.testing.expectError(error.NotNeeded, journal.give(second, 7, 2));
    for (0..limits.journal_slots_max) |_| try std.testing.expect(journal.reserve());
    try std.testing.expect(!journal.reserve());
    journal.giveBack();
    try std.testing.expect(journal.reserve());
    for (0..limits.journal_slots_max) |n| journal.write(0, &testRecord(n), "ver_1");
    const full = journal.current.?;
    try std.testing.expectEqual(limits.journal_segment_bytes, full.header.committed.load(.acquire));
    try std.testing.expectEqual(0, full.header.sealed.load(.acquire));
    const slot = &full.slots[limits.journal_slots_max - 1];
    try std.testing.expectEqual(crc32c(std.mem.asBytes(slot)[4..]), slot.crc);
    try std.testing.expectEqual(limits.journal_slots_max - 1, slot.record.cpu_ns);
    try std.testing.expectEqualStrings("ver_1", std.mem.sliceTo(&slot.version_id, 0));
    try std.testing.expectEqual(@sizeOf(@TypeOf(full.slots)), valid(std.mem.asBytes(&full.slots)));
    full.slots[2].record.cpu_ns += 1;
    try std.testing.expectEqual(2 * @sizeOf(Slot), valid(std.mem.asBytes(&full.slots)));
    try std.testing.expect(!journal.reserve());

    try journal.give(second, 7, 2);
    try std.testing.expect(journal.reserve());
    journal.write(0, &testRecord(5), "a version's id that is far longer than 32 bytes");
    try std.testing.expectEqual(1, full.header.sealed.load(.acquire));
    try std.testing.expectEqual(2, journal.current.?.header.number);
    try std.testing.expectEqual(4096 + 128, journal.current.?.header.committed.load(.acquire));
    try std.testing.expect(journal.wants());
}

test "what is in flight is listed until its record is written" {
    var journal: Journal = try .init();
    const segment = try sys.memfdSealed(limits.journal_segment_bytes);
    defer sys.close(segment);
    const table = try sys.memfdSealed(inflight_bytes);
    defer sys.close(table);
    try journal.give(segment, 7, 1);
    try journal.giveInflight(table);
    try std.testing.expect(journal.reserve());
    journal.begin(3, @splat(9), 42, "ver_x");
    try std.testing.expectEqual(42, journal.inflight.?[3].arrived_unix_ns);
    journal.write(3, &testRecord(1), "ver_x");
    try std.testing.expectEqual(@as([16]u8, @splat(0)), journal.inflight.?[3].invocation_id);
}
