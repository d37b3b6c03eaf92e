//! Descriptors: 0–2 (nowhere), 3 the channel, 4 the shared memory; of a worker that rewinds itself the five of `rewinder`.
//!
//! Called by apply: first, when everything else is closed, and again once the worker is nobody in particular. For a while
//! there are two more, the zygote's ear and a handle of the worker's own folder in /proc, which a jail does not have.
//! gateway/zygote/child.py has put the first five in place.
//! What always holds: a file of /proc is opened with the worker's own, final rights: what root opens shows physical
//! addresses to whoever reads it later.
const confine = @import("../io/confine.zig");
const Config = @import("config.zig").Config;

pub const workers_count = 5;
/// Until `keepWorkers`.
pub const zygote: confine.Fd = 10;
const own_folder: confine.Fd = 11;

/// What runtime/checkpoint asks the kernel about its own process, and the file that its memory is copied into. Tenant
/// code in the process can read them, too: they tell it nothing about anybody else, and policy.zig bounds the rest.
pub const Rewinder = struct {
    pub const pagemap: confine.Fd = 5;
    pub const maps: confine.Fd = 6;
    pub const stat: confine.Fd = 7;
    pub const timers: confine.Fd = 8;
    pub const memory: confine.Fd = 9;
    pub const count = 5;
};

/// Of a worker that forks, until it is ready: it looks for memory that it would share with its invocations
/// (runtime/leavings).
pub const forked_maps: confine.Fd = 5;
pub var forked_maps_open = false;

/// Why they could not be opened: without them a worker starts, and says so when it is asked to rewind.
pub var rewinder_missing: ?[]const u8 = "this worker was not started to rewind itself";

/// Closes all but the worker's own and `ear`, which becomes `zygote`; negative: there is none.
pub fn keepOnly(config: *const Config, ear: confine.Fd) confine.Error!void {
    var next: confine.Fd = workers_count;
    if (ear >= 0) {
        if (ear < workers_count) return confine.refuse("the zygote's descriptor is one of the worker's");
        if (ear != zygote) try confine.moveTo(ear, zygote);
        try confine.closeBetween(next, zygote - 1);
        next = zygote + 1;
    }
    try confine.closeFrom(next);
    if (config.state != .fresh and config.state != .forked) return;
    const folder = confine.openAt(confine.at_fdcwd, "/proc/self", confine.o_path, 0) catch {
        rewinder_missing = "there is no /proc on this machine";
        return;
    };
    if (folder != own_folder) try confine.moveTo(folder, own_folder);
    if (config.state != .fresh) return;
    // Its size before there is a limit on the size of files; what is not written to takes no memory.
    const memory = try confine.memoryFile("tailcut-checkpoint");
    try confine.setFileSize(memory, config.address_space_bytes / 2);
    if (memory != Rewinder.memory) try confine.moveTo(memory, Rewinder.memory);
}

/// Opens the rewinder's, and closes all else but the worker's own.
pub fn keepWorkers(config: *const Config) confine.Error!void {
    const asks = config.state == .fresh or config.state == .forked;
    if (!asks or !confine.isOpen(own_folder)) return confine.closeFrom(workers_count);
    try confine.closeBetween(zygote, zygote);
    // The user has changed since the fork: until this is said, one's own files in /proc are root's.
    if (config.has(.privileges)) try confine.setDumpable(true);
    if (config.state == .forked) {
        // The lowest free number.
        const maps = confine.openAt(own_folder, "maps", 0, 0) catch return confine.closeFrom(workers_count);
        forked_maps_open = maps == forked_maps;
        return confine.closeFrom(if (forked_maps_open) forked_maps + 1 else workers_count);
    }
    open() catch {
        rewinder_missing = "the files pagemap, maps, stat and timers of /proc/self cannot be opened on this machine";
        return confine.closeFrom(workers_count);
    };
    try confine.closeFrom(own_folder);
    rewinder_missing = null;
}

fn open() confine.Error!void {
    const files = [_]struct { confine.Fd, [*:0]const u8 }{
        .{ Rewinder.pagemap, "pagemap" },
        .{ Rewinder.maps, "maps" },
        .{ Rewinder.stat, "stat" },
        .{ Rewinder.timers, "timers" },
    };
    for (files) |file| {
        // The lowest free number: they come in order.
        if (try confine.openAt(own_folder, file[1], 0, 0) != file[0]) return confine.refuse("the numbers of descriptors");
    }
}
