//! What the jail of one worker is made of: the same layout as `zc_jail_config` of zigcore.h.
//!
//! Filled by gateway/zygote/jail.py; read by apply.zig and the files that it calls. All of it is ours and trusted; the
//! paths are absolute and lie on the host.
const std = @import("std");

pub const Config = extern struct {
    /// Bits of `Part`.
    parts: u32,
    mounts_count: u32,
    mounts: [*]const Mount,
    /// The host's ids of the worker, for the zygote that writes the maps; only root has a choice.
    owner_uid: u32,
    owner_gid: u32,
    tmp_bytes: u64,
    tmp_files_max: u64,
    address_space_bytes: u64,
    /// Hard limits: the most that any tier gives. The soft ones are the version's; from outside they move later.
    descriptors_max: u32,
    threads_max: u32,
    descriptors: u32,
    threads: u32,
    /// 1: root. The namespaces and mounts are made with its rights and then left behind.
    privileged: u32,
    /// Bits of `Profile`: what the version asked for and was allowed.
    profile: u32 = 0,
    state: State,
    reserved: u32 = 0,

    pub fn has(config: *const Config, part: Part) bool {
        return config.parts & part.bit() != 0;
    }

    pub fn may(config: *const Config, profile: Profile) bool {
        return config.profile & @backingInt(profile) != 0;
    }

    pub fn mountsOf(config: *const Config) []const Mount {
        return config.mounts[0..config.mounts_count];
    }
};

/// What becomes of an invocation's state; each way needs a little more than the ordinary worker has.
pub const State = enum(u32) {
    warm = 0,
    /// The worker rewinds itself, and keeps the descriptors of `fds.Rewinder` for it.
    fresh = 1,
    /// The worker forks a process for each invocation.
    forked = 2,
    _,
};

pub const Mount = extern struct {
    kind: Kind,
    reserved: u32 = 0,
    /// Of `tree`, `file`, `device`: what is bound; of `link`: where it leads; of `text`: the content.
    source: [*:0]const u8,
    target: [*:0]const u8,

    pub const Kind = enum(u32) { tree = 1, device = 2, link = 3, text = 4, folder = 5, hidden = 6, file = 7, _ };
};

/// What can be had or not, each by itself. A worker of the default jail has all of them.
pub const Part = enum(u5) {
    user = 0,
    mount = 1,
    pid = 2,
    net = 3,
    ipc = 4,
    uts = 5,
    cgroup = 6,
    rlimits = 7,
    privileges = 8,
    landlock = 9,
    seccomp = 10,

    pub fn bit(part: Part) u32 {
        return @as(u32, 1) << @backingInt(part);
    }
};

/// What most versions do without.
pub const Profile = enum(u32) { processes = 1, network = 2 };

/// Who a worker is in its user namespace.
pub const inner_id = 1000;

comptime {
    std.debug.assert(@sizeOf(Config) == 80);
    std.debug.assert(@sizeOf(Mount) == 24);
}
