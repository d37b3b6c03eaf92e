//! Every way in which bytes are not a request that we serve: the status and the sentence that the caller gets.
//!
//! Made by parser, body and target; answered by the connection with problem+json and `Connection: close`, always:
//! after a refusal nobody can say where the next request would start (RFC 9112 section 2.2).
const std = @import("std");
const limits = @import("../limits.zig");

pub const Refusal = enum(u8) {
    // Bytes and lines.
    control_byte,
    bare_lf,
    bare_cr,
    not_ascii,
    leading_lines,
    tls,
    request_line,
    request_line_too_long,
    head_too_long,
    headers_too_many,
    // Method, target, version.
    method_syntax,
    method_unsupported,
    version_syntax,
    version_unsupported,
    target_form,
    target_fragment,
    target_authority,
    path_escape,
    path_nul,
    path_utf8,
    path_dots,
    // Headers.
    header_no_colon,
    header_name,
    header_space_before_colon,
    header_folded,
    header_duplicate,
    host_missing,
    host_duplicate,
    host_invalid,
    content_length_invalid,
    content_length_duplicate,
    content_length_with_transfer_encoding,
    transfer_encoding_in_1_0,
    transfer_encoding_duplicate,
    transfer_encoding_invalid,
    transfer_encoding_unsupported,
    expectation,
    // Body.
    body_too_large,
    chunk_size,
    chunk_size_overflow,
    chunk_extension,
    chunk_line_too_long,
    chunk_overhead,
    chunk_end,
    trailer,
    trailers_too_long,

    pub fn status(refusal: Refusal) u16 {
        return switch (refusal) {
            .request_line_too_long => 414,
            .head_too_long, .headers_too_many, .trailers_too_long => 431,
            .method_unsupported, .transfer_encoding_unsupported => 501,
            .version_unsupported => 505,
            .expectation => 417,
            .body_too_large => 413,
            else => 400,
        };
    }

    /// The bound that was broken, where the answer names it: a member of the problem document and its value.
    pub fn allowed(refusal: Refusal) ?struct { name: []const u8, value: u32 } {
        return switch (refusal) {
            .request_line_too_long => .{ .name = "allowed_bytes", .value = limits.request_line_bytes_max },
            .head_too_long => .{ .name = "allowed_bytes", .value = limits.header_bytes_max },
            .headers_too_many => .{ .name = "allowed_count", .value = limits.headers_max },
            .trailers_too_long => .{ .name = "allowed_bytes", .value = limits.trailer_bytes_max },
            else => null,
        };
    }

    /// One sentence for the caller: what is wrong and what is allowed.
    pub fn detail(refusal: Refusal) []const u8 {
        const print = std.fmt.comptimePrint;
        return switch (refusal) {
            .control_byte => "A control byte stands in the request line or in a header; only HTAB is allowed, and only in a header's value.",
            .bare_lf => "A line ends with LF alone; every line must end with CRLF.",
            .bare_cr => "A CR stands without a LF after it; every line must end with CRLF.",
            .not_ascii => "The request line has a byte outside of ASCII; write such characters percent-encoded, e.g. %C3%A9.",
            .leading_lines => "More than one empty line stands before the request line; at most one is allowed.",
            .tls => "These bytes look like a TLS handshake; this port speaks plain HTTP: use http:// instead of https://.",
            .request_line => "The request line must be: method, one space, target, one space, HTTP/1.1.",
            .request_line_too_long => print("The request line is longer than {d} bytes; send large values in the body.", .{limits.request_line_bytes_max}),
            .head_too_long => print("Request line and headers together are longer than {d} bytes.", .{limits.header_bytes_max}),
            .headers_too_many => print("There are more than {d} headers.", .{limits.headers_max}),
            .method_syntax => "The method contains a byte that no method may contain; e.g. GET or POST.",
            .method_unsupported => "This method is not served; GET, HEAD, POST, PUT, DELETE, PATCH and OPTIONS are (in upper case).",
            .version_syntax => "The request line must end with HTTP/1.1 or HTTP/1.0.",
            .version_unsupported => "This version of HTTP is not spoken here; HTTP/1.1 and HTTP/1.0 are.",
            .target_form => "The target must be a path that starts with /, a URL that starts with http://, or * for OPTIONS.",
            .target_fragment => "The target contains #; fragments stay with the client, a literal # is written %23.",
            .target_authority => "The host in the target is not valid: a name, an IPv4 address or an [IPv6] address, with an optional port, without user or password.",
            .path_escape => "The path has a % that two hexadecimal digits do not follow; a literal % is written %25.",
            .path_nul => "The path contains %00.",
            .path_utf8 => "The decoded path is not UTF-8.",
            .path_dots => "The path contains the segment . or .. (perhaps percent-encoded); send the path that is meant.",
            .header_no_colon => "A header line has no colon.",
            .header_name => "A header's name is empty or contains a byte that no name may contain.",
            .header_space_before_colon => "There is white space between a header's name and its colon.",
            .header_folded => "A header line starts with white space; folded headers are obsolete and refused.",
            .header_duplicate => "Authorization or Content-Type is there more than once.",
            .host_missing => "HTTP/1.1 requires the header Host.",
            .host_duplicate => "The header Host is there more than once.",
            .host_invalid => "The header Host is not valid: a name, an IPv4 address or an [IPv6] address, with an optional port.",
            .content_length_invalid => "Content-Length must be one number of decimal digits.",
            .content_length_duplicate => "Content-Length is there more than once.",
            .content_length_with_transfer_encoding => "Content-Length and Transfer-Encoding are both there; one body has one length.",
            .transfer_encoding_in_1_0 => "HTTP/1.0 has no Transfer-Encoding; send Content-Length or HTTP/1.1.",
            .transfer_encoding_duplicate => "Transfer-Encoding is there more than once.",
            .transfer_encoding_invalid => "Transfer-Encoding must be chunked: the end of this body cannot be found.",
            .transfer_encoding_unsupported => "Of the transfer codings only chunked alone is served; compress with Content-Encoding instead.",
            .expectation => "The only expectation that is served is 100-continue.",
            .body_too_large => "The body is larger than allowed here.",
            .chunk_size => "A chunk's size must be hexadecimal digits, without sign, prefix or space, and end with CRLF or ;.",
            .chunk_size_overflow => "A chunk's size has more than 16 digits.",
            .chunk_extension => "A chunk extension contains a byte that is not allowed, or does not end with CRLF.",
            .chunk_line_too_long => print("A chunk's size line is longer than {d} bytes.", .{limits.chunk_line_bytes_max}),
            .chunk_overhead => print("The chunks' framing takes over {d} bytes more than what they carry; send larger chunks.", .{limits.chunk_overhead_bytes_max}),
            .chunk_end => "A chunk's data must be followed by CRLF: the size before it was wrong.",
            .trailer => "A trailer is not a well-formed header line.",
            .trailers_too_long => print("The trailers are longer than {d} bytes.", .{limits.trailer_bytes_max}),
        };
    }
};

test "every refusal has a status of its class and a sentence" {
    for (std.enums.values(Refusal)) |refusal| {
        try std.testing.expect(refusal.status() >= 400 and refusal.status() <= 505);
        const detail = refusal.detail();
        const too_large = refusal.status() == 414 or refusal.status() == 431;
        try std.testing.expectEqual(too_large, refusal.allowed() != null);
        try std.testing.expect(detail.len > 20 and detail[detail.len - 1] == '.');
        for (detail) |byte| try std.testing.expect(byte >= 0x20 and byte < 0x7f and byte != '"' and byte != '\\');
    }
}
