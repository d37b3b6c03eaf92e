//! The wire format between the gateway, its workers and the zygote: one idea, every byte of it here.
//!
//! Three conversations, each over AF_UNIX SOCK_SEQPACKET (a frame is one datagram, never split or merged):
//!   gateway → worker   Request (invoke), then worker → gateway any number of `log`, at most two
//!                      `interrupted`, then one `answer` or `failure`
//!   worker → gateway   once after its start: `ready` or `failed`
//!   gateway ↔ zygote   Spawn, answered by Spawned (with the pidfd) or refused; later Exited, once per worker
//! All integers are little-endian (x86-64 and aarch64 are; checked at comptime).
//!
//! Everything that a worker sends is hostile: the decoders here return errors and never assert on content.
//! `gateway/zygote/protocol.py` mirrors the zygote's half; tests/unit checks that the sizes agree.
const std = @import("std");
const assert = std.debug.assert;

comptime {
    assert(@import("builtin").cpu.arch.endian() == .little);
}

pub const magic: u32 = 0x54_43_46_31; // "1FCT" in memory: Tailcut frame, version 1

pub const Method = enum(u8) { GET = 0, HEAD, POST, PUT, DELETE, PATCH, OPTIONS, _ };

/// Bits of `flags` in Request and Answer.
pub const flag_body_shared: u8 = 1; // the body is in the worker's shared memory, not in the frame
pub const flag_last: u8 = 2; // of an answer: the worker ends after it, send nothing more
pub const flag_shared_empty: u8 = 4; // of a request: the shared memory's pages have been given back since the last one

/// Gateway → worker. Followed by: path, query, header block, body (unless `flag_body_shared`).
/// The path is what follows the function's name (percent-decoded, "/" at least); the query is raw, without "?".
pub const Request = extern struct {
    magic: u32 = magic,
    kind: u8 = 1,
    flags: u8,
    method: Method,
    reserved0: u8 = 0,
    /// Counts up per worker; the answer echoes it. Anything else on the channel is garbage.
    sequence: u64,
    invocation_id: [16]u8,
    path_bytes: u16,
    query_bytes: u16,
    headers_count: u16,
    reserved1: u16 = 0,
    headers_bytes: u32,
    body_bytes: u32,
    /// Budgets of this invocation: wall clock and CPU. The gateway enforces them; the worker only tells its handler.
    timeout_ns: u64,
    cpu_ns: u64,
    /// Bytes of log output that this invocation may still send.
    log_bytes_max: u32,
    /// Bytes that its answer's body may have.
    output_bytes_max: u32,
};

/// The soft signal: the gateway tells the worker, through its pidfd, that a limit was crossed. Its value names the
/// invocation that is meant, so that one which comes too late is nobody's. SIGXCPU: no program uses it for anything else.
pub const soft_signal = 24;
pub const Soft = enum(u2) { none = 0, wall_clock = 1, cpu = 2 };

pub fn softValue(sequence: u64, soft: Soft) u64 {
    return sequence << 2 | @backingInt(soft);
}

pub const Kind = enum(u8) {
    /// Answer.status, header block, body.
    answer = 2,
    /// A failure of the function: a block of entries instead of headers (see Failure), no body.
    failure = 3,
    /// One line of output; `status` is the stream (1 stdout, 2 stderr, 3 the runtime's own word, e.g. "truncated"). Body: the bytes.
    log = 4,
    /// The function is imported and callable. Body: JSON (Ready in gateway/contract/worker.py).
    ready = 5,
    /// The function cannot be imported. Body: JSON (StartFailure in gateway/contract/worker.py). The worker ends itself.
    failed = 6,
    /// The soft signal has reached the handler: its exception is being raised. Without a body; then once more, with the
    /// traceback of where it was.
    interrupted = 7,
    _,
};

/// Worker → gateway. Followed by: header block, body (unless `flag_body_shared`).
pub const Answer = extern struct {
    magic: u32 = magic,
    kind: Kind,
    flags: u8 = 0,
    status: u16,
    sequence: u64,
    headers_count: u16 = 0,
    reserved0: u16 = 0,
    headers_bytes: u32 = 0,
    body_bytes: u32 = 0,
    reserved1: u32 = 0,
};

/// Names of the entries of a `failure` block, in this order; `argument` may repeat.
/// `kind` is `function-error` (answered 500), `invalid-arguments` (422), `memory-limit` (a MemoryError: 500 or 402) or
/// `output-limit` (500; `message`: the bytes).
/// The value of `argument` is the argument's name, a NUL, and what is wrong with it.
pub const failure_names = [_][]const u8{ "kind", "type", "message", "traceback", "argument" };

/// One name/value pair of a block: u16 name length, u16 value length, name, value.
pub const Entry = struct { name: []const u8, value: []const u8 };
pub const entry_overhead_bytes = 4;

/// Gateway → zygote, with two descriptors (SCM_RIGHTS): the worker's end of its channel, its shared memory.
/// Followed by the spawn document (JSON, SpawnSpec in gateway/contract/worker.py), opaque to Zig.
pub const Spawn = extern struct {
    magic: u32 = magic,
    kind: u8 = 16,
    /// 1: `cpu` is a reserved one, the worker belongs into its partition.
    reserved_cpu: u8 = 0,
    reserved0: [2]u8 = .{ 0, 0 },
    /// Chosen by the gateway, echoed.
    request: u64,
    /// CPU to pin the worker to.
    cpu: u32,
    spec_bytes: u32,
};

pub const ZygoteKind = enum(u8) {
    /// The worker runs; its pidfd comes along (SCM_RIGHTS), and behind it the folder of its memory control group, if it is
    /// in one; behind that, of one that may have processes, the file that counts the CPU time of them all. `status`: `spawned_movable`, or 0.
    spawned = 17,
    /// No worker; `status` is the errno, a text follows.
    refused = 18,
    /// A worker ended; `status` is the wait status of waitpid(2), `request` the one that made it.
    exited = 19,
    /// Of a worker that runs: the descriptor on which the kernel tells of its forbidden calls comes along.
    tripwire = 20,
    _,
};

/// The worker is a user of its own in a user namespace: its soft limits may be moved from outside, and count it alone.
pub const spawned_movable = 1;

pub const ZygoteReply = extern struct {
    magic: u32 = magic,
    kind: ZygoteKind,
    reserved0: [3]u8 = .{ 0, 0, 0 },
    request: u64,
    pid: i32,
    status: i32,
    /// Of an exit: processes of the worker that the kernel ended because its memory was used up, and its peak.
    oom_kills: u32 = 0,
    reserved1: u32 = 0,
    memory_peak_bytes: u64 = 0,
    /// Of `exited`: CPU time of its whole life.
    cpu_ns: u64 = 0,
};

comptime {
    assert(@sizeOf(Request) == 72);
    assert(@sizeOf(Answer) == 32);
    assert(@sizeOf(Spawn) == 24);
    assert(@sizeOf(ZygoteReply) == 48);
}

pub const BlockError = error{ Truncated, TooMany, TrailingBytes };

/// Reads a block of `count` entries out of exactly `bytes`. Lengths are checked, content is not.
pub const BlockIterator = struct {
    bytes: []const u8,
    count: u16,

    pub fn init(bytes: []const u8, count: u16, count_max: u16) BlockError!BlockIterator {
        if (count > count_max) return error.TooMany;
        return .{ .bytes = bytes, .count = count };
    }

    pub fn next(it: *BlockIterator) BlockError!?Entry {
        if (it.count == 0) return if (it.bytes.len == 0) null else error.TrailingBytes;
        if (it.bytes.len < entry_overhead_bytes) return error.Truncated;
        const name_bytes: usize = std.mem.readInt(u16, it.bytes[0..2], .little);
        const value_bytes: usize = std.mem.readInt(u16, it.bytes[2..4], .little);
        const rest = it.bytes[entry_overhead_bytes..];
        if (rest.len < name_bytes + value_bytes) return error.Truncated;
        it.bytes = rest[name_bytes + value_bytes ..];
        it.count -= 1;
        return .{ .name = rest[0..name_bytes], .value = rest[name_bytes..][0..value_bytes] };
    }
};

/// Appends one entry to `buffer` at `at`; returns the new end, or null when it does not fit.
pub fn entryWrite(buffer: []u8, at: usize, name: []const u8, value: []const u8) ?usize {
    assert(at <= buffer.len);
    if (name.len > std.math.maxInt(u16) or value.len > std.math.maxInt(u16)) return null;
    const end = at + entry_overhead_bytes + name.len + value.len;
    if (end > buffer.len) return null;
    std.mem.writeInt(u16, buffer[at..][0..2], @intCast(name.len), .little);
    std.mem.writeInt(u16, buffer[at + 2 ..][0..2], @intCast(value.len), .little);
    @memcpy(buffer[at + 4 ..][0..name.len], name);
    @memcpy(buffer[at + 4 + name.len ..][0..value.len], value);
    return end;
}

/// The entry at `at` has a shorter value now.
pub fn entryCut(buffer: []u8, at: usize, value_bytes: usize) void {
    assert(value_bytes <= std.mem.readInt(u16, buffer[at + 2 ..][0..2], .little));
    std.mem.writeInt(u16, buffer[at + 2 ..][0..2], @intCast(value_bytes), .little);
}

test "a block is read back as it was written, and cut or padded ones are errors" {
    var buffer: [64]u8 = undefined;
    const one = entryWrite(&buffer, 0, "content-type", "text/plain").?;
    const two = entryWrite(&buffer, one, "x", "").?;
    var it = try BlockIterator.init(buffer[0..two], 2, 8);
    const first = (try it.next()).?;
    try std.testing.expectEqualStrings("content-type", first.name);
    try std.testing.expectEqualStrings("text/plain", first.value);
    try std.testing.expectEqualStrings("x", (try it.next()).?.name);
    try std.testing.expectEqual(null, try it.next());

    it = try BlockIterator.init(buffer[0 .. two - 1], 2, 8);
    _ = try it.next();
    try std.testing.expectError(error.Truncated, it.next());
    it = try BlockIterator.init(buffer[0..two], 1, 8);
    _ = try it.next();
    try std.testing.expectError(error.TrailingBytes, it.next());
    try std.testing.expectError(error.TooMany, BlockIterator.init(buffer[0..two], 9, 8));
    try std.testing.expectEqual(null, entryWrite(buffer[0..8], 0, "long name", "v"));
}
