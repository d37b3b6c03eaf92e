//! Landlock: a second, independent wall around the file system, and one around TCP, abstract sockets and signals.
//!
//! Called by apply. The mounts already show nothing else; this holds even if one of them were wrong. Access rights by
//! the version of the kernel's Landlock (Documentation/userspace-api/landlock.rst): what it does not know is left out.
const confine = @import("../io/confine.zig");
const Config = @import("config.zig").Config;
const network = @import("network.zig");

const execute: u64 = 1 << 0;
const write_file: u64 = 1 << 1;
const read_file: u64 = 1 << 2;
const read_folder: u64 = 1 << 3;
const remove_folder: u64 = 1 << 4;
const remove_file: u64 = 1 << 5;
const make_folder: u64 = 1 << 7;
const make_regular: u64 = 1 << 8;
const make_fifo: u64 = 1 << 10;
const make_symlink: u64 = 1 << 12;
const refer: u64 = 1 << 13; // version 2
const truncate: u64 = 1 << 14; // version 3
const first_version_rights: u64 = (1 << 13) - 1;
const device_ioctl: u64 = 1 << 15; // version 5
const tcp: u64 = 0b11; // version 4: bind, connect
const scopes: u64 = 0b11; // version 6: abstract sockets, signals

const in_tmp = write_file | read_file | read_folder | remove_folder | remove_file | make_folder | make_regular |
    make_fifo | make_symlink | refer | truncate;

pub fn restrict(config: *const Config) confine.Error!void {
    if (!config.has(.landlock)) return;
    const version = try confine.landlockVersion();
    var handled = first_version_rights;
    if (version >= 2) handled |= refer;
    if (version >= 3) handled |= truncate;
    if (version >= 5) handled |= device_ioctl;
    const wanted: confine.Ruleset = .{
        .filesystem = handled,
        .network = if (version >= 4) tcp else 0,
        .scoped = if (version >= 6) scopes else 0,
    };
    // An older kernel knows a shorter structure.
    const bytes: usize = if (version >= 6) 24 else if (version >= 4) 16 else 8;
    const ruleset = try confine.landlockCreate(&wanted, bytes);
    defer confine.close(ruleset);
    if (version >= 4 and config.may(.network)) try confine.landlockAllowConnect(ruleset, network.proxy_port);
    // Without a root of its own the worker sees the host's: then nothing is gained by naming its folders.
    if (config.has(.mount)) {
        const programs: u64 = if (config.may(.processes)) execute else 0;
        try confine.landlockAllow(ruleset, "/", read_file | read_folder | programs);
        try confine.landlockAllow(ruleset, "/dev", (write_file | truncate) & handled);
        try confine.landlockAllow(ruleset, "/tmp", in_tmp & handled);
    } else {
        try confine.landlockAllow(ruleset, "/", (read_file | read_folder | in_tmp) & handled);
    }
    try confine.landlockRestrict(ruleset);
}
