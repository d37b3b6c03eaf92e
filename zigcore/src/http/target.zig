//! The request target: its form (RFC 9112 section 3.2), and what of us it names.
//!
//! Called by the parser (`read`: is it well-formed?) and by the connection (`split`: which function, which builtin?).
//!
//! What we decided, where RFCs leave room:
//! - Tenant, function and qualifier are compared as they were sent: a percent-escape in them is no other spelling of a
//!   name but a name that cannot exist (404). A path rule of a proxy before us thus means what it says.
//! - The rest of the path is percent-decoded once, after the split: %2F becomes a slash of the rest and can never
//!   move the border between function and rest.
//! - A segment . or .. of the decoded rest is refused (400), not resolved: proxies and handlers that resolve paths in
//!   different ways would disagree about what was called. Honest clients resolve such segments before they send.
//! - %00 and what is not UTF-8 once decoded are refused, so a handler's path is always a clean string.
const std = @import("std");
const assert = std.debug.assert;
const limits = @import("../limits.zig");
const chars = @import("chars.zig");
const Refusal = @import("refusal.zig").Refusal;

pub const Form = enum { origin, absolute, asterisk };

pub const Target = struct {
    form: Form,
    /// Of an absolute target: host and port. Else empty.
    authority: []const u8,
    /// As sent, starting with "/"; "*" in asterisk form.
    path: []const u8,
    /// As sent, without "?".
    query: []const u8,
};

pub const Read = union(enum) { ok: Target, refused: Refusal };

/// `target` has neither spaces nor control bytes (the parser's line has none).
pub fn read(target: []const u8) Read {
    if (target.len == 0) return .{ .refused = .target_form };
    if (std.mem.findScalar(u8, target, '#') != null) return .{ .refused = .target_fragment };
    if (target[0] == '/') return .{ .ok = withQuery(.origin, "", target) };
    if (target.len == 1 and target[0] == '*') {
        return .{ .ok = .{ .form = .asterisk, .authority = "", .path = target, .query = "" } };
    }
    const scheme = "http://";
    if (target.len < scheme.len or !chars.eqlFold(target[0..scheme.len], scheme)) return .{ .refused = .target_form };
    const rest = target[scheme.len..];
    const end = std.mem.findAny(u8, rest, "/?") orelse rest.len;
    if (!isAuthority(rest[0..end])) return .{ .refused = .target_authority };
    return .{ .ok = withQuery(.absolute, rest[0..end], rest[end..]) };
}

fn withQuery(form: Form, authority: []const u8, path_and_query: []const u8) Target {
    const mark = std.mem.findScalar(u8, path_and_query, '?') orelse path_and_query.len;
    return .{
        .form = form,
        .authority = authority,
        .path = if (mark == 0) "/" else path_and_query[0..mark],
        .query = path_and_query[@min(mark + 1, path_and_query.len)..],
    };
}

/// `uri-host [":" port]` as Host and absolute targets carry it. Stricter than the grammar: of the names that a
/// reg-name could be, only what DNS and its users write (letters, digits, `-._~`).
pub fn isAuthority(bytes: []const u8) bool {
    const host_end = hostEnd(bytes) orelse return false;
    if (host_end == bytes.len) return true;
    if (bytes[host_end] != ':') return false;
    const port = bytes[host_end + 1 ..];
    if (port.len > 5) return false;
    var number: u32 = 0;
    for (port) |byte| {
        if (!std.ascii.isDigit(byte)) return false;
        number = number * 10 + (byte - '0');
    }
    return number <= std.math.maxInt(u16);
}

/// Where the host ends and ":port" may start; null when there is no valid host.
fn hostEnd(bytes: []const u8) ?usize {
    if (bytes.len > 0 and bytes[0] == '[') {
        const close = std.mem.findScalar(u8, bytes, ']') orelse return null;
        const address = bytes[1..close];
        if (address.len < 2 or address.len > 45 or std.mem.countScalar(u8, address, ':') < 2) return null;
        for (address) |byte| if (chars.hexValue(byte) == null and byte != ':' and byte != '.') return null;
        return close + 1;
    }
    const end = std.mem.findScalar(u8, bytes, ':') orelse bytes.len;
    if (end == 0 or end > 255) return null;
    for (bytes[0..end]) |byte| switch (byte) {
        'a'...'z', 'A'...'Z', '0'...'9', '-', '.', '_', '~' => {},
        else => return null,
    };
    return end;
}

pub const Function = struct {
    tenant: []const u8,
    function: []const u8,
    /// An alias or a version id.
    qualifier: []const u8,
    /// "/" at least, percent-decoded, valid UTF-8 without NUL, without segments . and ..
    rest: []const u8,
    query: []const u8,
};

pub const Split = union(enum) {
    function: Function,
    /// `/-/{name}`: of this node. The name is as sent and may contain slashes.
    builtin: struct { name: []const u8, query: []const u8 },
    /// `/{tenant}/-/{name}`.
    tenant_builtin: struct { tenant: []const u8, name: []const u8, query: []const u8 },
    /// `OPTIONS *`: the server as a whole.
    server,
    /// Well-formed, but no tenant or function can have such a name: 404.
    unknown,
    refused: Refusal,
};

pub const qualifier_default = "live";

/// Room that `split` needs: the decoded rest and a tenant in lower case.
pub const scratch_bytes = limits.request_line_bytes_max + limits.name_bytes_max;

/// `host` may be empty (HTTP/1.0). `base_domain` is empty when functions have no hosts of their own.
/// Slices of the answer point into `target` (whatever it pointed to), `host` or `scratch`.
pub fn split(target: Target, host: []const u8, base_domain: []const u8, scratch: []u8) Split {
    assert(scratch.len >= scratch_bytes);
    assert(target.path.len <= limits.request_line_bytes_max);
    if (target.form == .asterisk) return .server;
    assert(target.path[0] == '/');

    var path = target.path[1..];
    const tenant = switch (tenantOfHost(host, base_domain, scratch[0..limits.name_bytes_max])) {
        .tenant => |name| name,
        .unknown => return .unknown,
        .none => tenant: {
            const name, path = segmentCut(path) orelse return .unknown;
            if (std.mem.eql(u8, name, "-")) {
                return .{ .builtin = .{ .name = path[@min(1, path.len)..], .query = target.query } };
            }
            if (!isName(name) or path.len == 0) return .unknown;
            path = path[1..];
            break :tenant name;
        },
    };

    const segment, const rest = segmentCut(path) orelse return .unknown;
    if (std.mem.eql(u8, segment, "-")) return .{ .tenant_builtin = .{
        .tenant = tenant,
        .name = rest[@min(1, rest.len)..],
        .query = target.query,
    } };
    const at = std.mem.findScalar(u8, segment, '@');
    const function = segment[0 .. at orelse segment.len];
    const qualifier = if (at) |index| segment[index + 1 ..] else qualifier_default;
    if (!isName(function) or !isQualifier(qualifier)) return .unknown;
    const decoded = switch (restDecode(rest, scratch[limits.name_bytes_max..])) {
        .ok => |bytes| bytes,
        .refused => |refusal| return .{ .refused = refusal },
    };
    return .{ .function = .{
        .tenant = tenant,
        .function = function,
        .qualifier = qualifier,
        .rest = if (decoded.len == 0) "/" else decoded,
        .query = target.query,
    } };
}

/// The first segment and what follows it (empty, or from the slash on); null when the segment is empty.
fn segmentCut(path: []const u8) ?struct { []const u8, []const u8 } {
    const end = std.mem.findScalar(u8, path, '/') orelse path.len;
    if (end == 0) return null;
    return .{ path[0..end], path[end..] };
}

/// `{tenant}.{base_domain}`, without regard to case, port or a final dot. Every other host is `none`: paths name the tenant.
fn tenantOfHost(host: []const u8, base_domain: []const u8, lower: []u8) union(enum) { none, unknown, tenant: []const u8 } {
    if (base_domain.len == 0) return .none;
    var name = host[0 .. hostEnd(host) orelse return .none];
    if (name[name.len - 1] == '.') name = name[0 .. name.len - 1];
    if (name.len < base_domain.len + 2) return .none;
    const dot = name.len - base_domain.len - 1;
    if (name[dot] != '.' or !std.ascii.eqlIgnoreCase(name[dot + 1 ..], base_domain)) return .none;
    if (dot > limits.name_bytes_max) return .unknown;
    const tenant = std.ascii.lowerString(lower, name[0..dot]);
    return if (isName(tenant)) .{ .tenant = tenant } else .unknown;
}

/// NAME_PATTERN of gateway/contract/table.py: a DNS label that starts with a letter, in lower case.
pub fn isName(bytes: []const u8) bool {
    if (bytes.len == 0 or bytes.len > limits.name_bytes_max) return false;
    if (!std.ascii.isLower(bytes[0]) or bytes[bytes.len - 1] == '-') return false;
    for (bytes) |byte| if (!std.ascii.isLower(byte) and !std.ascii.isDigit(byte) and byte != '-') return false;
    return true;
}

/// An alias is a name; a version's id is `ver_` and letters or digits.
pub fn isQualifier(bytes: []const u8) bool {
    if (isName(bytes)) return true;
    const prefix = "ver_";
    if (!std.mem.startsWith(u8, bytes, prefix) or bytes.len == prefix.len or bytes.len > limits.name_bytes_max) return false;
    for (bytes[prefix.len..]) |byte| if (!std.ascii.isAlphanumeric(byte)) return false;
    return true;
}

fn restDecode(rest: []const u8, out: []u8) union(enum) { ok: []const u8, refused: Refusal } {
    assert(out.len >= rest.len);
    var from: usize = 0;
    var to: usize = 0;
    while (from < rest.len) : (to += 1) {
        if (rest[from] != '%') {
            out[to] = rest[from];
            from += 1;
            continue;
        }
        if (from + 2 >= rest.len) return .{ .refused = .path_escape };
        const high: u8 = chars.hexValue(rest[from + 1]) orelse return .{ .refused = .path_escape };
        const low = chars.hexValue(rest[from + 2]) orelse return .{ .refused = .path_escape };
        out[to] = high << 4 | low;
        if (out[to] == 0) return .{ .refused = .path_nul };
        from += 3;
    }
    const decoded = out[0..to];
    if (!std.unicode.utf8ValidateSlice(decoded)) return .{ .refused = .path_utf8 };
    var segments = std.mem.splitScalar(u8, decoded, '/');
    while (segments.next()) |segment| {
        if (std.mem.eql(u8, segment, ".") or std.mem.eql(u8, segment, "..")) return .{ .refused = .path_dots };
    }
    return .{ .ok = decoded };
}
