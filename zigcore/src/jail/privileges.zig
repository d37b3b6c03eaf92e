//! Privileges: every capability goes, none can come back, and nobody of the same user may look inside.
//!
//! Called by apply. What always holds afterwards: all five capability sets are empty; a set-uid file, if there were
//! one, gives nothing.
const confine = @import("../io/confine.zig");
const Config = @import("config.zig").Config;

const pr_capbset_drop = 24;
const pr_set_securebits = 28;
const pr_set_no_new_privs = 38;
const pr_cap_ambient = 47;
const pr_cap_ambient_clear_all = 4;
/// NOROOT, NO_SETUID_FIXUP, NO_CAP_AMBIENT_RAISE, each locked; KEEP_CAPS locked in its off state.
const securebits = 0b1110_1111;
const einval = 22;

pub fn drop(config: *const Config) confine.Error!void {
    if (!config.has(.privileges)) return;
    // In its own user namespace the worker has every capability until here; without one it may have none at all.
    if (config.has(.user)) {
        _ = try confine.prctl("SET_SECUREBITS", pr_set_securebits, securebits);
        var capability: u32 = 0;
        while (capability < 64) : (capability += 1) {
            _ = confine.prctl("CAPBSET_DROP", pr_capbset_drop, capability) catch |err| {
                if (confine.failed_errno == einval and capability > 0) break; // past the kernel's last one
                return err;
            };
        }
    }
    _ = try confine.prctl("CAP_AMBIENT", pr_cap_ambient, pr_cap_ambient_clear_all);
    try confine.dropCapabilities();
}

pub fn seal(config: *const Config) confine.Error!void {
    if (!config.has(.privileges)) return;
    _ = try confine.prctl("SET_NO_NEW_PRIVS", pr_set_no_new_privs, 1);
    // Its files in /proc belong to root now, and no debugger of the same user may attach.
    try confine.setDumpable(false);
}
