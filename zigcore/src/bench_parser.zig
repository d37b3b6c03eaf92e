//! Times the parser on heads as wrk, curl and a browser send them: `zig build bench-parser`.
//!
//! Compiled like production (asserts on). Prints nanoseconds per request; a figure for people, no test.
const std = @import("std");
const Parser = @import("http/parser.zig").Parser;
const target = @import("http/target.zig");

const heads = [_]struct { []const u8, []const u8 }{
    .{ "wrk", "GET /acme/hello HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n\r\n" },
    .{ "curl", "POST /acme/hello HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nUser-Agent: curl/8.5.0\r\nAccept: */*\r\n" ++
        "Authorization: Bearer tck_0123456789abcdef0123456789abcdef\r\nContent-Type: application/json\r\nContent-Length: 16\r\n\r\n" },
    .{ "browser", "GET /acme/hello?a=1&b=%20 HTTP/1.1\r\nHost: gateway.example:8080\r\nConnection: keep-alive\r\n" ++
        "sec-ch-ua: \"Chromium\";v=\"130\", \"Not?A_Brand\";v=\"99\"\r\nsec-ch-ua-mobile: ?0\r\nUpgrade-Insecure-Requests: 1\r\n" ++
        "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 Safari/537.36\r\n" ++
        "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8\r\n" ++
        "Accept-Encoding: gzip, deflate, br, zstd\r\nAccept-Language: en-GB,en;q=0.9\r\n" ++
        "Cookie: session=0123456789abcdef0123456789abcdef0123456789abcdef; theme=dark\r\n\r\n" },
};
const rounds = 1_000_000;

pub fn main(init: std.process.Init) !void {
    var parser: Parser = .init;
    var scratch: [target.scratch_bytes]u8 = undefined;
    for (heads) |named| {
        const name, const head = named;
        const start = std.Io.Timestamp.now(init.io, .awake);
        for (0..rounds) |_| {
            parser.reset();
            std.mem.doNotOptimizeAway(parser.parse(head));
        }
        const parsed = std.Io.Timestamp.now(init.io, .awake);
        for (0..rounds) |_| {
            const form = target.read(parser.target(head)).ok;
            std.mem.doNotOptimizeAway(target.split(form, parser.host(head), "", &scratch));
        }
        const ended = std.Io.Timestamp.now(init.io, .awake);
        std.debug.print("{s}: {d} bytes, {d} headers: parse {d} ns, split {d} ns\n", .{
            name,                                                        head.len,
            parser.headers_count,                                        @divTrunc(start.durationTo(parsed).toNanoseconds(), rounds),
            @divTrunc(parsed.durationTo(ended).toNanoseconds(), rounds),
        });
    }
}
