//! The root of a worker: an empty tmpfs with read-only copies of the few trees that a function needs.
//!
//! Called by apply, in a mount namespace of its own. The list of mounts is gateway/zygote/jail.py's. Each tree is
//! copied, detached, before the new root covers anything of the host's, so that no source is hidden by it.
//! What always holds afterwards: all but /tmp is read-only, nothing has set-uid bits or devices but the five of /dev,
//! nothing of the old root is mounted.
const std = @import("std");
const confine = @import("../io/confine.zig");
const Config = @import("config.zig").Config;
const Mount = @import("config.zig").Mount;
const inner_id = @import("config.zig").inner_id;

/// Where the new root is put together; any folder that exists everywhere would do.
const staging = "/tmp";
const path_bytes_max = 4096;
const root_options = "mode=0755,size=1m,nr_inodes=1k";

pub const mounts_max = 64;

pub fn replaceRoot(config: *const Config) confine.Error!void {
    if (!config.has(.mount)) return;
    if (config.mounts_count > mounts_max) return confine.refuse("too many mounts");
    // The modes below are meant as they are written.
    const mask_before = confine.fileMask(0);
    defer _ = confine.fileMask(mask_before);
    try confine.makePrivate();
    var trees: [mounts_max]confine.Fd = @splat(-1);
    for (config.mountsOf(), 0..) |mount, at| {
        if (flagsOf(mount.kind)) |flags| {
            trees[at] = try confine.cloneTree(mount.source);
            try confine.restrictTree(trees[at], flags);
        }
    }
    try confine.mountTmpfs(staging, confine.ms_nosuid | confine.ms_nodev | confine.ms_noexec, root_options);
    // First, so that it does not cover a tree that lies below /tmp on this host (a checkout there, for one).
    try privateTmp(config);
    for (config.mountsOf(), 0..) |mount, at| try place(mount, trees[at]);
    try confine.changeFolder(staging);
    try confine.pivotHere();
    tmp_is_private = true;
    try confine.restrictMount("/", confine.ms_readonly | confine.ms_nosuid | confine.ms_nodev | confine.ms_noexec);
}

/// Null: not a copy of something of the host's.
fn flagsOf(kind: Mount.Kind) ?u32 {
    return switch (kind) {
        .tree, .file => confine.ms_readonly | confine.ms_nosuid | confine.ms_nodev,
        .device => confine.ms_readonly | confine.ms_nosuid | confine.ms_noexec,
        else => null,
    };
}

fn place(mount: Mount, tree: confine.Fd) confine.Error!void {
    var buffer: [path_bytes_max]u8 = undefined;
    const target = try inside(&buffer, mount.target);
    try makeParents(target);
    switch (mount.kind) {
        .tree => try confine.makeFolder(target, 0o755),
        .device, .file => confine.close(try confine.openAt(confine.at_fdcwd, target, confine.o_write_new, 0o644)),
        .link => try confine.makeLink(mount.source, target),
        .text => {
            const fd = try confine.openAt(confine.at_fdcwd, target, confine.o_write_new, 0o644);
            defer confine.close(fd);
            try confine.write(fd, std.mem.span(mount.source));
        },
        .folder => try confine.makeFolder(target, 0o755),
        // Covers something inside a tree that was placed before.
        .hidden => try confine.mountTmpfs(target, confine.ms_readonly | confine.ms_nosuid | confine.ms_nodev | confine.ms_noexec, "mode=0555,size=4k,nr_inodes=2"),
        _ => return confine.refuse("a mount of an unknown kind"),
    }
    if (tree < 0) return;
    try confine.attachTree(tree, target);
    confine.close(tree);
}

/// Whether the process has it: what is in it may be removed.
pub var tmp_is_private = false;

/// The only place that can be written to: bounded in bytes and files, gone with the worker.
fn privateTmp(config: *const Config) confine.Error!void {
    var buffer: [128]u8 = undefined;
    // Ids as the user namespace that mounts sees them: root's is the host's.
    const uid = if (config.privileged != 0) config.owner_uid else inner_id;
    const gid = if (config.privileged != 0) config.owner_gid else inner_id;
    const options = std.fmt.bufPrintSentinel(&buffer, "mode=0700,size={d},nr_inodes={d},uid={d},gid={d}", .{
        config.tmp_bytes, config.tmp_files_max, uid, gid,
    }, 0) catch return confine.refuse("the options of /tmp");
    try confine.makeFolder(staging ++ "/tmp", 0o755);
    try confine.mountTmpfs(staging ++ "/tmp", confine.ms_nosuid | confine.ms_nodev | confine.ms_noexec, options);
}

fn inside(buffer: *[path_bytes_max]u8, path: [*:0]const u8) confine.Error![:0]u8 {
    return std.fmt.bufPrintSentinel(buffer, staging ++ "{s}", .{std.mem.span(path)}, 0) catch confine.refuse("a path that is too long");
}

fn makeParents(path: [:0]u8) confine.Error!void {
    for (path[staging.len + 1 ..], staging.len + 1..) |byte, at| {
        if (byte != '/') continue;
        path[at] = 0;
        defer path[at] = '/';
        try confine.makeFolder(path[0..at :0], 0o755);
    }
}
