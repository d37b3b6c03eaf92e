//! From a request's bytes to an admitted invocation, or to the answer that says why not.
//!
//! Called by reactor.zig when the listener has a head or a whole request. Order: our own paths, identify, route, admit
//! (architecture.md, steps 4 to 6). Nothing is spent on an invocation before it is admitted.
//! A key of another tenant gets 403 where no key gets 401: it learns no more than its absence would.
const std = @import("std");
const assert = std.debug.assert;
const limits = @import("../limits.zig");
const Connection = @import("../http/connection.zig");
const intake = @import("../http/intake.zig");
const reply = @import("../http/reply.zig");
const target = @import("../http/target.zig");
const table_module = @import("../route/table.zig");
const key = @import("../route/key.zig");
const admit = @import("../admit/admit.zig");
const Pool = @import("pool.zig");
const Invocation = @import("invocation.zig");
const answer = @import("answer.zig");
const dispatch = @import("dispatch.zig");
const quota = @import("quota.zig");

const Resolved = struct {
    tenant: *const table_module.Tenant,
    row: *const table_module.Version,
    function: target.Function,
    owner: bool,
    authorization_hidden: bool,
};

/// A head whose body is still on its way: refuse now what would be refused later, or say how long the body may be.
pub fn head(p: *Pool, c: *Connection) void {
    switch (split(p, c)) {
        .refused => |refusal| reply.refuseBytes(p.listener, c, refusal),
        // Nobody reads the body of these: no buffer is spent on it.
        .server => server(p, c),
        .builtin => |builtin| ours(p, c, builtin.name),
        .tenant_builtin => |builtin| ofTenant(p, c, builtin.tenant, builtin.name),
        .unknown => notFound(p, c),
        .function => |function| {
            const resolved = resolve(p, c, function) orelse return;
            intake.agree(p.listener, c, resolved.row.request_bytes_max);
        },
    }
}

/// A whole request.
pub fn request(p: *Pool, c: *Connection) void {
    p.counters.add(.requests_total, 1);
    switch (split(p, c)) {
        .refused => |refusal| reply.refuseBytes(p.listener, c, refusal),
        .server => server(p, c),
        .builtin => |builtin| ours(p, c, builtin.name),
        .tenant_builtin => |builtin| ofTenant(p, c, builtin.tenant, builtin.name),
        .unknown => notFound(p, c),
        .function => |function| {
            const resolved = resolve(p, c, function) orelse return;
            invoke(p, c, resolved);
        },
    }
}

fn split(p: *Pool, c: *const Connection) target.Split {
    const bytes = c.head();
    return switch (target.read(c.parser.target(bytes))) {
        .refused => |refusal| .{ .refused = refusal },
        .ok => |read| target.split(read, c.parser.host(bytes), p.options.base_domain, p.path_scratch),
    };
}

/// The parts of the target of a request that has been admitted before.
pub fn functionOf(p: *Pool, c: *const Connection) target.Function {
    return split(p, c).function;
}

/// The table to serve by: null when there is none, or none that may still be believed, and the caller has been answered.
fn tableOf(p: *Pool, c: *Connection) ?*const table_module.Table {
    const table = p.table orelse {
        answer.refuse(p, c, .not_ready, "This node has not received its table of functions yet.");
        return null;
    };
    const until_ns = p.options.serve_until_ns.load(.monotonic);
    if (until_ns != 0 and p.now_ns >= until_ns) {
        answer.refuse(p, c, .table_expired, "This node has not been able to confirm its keys and functions for longer than it may serve without; this call was not executed. It goes on by itself once it can.");
        return null;
    }
    return table;
}

/// Who asks for what: null when the caller has been answered.
fn resolve(p: *Pool, c: *Connection, function: target.Function) ?Resolved {
    const table = tableOf(p, c) orelse return null;
    const identity = key.identify(table, c.parser.authorization(c.head()), p.listener.date_s);
    const tenant = table.tenantFind(function.tenant) orelse {
        notFound(p, c);
        return null;
    };
    const route = table.routeFind(tenant, function.function, function.qualifier) orelse {
        notFound(p, c);
        return null;
    };
    const owner = switch (key.access(route, identity)) {
        .owner => true,
        .anybody => false,
        .unauthorized => {
            answer.refuse(p, c, .unauthorized, "This function needs the header Authorization: Bearer tck_… with a valid key of its tenant.");
            return null;
        },
        .forbidden => {
            answer.refuse(p, c, .forbidden, "This key may not invoke this function: it needs the scope invoke of the function's tenant.");
            return null;
        },
    };
    const row = row: {
        const index = route.version orelse break :row null;
        break :row table.versionFind(index);
    } orelse {
        if (owner and route.failure.len > 0) {
            answer.refuseWith(p, c, .not_ready_failed, "No version of this function could be started.", &.{.{ .text_tail = .{ "traceback", route.failure } }});
        } else answer.refuse(p, c, .not_ready, "No version of this function is ready on this node.");
        return null;
    };
    return .{
        .tenant = &table.tenants[tenant],
        .row = row,
        .function = function,
        .owner = owner,
        .authorization_hidden = identity != .none and identity != .foreign,
    };
}

fn invoke(p: *Pool, c: *Connection, r: Resolved) void {
    const body_bytes: u32 = if (c.body_kind == .none) 0 else c.body_bytes;
    if (body_bytes > r.row.request_bytes_max) {
        var text: [128]u8 = undefined;
        const detail = std.fmt.bufPrint(&text, "The body has {d} bytes; this function takes at most {d}.", .{ body_bytes, r.row.request_bytes_max }) catch unreachable;
        return answer.refuseWith(p, c, .content_too_large, detail, &.{
            .{ .integer = .{ "allowed_bytes", r.row.request_bytes_max } },
            .{ .integer = .{ "used_bytes", body_bytes } },
        });
    }
    if (p.invocations.full()) {
        p.counters.outcome(r.row.index, .refused_queue);
        return answer.refuse(p, c, .overloaded, "The node holds as many invocations as it can.");
    }
    if (!p.journal.reserve()) {
        p.counters.outcome(r.row.index, .refused_queue);
        return answer.refuse(p, c, .overloaded, "This node cannot keep books at the moment (the disk of its journal is full); this call was not executed.");
    }
    const admission = switch (admit.admit(p.slots, r.tenant, r.row, p.now_ns, p.listener.date_s)) {
        .admitted => |admission| admission,
        .refused => |refusal| {
            p.journal.giveBack();
            return quota.refuse(p, c, r.tenant, r.row, r.owner, refusal);
        },
    };
    // From here on it is admitted: whatever becomes of it, `answer.settle` makes its usage record.
    const invocation = p.invocations.take().?;
    const version = p.versionOf(r.row);
    invocation.* = .{
        .state = .queued,
        .connection = c,
        .version = r.row.index,
        .worker = 0,
        .admission = admission,
        .id = reply.idNext(p.listener),
        .owner = r.owner,
        .cold = version.workers == version.starting,
        .authorization_hidden = r.authorization_hidden,
        .arrived_ns = p.now_ns,
        .dispatched_ns = 0,
        .timeout_ns = r.row.timeout_ns,
        .memory_bytes_max = r.row.memory_bytes,
        .cpu_ns_max = r.row.cpu_ns,
        .output_bytes_max = r.row.output_bytes_max,
        .log_bytes_max = r.row.log_bytes_max,
        .open_files_max = r.row.open_files_max,
        .processes_max = r.row.processes_max,
        .arrived_unix_ns = p.listener.realtime(),
        .request_bytes = body_bytes,
        .next = Invocation.none,
        .previous = Invocation.none,
    };
    c.invocation = p.invocations.indexOf(invocation);
    p.journal.begin(c.invocation.?, invocation.id, invocation.arrived_unix_ns, r.row.id);
    dispatch.place(p, invocation, r.function);
}

// -- Our own paths ------------------------------------------------------------------------------------------------

fn notFound(p: *Pool, c: *Connection) void {
    answer.refuse(p, c, .not_found, "There is no such tenant or function here; paths are /{tenant}/{function}[@{alias}][/{rest}].");
}

fn server(p: *Pool, c: *Connection) void {
    const id = reply.idNext(p.listener);
    var response = reply.begin(p.listener, c, 204, &id);
    response.header("Allow", "GET, HEAD, POST, PUT, DELETE, PATCH, OPTIONS");
    answer.finish(p, c, &response, 204, .{ .bytes = "" });
}

fn readable(p: *Pool, c: *Connection) bool {
    if (c.parser.method == .GET or c.parser.method == .HEAD) return true;
    answer.refuse(p, c, .method_not_allowed, "Only GET and HEAD are allowed here.");
    return false;
}

/// `/-/healthz` and `/-/readyz`.
fn ours(p: *Pool, c: *Connection, name: []const u8) void {
    const health = std.mem.eql(u8, name, "healthz");
    if (!health and !std.mem.eql(u8, name, "readyz")) {
        return notFound(p, c);
    }
    if (!readable(p, c)) return;
    if (!health and tableOf(p, c) == null) return;
    if (!health and p.listener.draining) return answer.refuse(p, c, .not_ready, "This node is draining: it takes no new work.");
    document(p, c, "text/plain; charset=utf-8", "ok\n");
}

/// `/{tenant}/-/openapi.json`: with a key of the tenant all its typed functions, else the public ones.
fn ofTenant(p: *Pool, c: *Connection, tenant_name: []const u8, name: []const u8) void {
    const table = tableOf(p, c) orelse return;
    const tenant = table.tenantFind(tenant_name);
    if (tenant == null or !std.mem.eql(u8, name, "openapi.json")) {
        return notFound(p, c);
    }
    if (!readable(p, c)) return;
    const all = switch (key.identify(table, c.parser.authorization(c.head()), p.listener.date_s)) {
        .none, .foreign => false,
        .unknown, .expired => return answer.refuse(p, c, .unauthorized, "This key is not valid; without one the public functions are shown."),
        .key => |found| found.tenant == tenant.?,
    };
    const row = &table.tenants[tenant.?];
    document(p, c, "application/json", if (all) row.openapi_all else row.openapi_public);
}

fn document(p: *Pool, c: *Connection, content_type: []const u8, text: []const u8) void {
    const id = reply.idNext(p.listener);
    if (text.len <= limits.body_inline_bytes_max) {
        var response = reply.begin(p.listener, c, 200, &id);
        response.header("Content-Type", content_type);
        return answer.finish(p, c, &response, 200, .{ .bytes = text });
    }
    // A long document goes out of a body buffer: the table may be swapped while it is being sent.
    intake.bodyGiveBack(p.listener, c);
    const number = if (text.len <= limits.body_bytes_max) intake.bodyBuffer(p.listener, .answer) else null;
    c.body_buffer = number orelse return answer.refuse(p, c, .overloaded, "All buffers for large bodies are in use; try again in a second.");
    @memcpy(p.listener.bodies.bytes(number.?)[0..text.len], text);
    var response = reply.begin(p.listener, c, 200, &id);
    response.header("Content-Type", content_type);
    answer.finish(p, c, &response, 200, .{ .pooled = @intCast(text.len) });
}
