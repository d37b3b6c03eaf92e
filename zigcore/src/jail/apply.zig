//! THE ORDERED LIST: how a forked process becomes a jailed worker.
//!
//! Called once, by abi/worker in the forked child, before one byte of tenant code or data is read; the process has one
//! thread. What always holds: it returns with every wanted part applied, or with the step that the kernel refused, and
//! then the process must end.
const confine = @import("../io/confine.zig");
const Config = @import("config.zig").Config;
const dispatch = @import("dispatch.zig");
const fds = @import("fds.zig");
const namespaces = @import("namespaces.zig");
const mounts = @import("mounts.zig");
const rlimits = @import("rlimits.zig");
const privileges = @import("privileges.zig");
const landlock = @import("landlock.zig");
const network = @import("network.zig");
const seccomp = @import("seccomp.zig");
const tripwire = @import("tripwire.zig");

pub const Error = confine.Error;

/// The step that is being done, for the message to people.
pub var step: []const u8 = "";

/// `ear` is a descriptor on which the zygote is told of the user namespace and hands out its ids; negative: none.
/// `watch`: of a worker that rewinds itself.
pub fn enter(config: *const Config, ear: confine.Fd, watch: ?dispatch.Dispatch) Error!void {
    const zygote: ?confine.Fd = if (ear < 0) null else fds.zygote;
    // Nothing inherited may outlive this line: a descriptor of the host's would be a way out of every wall below.
    try does("descriptors", fds.keepOnly(config, ear));

    // Whoever is not root has entered its user namespace before (`begin`), and has its rights from there.
    // Before the mounts: these are made in namespaces that no other process is in.
    try does("namespaces", namespaces.separate(config));
    try does("hostname and keyring", namespaces.blank(config));

    // While the process may still configure its namespace, and sees the kernel's settings of it.
    try does("network", network.open(config));

    // While the host's paths are still there, and before anything of the tenant's has been touched.
    try does("mounts", mounts.replaceRoot(config));

    // Last of what needs root: from here on the process has rights only over itself. The namespaces above stay root's
    // own, so that not even a hole that hands out capabilities in here reaches them.
    try does("user namespace", namespaces.leaveRoot(config));
    // As soon as the calls above are done: on the way the zygote hears that the ids are wanted.
    try does("tripwire", tripwire.set(config, zygote));
    try does("ids", namespaces.takeIds(config, zygote));

    // While a limit may still be set; before the capabilities that could lift one are gone, harmlessly: all go down.
    try does("rlimits", rlimits.set(config));

    // The bounding set first: taking from it needs a capability that is dropped next.
    try does("capabilities", privileges.drop(config));

    // With no rights left, and before the process may not be looked into any more, by itself neither.
    try does("descriptors", fds.keepWorkers(config));
    try does("no_new_privs", privileges.seal(config));

    // No wall, but the filter forbids it afterwards.
    dispatch.arm(watch);

    // Both need no_new_privs. The filter comes last, for it forbids every call made above.
    try does("landlock", landlock.restrict(config));
    try does("seccomp", seccomp.install(config, tripwire.wanted(config, zygote)));
    step = "";
}

/// Without root, in a process between the zygote and the worker: the user namespace comes first, for it gives the
/// rights that all else needs, and the PID namespace, which takes in only who is forked afterwards.
pub fn begin(config: *const Config) Error!void {
    try does("user namespace", namespaces.enterUser(config));
}

/// Zig evaluates the call first, so `name` is recorded when it has failed; that is when it is asked for.
fn does(name: []const u8, result: Error!void) Error!void {
    result catch |err| {
        step = name;
        return err;
    };
}
