//! The network of a version that asked for it: one listening socket in the worker's own, empty namespace.
//!
//! Called by apply, after the namespaces and before root's rights are gone. `lo` comes up, and a socket that belongs to
//! this namespace listens on 127.0.0.1; its descriptor leaves with the tripwire's word, for the zygote to pass it on to the egress
//! (gateway/egress/), which accepts there and connects outside. What always holds: the namespace has no other interface,
//! no route and nobody else who listens, so that socket is all that can be reached; the worker keeps no descriptor of it.
const confine = @import("../io/confine.zig");
const Config = @import("config.zig").Config;

/// As in `HTTP_PROXY` of the worker (gateway/zygote/child.py).
pub const proxy_port: u16 = 3128;
/// Connections that wait while the egress is busy, or being started again.
const backlog = 128;
/// Least, usual and most bytes that the kernel holds for one connection, each way: TCP's buffers are not charged to the
/// worker's memory group in cgroup v1, and would grow to 10 MB each.
const buffer_bytes = "4096 65536 131072";

var listener: ?confine.Fd = null;

pub fn open(config: *const Config) confine.Error!void {
    if (!config.may(.network)) return;
    // Without these three the worker would have the host's network, or nobody would take the socket.
    if (!config.has(.net) or !config.has(.user) or !config.has(.seccomp)) return confine.refuse("parts (net, user, seccomp)");
    try confine.raiseLoopback();
    try confine.writeFile("/proc/sys/net/ipv4/tcp_rmem", buffer_bytes);
    try confine.writeFile("/proc/sys/net/ipv4/tcp_wmem", buffer_bytes);
    listener = try confine.listenOnLoopback(proxy_port, backlog);
}

/// The caller's to close from now on.
pub fn take() ?confine.Fd {
    defer listener = null;
    return listener;
}
