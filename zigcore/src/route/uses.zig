//! Which keys requests came with, for the host's eyes: `Key.used_s` of those used since it looked, as a JSON array.
//!
//! Called by abi/gateway.zig on the host's thread, while reactors note uses. Taking a use leaves 0 behind, and the next
//! request with the key notes it again, also within the same second: nothing is lost between the two, and what does not
//! fit into the buffer stays where it is. Ids have passed the rule `id` of the decoder: nothing needs escaping.
const std = @import("std");
const assert = std.debug.assert;
const limits = @import("../limits.zig");
const table_module = @import("table.zig");
const Table = table_module.Table;
const Key = table_module.Key;

const row_bytes_max = 32 + limits.name_bytes_max;

/// `[{"id":"key_…","used_s":1700000000},…]`; returns its bytes. The older table first: a key that is in both is told by its
/// later use last.
pub fn write(tables: [2]?*const Table, buffer: []u8) usize {
    if (buffer.len < 2 + row_bytes_max) return 0;
    buffer[0] = '[';
    var end: usize = 1;
    for (tables) |maybe| if (maybe) |table| {
        assert(table.keys.len == table.key_ids.len);
        for (table.keys, table.key_ids) |*key, id| {
            if (key.used_s.load(.monotonic) == 0 or id.len == 0) continue;
            if (end + row_bytes_max >= buffer.len) break;
            const used_s = key.used_s.swap(0, .monotonic);
            const row = std.fmt.bufPrint(buffer[end..][0..row_bytes_max], "{s}{{\"id\":\"{s}\",\"used_s\":{d}}}", .{
                if (end > 1) "," else "", id, used_s,
            }) catch unreachable; // An id of at most name_bytes_max and a number.
            end += row.len;
        }
    };
    buffer[end] = ']';
    return end + 1;
}

test "a use is told once, of the table before too, and a small buffer delays some" {
    var keys: [3]Key = @splat(.{ .sha256 = @splat(0), .tenant = 0, .invoke = true, .expires_at_s = 0 });
    var ids = [_][]const u8{ "key_a", "key_b", "" };
    var before_keys = [_]Key{.{ .sha256 = @splat(0), .tenant = 0, .invoke = true, .expires_at_s = 0 }};
    var before_ids = [_][]const u8{"key_gone"};
    var table: Table = undefined;
    table.keys, table.key_ids = .{ &keys, &ids };
    var before: Table = undefined;
    before.keys, before.key_ids = .{ &before_keys, &before_ids };

    var large: [1024]u8 = undefined;
    try std.testing.expectEqualStrings("[]", large[0..write(.{ null, &table }, &large)]);
    before_keys[0].use(6);
    keys[0].use(7);
    keys[0].use(7);
    keys[1].use(8);
    keys[1].use(9);
    keys[2].use(9); // without an id: nobody is told
    var small: [2 + row_bytes_max + 2]u8 = undefined;
    try std.testing.expectEqualStrings("[{\"id\":\"key_gone\",\"used_s\":6}]", small[0..write(.{ &before, &table }, &small)]);
    try std.testing.expectEqualStrings("[{\"id\":\"key_a\",\"used_s\":7}]", small[0..write(.{ &before, &table }, &small)]);
    try std.testing.expectEqualStrings("[{\"id\":\"key_b\",\"used_s\":9}]", small[0..write(.{ &before, &table }, &small)]);
    try std.testing.expectEqualStrings("[]", large[0..write(.{ &before, &table }, &large)]);
    // Within the second that was told: told again.
    keys[0].use(7);
    try std.testing.expectEqualStrings("[{\"id\":\"key_a\",\"used_s\":7}]", large[0..write(.{ null, &table }, &large)]);
}
