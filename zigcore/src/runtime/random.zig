//! The module-level generator of Python's `random`, seeded anew after each rewind.
//!
//! Called by runtime/checkpoint. Why here and not `random.seed()`: that takes longer than the whole rewind. The 624 words
//! of a Mersenne Twister (Modules/_randommodule.c: an int index, then the words, behind the object's head) are filled
//! from a generator with 256 bits of the kernel's randomness. The caller has checked that the object looks so.
//! `secrets`, `uuid4`, `os.urandom` and `random.SystemRandom` ask the kernel each time and need nothing.
const std = @import("std");
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
    var generator: std.Random.Xoshiro256 = .{ .s = seed.* };
    seed.* = @splat(0);
    for (&state.words) |*word| word.* = @truncate(generator.next() >> 16);
    // All used up: the next call makes a new block of them.
    state.index = words_count;
}
