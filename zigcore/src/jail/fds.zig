//! Descriptors: 0–2 (nowhere), 3 the channel, 4 the shared memory, and for a while 5, the zygote's ear.
//!
//! Called by apply, first and once more when the zygote is not needed any longer. gateway/zygote/child.py has put the
//! first five in place.
const confine = @import("../io/confine.zig");

pub const workers_count = 5;
pub const zygote: confine.Fd = workers_count;

/// Closes all but the worker's own and `ear`, which becomes `zygote`; negative: there is none.
pub fn keepOnly(ear: confine.Fd) confine.Error!void {
    if (ear < 0) return keepWorkers();
    if (ear < workers_count) return confine.refuse("the zygote's descriptor is one of the worker's");
    if (ear != zygote) try confine.moveTo(ear, zygote);
    try confine.closeFrom(zygote + 1);
}

pub fn keepWorkers() confine.Error!void {
    try confine.closeFrom(workers_count);
}
