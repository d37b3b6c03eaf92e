//! zigcore: the map, in reading order.
//!
//! Root of libzigcore.so. What is exported is in abi/ alone; everything else is reached from there.
comptime {
    _ = @import("abi/gateway.zig"); // the data plane: zc_gateway_*
    _ = @import("abi/worker.zig"); // the worker's jail and loop: zc_jail_*, zc_worker_*
}
