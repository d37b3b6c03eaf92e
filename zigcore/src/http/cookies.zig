//! Cookies of our own: the dashboard's, which no function may see or set.
//!
//! Why here: browsers do not keep ports apart, so a dashboard on the same host name as the gateway sends its session to
//! every function that a signed-in person visits. Called by pool/dispatch for each request with a Cookie header and by
//! response.workerHeader. What always holds: a name counts as ours in any case, with the browsers' prefixes, and in a
//! cookie without a name (`=tailcut_x=y` comes back as `tailcut_x=y`).
const std = @import("std");
const assert = std.debug.assert;
const ascii = std.ascii;

const names_begin = "tailcut_";
const prefixes = [_][]const u8{ "__host-", "__secure-" };
const blanks = " \t";

/// Whether a request's header is the one that carries cookies.
pub fn isHeader(name: []const u8) bool {
    return name.len == "cookie".len and ascii.eqlIgnoreCase(name, "cookie");
}

/// Takes our cookies out of a Cookie header's value, in place; returns how many bytes of it are left.
pub fn strip(value: []u8) usize {
    var kept: usize = 0;
    var at: usize = 0;
    while (at < value.len) {
        const end = std.mem.findScalarPos(u8, value, at, ';') orelse value.len;
        const pair = value[at..end];
        if (!isOurs(pair)) {
            if (kept > 0) {
                value[kept] = ';';
                kept += 1;
            }
            // The first of what is kept begins where a cookie's name does.
            const text = if (kept == 0) std.mem.trimStart(u8, pair, blanks) else pair;
            std.mem.copyForwards(u8, value[kept..][0..text.len], text);
            kept += text.len;
        }
        at = end + 1;
    }
    assert(kept <= value.len);
    return kept;
}

/// `pair`: `name=value`, of a Cookie header, or a Set-Cookie's value, whose attributes follow the first semicolon.
pub fn isOurs(pair: []const u8) bool {
    var name = std.mem.trim(u8, pair, blanks);
    // Without a name, browsers send the value alone: what stands there is the name that a server reads.
    while (name.len > 0 and name[0] == '=') name = std.mem.trimStart(u8, name[1..], blanks);
    for (prefixes) |prefix| if (ascii.startsWithIgnoreCase(name, prefix)) {
        name = name[prefix.len..];
    };
    return ascii.startsWithIgnoreCase(name, names_begin);
}

test "our cookies are taken out, others stay byte for byte" {
    const cases = [_][2][]const u8{
        .{ "", "" },
        .{ "a=b", "a=b" },
        .{ "a=b; c=d", "a=b; c=d" },
        .{ "tailcut_session=x", "" },
        .{ "a=b; tailcut_session=x; c=\"d e\"", "a=b; c=\"d e\"" },
        .{ "tailcut_session=x; a=b", "a=b" },
        .{ "a=b;TAILCUT_Sign_In=x", "a=b" },
        .{ "\ttailcut_x;a", "a" },
        .{ "__Host-tailcut_session=x; a=b;;", "a=b;" },
        .{ "=tailcut_session=x; = tailcut_y", "" },
        .{ "my_tailcut_x=1; a=tailcut_session", "my_tailcut_x=1; a=tailcut_session" },
    };
    for (cases) |case| {
        var buffer: [64]u8 = undefined;
        const value = buffer[0..case[0].len];
        @memcpy(value, case[0]);
        try std.testing.expectEqualStrings(case[1], value[0..strip(value)]);
    }
}

test "nothing of ours is left of any mixture" {
    const pieces = [_][]const u8{ "tailcut_a=1", "b=2", " ", "=", "", "__Secure-tailcut_x", ";", "__host-__secure-tailcut_s=1" };
    var random: std.Random.DefaultPrng = .init(1);
    for (0..2000) |_| {
        var buffer: [256]u8 = undefined;
        var bytes: usize = 0;
        for (0..random.random().uintLessThan(usize, 9)) |_| {
            const piece = pieces[random.random().uintLessThan(usize, pieces.len)];
            @memcpy(buffer[bytes..][0..piece.len], piece);
            bytes += piece.len;
            buffer[bytes] = ';';
            bytes += 1;
        }
        var rest = std.mem.splitScalar(u8, buffer[0..strip(buffer[0..bytes])], ';');
        while (rest.next()) |pair| try std.testing.expect(!isOurs(pair));
    }
}
