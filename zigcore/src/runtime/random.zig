//! The module-level generator of Python's `random`, seeded anew after each rewind.
//!
//! Called by runtime/checkpoint. Why here and not `random.seed()`: that takes longer than the whole rewind. The 624 words
//! of a Mersenne Twister (Modules/_randommodule.c: an int index, then the words, behind the object's head) are filled
//! from generators, four side by side, with 256 bits of the kernel's randomness for all. The caller has checked that the object looks so.
//! `secrets`, `uuid4`, `os.urandom` and `random.SystemRandom` ask the kernel each time and need nothing.
const std = @import("std");
const assert = std.debug.assert;
const sys = @import("../io/sys.zig");

const Random = @This();

const words_count = 624;
/// Behind PyObject_HEAD of a build with the GIL.
const index_offset = 16;

state: ?*extern struct { index: c_int, words: [words_count]u32 },
/// From the kernel, many at a time: each is used once and overwritten.
seeds: [seeds_count][4]u64,
seeds_left: usize,

const seeds_count = 64;

pub fn init(random: *Random, object: usize) void {
    random.state = if (object == 0) null else @ptrFromInt(object + index_offset);
    random.seeds_left = 0;
}

pub fn reseed(random: *Random) sys.Error!void {
    const state = random.state orelse return;
    if (random.seeds_left == 0) {
        try sys.random(std.mem.asBytes(&random.seeds));
        random.seeds_left = seeds_count;
    }
    random.seeds_left -= 1;
    const seed = &random.seeds[random.seeds_left];
    fill(&state.words, seed.*);
    seed.* = @splat(0);
    // All used up: the next call makes a new block of them.
    state.index = words_count;
}

const Lanes = @Vector(4, u64);

/// xoshiro256++ (Blackman, Vigna), whose four generators get their states from the seed by SplitMix64.
fn fill(words: *[words_count]u32, seed: [4]u64) void {
    const lanes: Lanes = .{ 0, 1, 2, 3 };
    var s: [4]Lanes = undefined;
    for (&s, seed) |*each, part| each.* = splitMix(@as(Lanes, @splat(part)) +% lanes *% @as(Lanes, @splat(0x9e3779b97f4a7c15)));
    comptime assert(words_count % 8 == 0);
    for (0..words_count / 8) |n| {
        const result = rotate(s[0] +% s[3], 23) +% s[0];
        const t = s[1] << @splat(17);
        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= t;
        s[3] = rotate(s[3], 45);
        words[n * 8 ..][0..8].* = @bitCast(result);
    }
}

fn splitMix(lanes: Lanes) Lanes {
    var z = lanes;
    z = (z ^ (z >> @splat(30))) *% @as(Lanes, @splat(0xbf58476d1ce4e5b9));
    z = (z ^ (z >> @splat(27))) *% @as(Lanes, @splat(0x94d049bb133111eb));
    return z ^ (z >> @splat(31));
}

fn rotate(lanes: Lanes, comptime bits: u6) Lanes {
    return (lanes << @splat(bits)) | (lanes >> @splat(64 - @as(u7, bits)));
}

test "each lane is xoshiro256++, and no two are alike" {
    const seed: [4]u64 = .{ 1, 2, 3, 4 };
    var words: [words_count]u32 = undefined;
    fill(&words, seed);
    const found: [words_count / 2]u64 = @bitCast(words);
    for (0..4) |lane| {
        var reference: std.Random.Xoshiro256 = undefined;
        for (&reference.s, seed) |*each, part| {
            var mix: std.Random.SplitMix64 = .init(part +% lane *% 0x9e3779b97f4a7c15 -% 0x9e3779b97f4a7c15);
            each.* = mix.next();
        }
        for (0..found.len / 4) |n| try std.testing.expectEqual(reference.next(), found[n * 4 + lane]);
    }
    for (0..4) |a| for (0..a) |b| try std.testing.expect(found[a] != found[b]);
}
