//! Namespaces: who exists for a worker, and who it is. Its own processes, its own (downed) network, nobody else.
//!
//! Called by apply. The PID namespace is special: it takes in the children of who made it, so it is made before the
//! fork (by gateway/zygote/spawner.py as root, by `enterUser` without) and only checked here.
const confine = @import("../io/confine.zig");
const config_file = @import("config.zig");
const Config = config_file.Config;
const Part = config_file.Part;
const inner_id = config_file.inner_id;

const host_name = "function";

fn flag(part: Part) u32 {
    return switch (part) {
        .user => 0x10000000,
        .mount => 0x00020000,
        .pid => 0x20000000,
        .net => 0x40000000,
        .ipc => 0x08000000,
        .uts => 0x04000000,
        .cgroup => 0x02000000,
        .rlimits, .privileges, .landlock, .seccomp => 0,
    };
}

/// All that take effect at once. A network namespace is born with a loopback interface that is down, and stays so unless
/// network.zig raises it.
pub fn separate(config: *const Config) confine.Error!void {
    if (config.has(.pid) and confine.processId() != 1) return confine.refuse("getpid (not the first of a PID namespace)");
    var flags: u32 = 0;
    for ([_]Part{ .mount, .net, .ipc, .uts, .cgroup }) |part| {
        if (config.has(part)) flags |= flag(part);
    }
    if (flags != 0) try confine.unshare(flags);
}

pub fn blank(config: *const Config) confine.Error!void {
    if (config.has(.uts)) try confine.setHostName(host_name);
    if (config.has(.user)) try confine.joinEmptyKeyring();
}

/// Root only. The user namespace is root's, so that root may set this worker's limits from outside (without
/// CAP_SYS_RESOURCE, too), but root is not in it: the worker is the host's `owner_uid`, which nobody else is.
pub fn leaveRoot(config: *const Config) confine.Error!void {
    if (config.privileged == 0) return;
    if (config.has(.user) or config.has(.privileges)) try confine.dropGroups();
    if (config.has(.user)) return confine.unshare(flag(.user));
    if (config.has(.privileges)) try confine.setIds(config.owner_uid, config.owner_gid);
}

/// Root only: waits until the zygote has written the id maps, which only a process outside may do for other ids than
/// its own.
pub fn takeIds(config: *const Config, zygote: ?confine.Fd) confine.Error!void {
    if (config.privileged == 0 or !config.has(.user)) return;
    const ear = zygote orelse return confine.refuse("nobody writes the id maps");
    if (try confine.readByte(ear) != 'm') return confine.refuse("uid_map (the zygote could not write it)");
    try confine.setIds(inner_id, inner_id);
}

/// Without root: one's own id is the only one that may be mapped.
pub fn enterUser(config: *const Config) confine.Error!void {
    if (!config.has(.user)) return;
    const uid = confine.userId();
    const gid = confine.groupId();
    try confine.unshare(flag(.user) | if (config.has(.pid)) flag(.pid) else 0);
    try map("/proc/self/uid_map", uid);
    try confine.writeFile("/proc/self/setgroups", "deny");
    try map("/proc/self/gid_map", gid);
}

fn map(path: [*:0]const u8, outer: u32) confine.Error!void {
    const std = @import("std");
    var buffer: [64]u8 = undefined;
    const line = std.fmt.bufPrint(&buffer, "{d} {d} 1", .{ inner_id, outer }) catch unreachable;
    try confine.writeFile(path, line);
}
