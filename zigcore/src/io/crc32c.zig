//! CRC32C (Castagnoli; RFC 3720 appendix B.4): by the processor's own instruction where it has one.
//!
//! Called by meter/journal.zig for each record: 124 bytes take about 20 ns with SSE 4.2, half a microsecond by table.
//! gateway/host/journal.py checks the same sum.
const std = @import("std");
const builtin = @import("builtin");

pub fn hash(bytes: []const u8) u32 {
    return if (builtin.cpu.arch == .x86_64 and hardware()) ofHardware(bytes) else std.hash.crc.@"CRC-32/ISCSI".hash(bytes);
}

var known: std.atomic.Value(u8) = .init(0);

/// SSE 4.2: CPUID leaf 1, ECX bit 20. Asked once.
fn hardware() bool {
    switch (known.load(.monotonic)) {
        1 => return true,
        2 => return false,
        else => {},
    }
    const has = asm volatile ("cpuid"
        : [ecx] "={ecx}" (-> u32),
        : [leaf] "{eax}" (@as(u32, 1)),
          [subleaf] "{ecx}" (@as(u32, 0)),
        : .{ .eax = true, .ebx = true, .edx = true }) & (1 << 20) != 0;
    known.store(if (has) 1 else 2, .monotonic);
    return has;
}

fn ofHardware(bytes: []const u8) u32 {
    var crc: u64 = 0xffff_ffff;
    var rest = bytes;
    while (rest.len >= 8) : (rest = rest[8..]) {
        crc = asm ("crc32q %[word], %[crc]"
            : [crc] "=r" (-> u64),
            : [word] "r" (std.mem.readInt(u64, rest[0..8], .little)),
              [_] "0" (crc),
        );
    }
    for (rest) |byte| {
        crc = asm ("crc32b %[byte], %[crc]"
            : [crc] "=r" (-> u64),
            : [byte] "q" (byte),
              [_] "0" (crc),
        );
    }
    return ~@as(u32, @truncate(crc));
}

test "the check value of the RFC, and both ways agree for every length" {
    try std.testing.expectEqual(0xe306_9283, hash("123456789"));
    var bytes: [200]u8 = undefined;
    for (&bytes, 0..) |*byte, i| byte.* = @truncate(i *% 167 +% 13);
    for (0..bytes.len + 1) |length| {
        try std.testing.expectEqual(std.hash.crc.@"CRC-32/ISCSI".hash(bytes[0..length]), hash(bytes[0..length]));
    }
}
