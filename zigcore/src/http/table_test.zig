const std = @import("std");
const Parser = @import("parser.zig").Parser;
const body = @import("body.zig");
const target = @import("target.zig");
test "x" {
    var p: Parser = .init;
    const b = "POST /acme/hello@canary/a%20b?x=1 HTTP/1.1\r\nHost: h:80\r\ncontent-Type:  text/plain \r\nTransfer-Encoding: Chunked\r\nExpect: 100-continue\r\n\r\n5;a=b\r\nhello\r\n0\r\nx: y\r\n\r\n";
    for (0..b.len) |n| {
        p.reset();
        _ = p.parse(b[0..n]);
        try std.testing.expectEqual(136, p.parse(b).complete);
    }
    var d = body.Decoder.init(.chunked, 1000);
    var out: [10]u8 = undefined;
    const s = d.decode(b[136..], &out);
    try std.testing.expectEqual(5, s.produced);
    var scratch: [target.scratch_bytes]u8 = undefined;
    const f = target.split(target.read(p.target(b)).ok, p.host(b), "", &scratch).function;
    try std.testing.expectEqualStrings("/a b", f.rest);
    try std.testing.expectEqualStrings("text/plain", p.contentType(b).?);
    try std.testing.expectEqualStrings("h:80", p.host(b));
}
