//! Fresh memory for every invocation: the process as it was after the import, again and again.
//!
//! Called by runtime/loop. `prepare` says whether it can be done, `serve` takes the checkpoint and calls its body, and the
//! body ends each invocation with `rewind`, which calls the body anew from the checkpoint's state.
//! How: all private memory is copied into a sealed memory file (snapshot.zig) and mapped back over itself, privately: what is
//! written from then on becomes a page of the process's own. To go back, those pages are copied from the file (they stay,
//! so the next invocation takes no page fault for them). Which they are, PAGEMAP_SCAN tells; and as none can be added
//! without a page fault, the kernel's count of faults tells whether to ask at all.
//! Mapping the file over the memory costs more than copying it: a small checkpoint is not mapped ("settled") before its
//! second way back, or before the worker has rested; until then going back copies all of it. And the first way back goes
//! no further than what others may notice until one of the two is to be done: many workers are called once.
//! What always holds: the state of this file lies in one mapping, outside of what is put back; the way back runs on a
//! stack of its own in there; what cannot be put back ends the process, never passes for done.
const std = @import("std");
const assert = std.debug.assert;
const limits = @import("../limits.zig");
const channel = @import("../io/channel.zig");
const self = @import("../io/self.zig");
const signals = @import("../io/signals.zig");
const snapshot = @import("snapshot.zig");
const Belongings = @import("belongings.zig");
const Heap = @import("heap.zig");
const Layout = @import("layout.zig");
const mend = @import("mend.zig");
const Random = @import("random.zig");
const Watch = @import("watch.zig");
const stack_switch = @import("switch.zig");

const Checkpoint = @This();

place: stack_switch.Place,
generation: u64,
/// For measuring: how often the dirty pages were looked for, the mappings compared, and how long going back took.
scans: u64,
mends: u64,
/// How many invocations made system calls of their own.
asked_count: u64,
rewind_ns: u64,
stat: Belongings.Stat,
watch: Watch,
/// An address in each of the two writable mappings that may be shared: the loop's buffers, and its bodies.
shared_own: [2]usize,
/// When the last way back began: what has happened since may have made pages dirty.
faults: u64,
/// Of threads that have ended: an invocation that made any has asked for them.
faults_elsewhere: u64,
virtual_bytes: u64,
brk: usize,
/// Where the memory file can be read, and how much of it there is; of that, what was copied.
source: usize,
total_bytes: usize,
copied_bytes: usize,
/// The file is mapped over what was copied from it.
settled: bool,
/// Not yet, and it has to be now: the worker has rested, or copying cannot put this invocation's changes back.
due: bool,
/// Where the next invocation comes from.
channel_fd: self.Fd,
stack_bytes: usize,
areas_count: usize,
hot_count: usize,
hot_bytes: usize,
/// The generation that has learnt the dirty pages anew, and whether some were found long after it.
learnt: u64,
grown: bool,
random: Random,
belongings: Belongings,
heap: Heap,
areas: [limits.mappings_max]snapshot.Area,
hot: [limits.hot_ranges_max]Hot,
ranges: [limits.own_ranges_max]self.PageRange,
baseline: Layout,
current: Layout,
text: [64 * limits.kib]u8,
stack: [limits.checkpoint_stack_bytes_max]u8 align(64),
own_stack: [own_stack_bytes]u8 align(64),

/// The status of a worker that could not be put back (EXIT_BROKEN of gateway/zygote/child.py).
const exit_broken = 4;
/// Of one whose channel was closed (EXIT_OK).
const exit_ok = 0;
const own_stack_bytes = 64 * limits.kib;
/// Below the checkpoint's frame: cleared when it was used, given back below that.
const stack_keep_bytes = 256 * limits.kib;

/// Dirty pages of one area: copied from `source`, or cleared when that is 0.
const Hot = struct { target: usize, source: usize, bytes: usize };

pub const Error = self.Error || error{ TooMany, TooLarge, Shared };

/// Null until `prepare` has succeeded; never changes afterwards.
pub var control: ?*Checkpoint = null;
var reserved: ?*Checkpoint = null;

/// Before the jail closes: the kernel is told then where the selector is.
pub fn reserve() self.Error!struct { selector: usize, exempt: Watch.Exempt } {
    const c = try create();
    reserved = c;
    return .{ .selector = @intFromPtr(&c.watch.selector), .exempt = Watch.exempt() };
}

pub const Options = struct {
    /// Descriptors that may be open although they are no files.
    known: []const self.Fd,
    /// Address of the object behind `random.random` (see random.zig), or 0.
    random: usize,
    /// Whether /tmp is this worker's alone.
    tmp_own: bool,
    /// Whether the kernel dispatches system calls (jail/dispatch).
    dispatching: bool,
    /// The loop's buffers, which are shared and stay so.
    shared_own: usize,
    /// What jail/fds opened before the jail closed, or why it could not.
    files: union(enum) { opened: Belongings.Files, missing: []const u8 },
};

/// Whether a checkpoint can be taken of this process: null, or the reason why not, for people.
pub fn prepare(options: Options, reason: *[256]u8) ?[]const u8 {
    assert(control == null);
    if (!stack_switch.supported) return "checkpoints need an x86-64 processor";
    const files = switch (options.files) {
        .opened => |files| files,
        .missing => |why| return why,
    };
    const c = reserved orelse return "memory for the checkpoint was not reserved";
    c.heap.init() catch return "memory for the invocations' heap could not be reserved";
    c.watch.init(options.dispatching, &c.baseline);
    c.heap.watch = &c.watch;
    c.belongings.open(files) catch return "the descriptors of the rewinder could not be opened";
    c.belongings.tmp_own = options.tmp_own;
    if (c.belongings.note(options.known, reason)) |why| return why;
    if (c.belongings.blocks(signals.sigsys)) c.watch.forgo();
    var next: usize = 0;
    _ = self.pagesOwn(c.belongings.pagemap, 0, self.address_end, c.ranges[0..1], &next) catch
        return "the kernel has no PAGEMAP_SCAN (Linux 6.7 or newer has)";
    c.shared_own = .{ options.shared_own, 0 };
    c.random.init(options.random);
    control = c;
    return null;
}

/// Zeroed; guard pages on both sides keep the kernel from merging its mapping with others.
fn create() self.Error!*Checkpoint {
    const guard = self.page_bytes;
    const bytes = std.mem.alignForward(usize, @sizeOf(Checkpoint), self.page_bytes);
    const region = try self.reserve(bytes + 2 * guard);
    try self.protect(@intFromPtr(region.ptr), guard, 0);
    try self.protect(@intFromPtr(region.ptr) + guard + bytes, guard, 0);
    const c: *Checkpoint = @ptrCast(@alignCast(region.ptr + guard));
    return c;
}

/// Takes the checkpoint, then calls `body` once for each time that it ends with `rewind`; returns when it returns.
pub fn serve(c: *Checkpoint, body: stack_switch.Body, argument: *anyopaque) void {
    stack_switch.enter(&c.place, body, argument);
}

/// By the body, the first time it is called. The GIL is held, no other thread runs, the heap is installed.
pub fn take(c: *Checkpoint) Error!void {
    assert(c.generation == 0 and c.areas_count == 0);
    c.brk = self.brk(0);
    try c.baseline.read(c.belongings.maps, &c.text);
    try c.noteStack();
    try snapshot.take(c);
    c.heap.active = true;
    if (c.copied_bytes > limits.unsettled_bytes_max) try snapshot.settle(c) else try c.sizeNote();
    try c.random.reseed();
}

/// Between two invocations, in the checkpoint's state, before anything has changed it.
pub fn settle(c: *Checkpoint) Error!void {
    assert(!c.settled);
    try snapshot.settle(c);
    try c.random.reseed();
}

fn noteStack(c: *Checkpoint) Error!void {
    const stack = for (c.baseline.all()) |mapping| {
        if (mapping.kind == .stack) break mapping;
    } else return error.Other;
    if (c.place.stack < stack.start or c.place.stack >= stack.end) return error.Other;
    c.stack_bytes = stack.end - c.place.stack;
    if (c.stack_bytes > c.stack.len) return error.TooLarge;
    @memcpy(c.stack[0..c.stack_bytes], @as([*]const u8, @ptrFromInt(c.place.stack)));
}

/// What the mappings are now is how they are to be.
pub fn baselineRead(c: *Checkpoint) Error!void {
    try c.baseline.read(c.belongings.maps, &c.text);
    try c.sizeNote();
}

pub fn sizeNote(c: *Checkpoint) Error!void {
    c.stat = try c.belongings.read();
    c.virtual_bytes = c.stat.virtual_bytes;
}

/// Ends a process that cannot go back, after its answer, with the children that it left.
pub fn leave() void {
    if (self.hasChildren()) self.killGroup();
}

/// Where malloc's main heap ends.
pub fn heapEnd() usize {
    return self.brk(0);
}

// -- Going back ---------------------------------------------------------------------------------------------------

/// Before the answer is sent, when it has been written down: true if the process must end after it instead of going back.
pub fn inspect(c: *Checkpoint) bool {
    if (!c.watch.asked) return false;
    c.asked_count += 1;
    c.stat = c.belongings.read() catch return true;
    return c.belongings.leftovers(c.stat);
}

/// After `inspect` and the answer. Nothing of the stack below `serve` is used again.
pub fn rewind(c: *Checkpoint) noreturn {
    const top = std.mem.alignBackward(usize, @intFromPtr(&c.own_stack) + own_stack_bytes, 64);
    stack_switch.runOn(top, rewindHere, c);
}

fn rewindHere(argument: *anyopaque) callconv(.c) noreturn {
    const c: *Checkpoint = @ptrCast(@alignCast(argument));
    const started_ns = self.now();
    const asked = c.watch.asked;
    var rested_ns: u64 = 0;
    const mask_before = if (asked) signals.maskSet(std.math.maxInt(u64)) else 0;
    const faulted = c.faultsNote(asked);
    if (asked) c.belongings.restore(c.stat, mask_before) catch self.exit(exit_broken);
    if (!c.settled and c.generation == 0) {
        // Memory that nobody runs in may wait; what is open to others has been closed.
        const waited_from_ns = self.now();
        c.due = c.rested();
        rested_ns = self.now() - waited_from_ns;
        if (channel.isClosed(c.channel_fd)) self.exit(exit_ok);
    }
    c.memoryBack(asked, faulted) catch self.exit(exit_broken);
    c.random.reseed() catch self.exit(exit_broken);
    c.generation += 1;
    c.rewind_ns += self.now() - started_ns - rested_ns;
    if (asked) _ = signals.maskSet(c.belongings.mask);
    stack_switch.again(&c.place);
}

/// Whether there was a page fault since the way back before. The process's count takes three times as long as the thread's.
fn faultsNote(c: *Checkpoint, asked: bool) bool {
    const here = self.faultsCount(.thread);
    const elsewhere = if (asked) self.faultsCount(.process) - here else c.faults_elsewhere;
    defer c.faults = here;
    defer c.faults_elsewhere = elsewhere;
    return here != c.faults or elsewhere != c.faults_elsewhere;
}

/// Waits for the next invocation or the end of the channel. True: for long enough, and neither came.
pub fn rested(c: *const Checkpoint) bool {
    return !channel.ready(c.channel_fd, limits.unsettled_rest_ns / limits.ms_ns);
}

fn memoryBack(c: *Checkpoint, asked: bool, faulted: bool) Error!void {
    c.heap.reset();
    const relearn = c.settled and c.relearnIsDue();
    const remapped = asked and c.watch.remapped;
    var moved = false;
    if (asked or relearn) {
        const brk_now = self.brk(0);
        if (brk_now != c.brk and self.brk(c.brk) != c.brk) return error.NoMemory;
        moved = brk_now < c.brk or c.stat.virtual_bytes -% c.virtual_bytes != brk_now -% c.brk;
    }
    if (relearn) {
        c.hotDrop();
        c.learnt = c.generation;
        c.grown = false;
    }
    var strange = false;
    if (relearn or moved or faulted or !c.settled) {
        strange = try c.scan();
        c.grown = c.grown or c.generation - c.learnt > limits.hot_settle_count;
    }
    if (relearn or moved or strange or remapped) try mend.mend(c);
    if (!c.settled and (c.generation > 0 or remapped or c.due)) {
        try snapshot.settle(c);
        _ = try c.scan();
    }
    for (c.hot[0..c.hot_count]) |hot| {
        const target = @as([*]u8, @ptrFromInt(hot.target))[0..hot.bytes];
        if (hot.source == 0) @memset(target, 0) else @memcpy(target, @as([*]const u8, @ptrFromInt(hot.source)));
    }
    // Of the page that it begins in, the rest is below.
    const below = c.place.stack % self.page_bytes;
    @memset(@as([*]u8, @ptrFromInt(c.place.stack - below))[0..below], 0);
    @memcpy(@as([*]u8, @ptrFromInt(c.place.stack)), c.stack[0..c.stack_bytes]);
}

/// Early: what starting has touched is not what invocations do. Then when one has touched more than those before it,
/// which all later ones pay for; else rarely, for it takes as long as a hundred invocations, and the next one waits.
fn relearnIsDue(c: *const Checkpoint) bool {
    if (c.generation == limits.hot_settle_count) return true;
    const since = c.generation - c.learnt;
    return since >= limits.hot_relearn_count or (c.grown and since >= limits.hot_grown_count);
}

/// Finds the dirty pages anew. True: there are some where none should be.
fn scan(c: *Checkpoint) Error!bool {
    c.scans += 1;
    c.hot_count = 0;
    c.hot_bytes = 0;
    var strange = false;
    var at: usize = 0;
    var area_index: usize = 0;
    while (at < self.address_end) {
        const count = try self.pagesOwn(c.belongings.pagemap, at, self.address_end, &c.ranges, &at);
        for (c.ranges[0..count]) |range| {
            var start: usize = range.start;
            while (start < range.end) {
                while (area_index < c.areas_count and c.areas[area_index].end <= start) area_index += 1;
                if (area_index == c.areas_count or c.areas[area_index].start >= range.end) {
                    strange = true;
                    break;
                }
                const area = &c.areas[area_index];
                if (area.start > start) {
                    strange = true;
                    start = area.start;
                }
                const end = @min(area.end, range.end);
                c.hotAdd(area, start, end);
                start = end;
            }
        }
    }
    if (c.hot_bytes > limits.hot_keep_bytes) {
        if (c.settled) c.hotShrink() else c.due = true;
    }
    return strange;
}

fn hotAdd(c: *Checkpoint, area: *const snapshot.Area, start: usize, end: usize) void {
    const hot: Hot = switch (area.kind) {
        .ignored => return,
        // Relocated tables and the like: written only by who unprotected them. Not settled, they are what they were.
        .sealed => return if (c.settled) self.drop(start, end - start),
        .snapshot, .base => .{ .target = start, .source = area.source + (start - area.start), .bytes = end - start },
        .stack => hot: {
            const keep = std.mem.alignBackward(usize, c.place.stack, self.page_bytes) - stack_keep_bytes;
            if (start < keep) self.drop(start, @min(end, keep) - start);
            const first = @max(start, keep);
            const last = @min(end, std.mem.alignBackward(usize, c.place.stack, self.page_bytes));
            if (first >= last) return;
            break :hot .{ .target = first, .source = 0, .bytes = last - first };
        },
    };
    if (c.hot_count == c.hot.len) {
        if (c.settled) self.drop(start, end - start) else c.due = true;
        return;
    }
    c.hot[c.hot_count] = hot;
    c.hot_count += 1;
    c.hot_bytes += hot.bytes;
}

/// Dirty pages go, and come back clean with the next access; those below the stack's kept part, too.
fn hotDrop(c: *Checkpoint) void {
    for (c.hot[0..c.hot_count]) |hot| self.drop(hot.target, hot.bytes);
    c.hot_count = 0;
    c.hot_bytes = 0;
}

/// Large ranges are not copied time after time.
fn hotShrink(c: *Checkpoint) void {
    var kept: usize = 0;
    for (c.hot[0..c.hot_count]) |hot| {
        if (hot.source != 0 and hot.bytes >= limits.hot_drop_bytes) {
            self.drop(hot.target, hot.bytes);
            c.hot_bytes -= hot.bytes;
        } else {
            c.hot[kept] = hot;
            kept += 1;
        }
    }
    c.hot_count = kept;
}

/// What zc_worker_figures tells, in its order.
pub const Figures = extern struct {
    generation: u64 = 0,
    scans: u64 = 0,
    mends: u64 = 0,
    rewind_ns: u64 = 0,
    hot_pages: u64 = 0,
    hot_ranges: u64 = 0,
    heap_bytes_max: u64 = 0,
    snapshot_bytes: u64 = 0,
    asked: u64 = 0,
};

pub fn figures(c: *const Checkpoint) Figures {
    return .{
        .generation = c.generation,
        .scans = c.scans,
        .mends = c.mends,
        .rewind_ns = c.rewind_ns,
        .hot_pages = c.hot_bytes / self.page_bytes,
        .hot_ranges = c.hot_count,
        .heap_bytes_max = c.heap.used_bytes_max,
        .snapshot_bytes = c.total_bytes,
        .asked = c.asked_count,
    };
}
