//! Makes every object alive at the checkpoint immortal, so that counting references to it writes nothing.
//!
//! Called by runtime/loop just before the checkpoint. An invocation's reads then dirty no pages; and nothing needs to be
//! freed that going back revives anyway. Only on builds whose layout the caller has checked (CPython 3.12 and 3.13 with
//! the GIL, PEP 683): others run without, with more dirty pages.
//! What always holds: frames are left alone (they end); an object that is not found only stays mortal.
const std = @import("std");
const py = @import("python.zig");

/// _Py_IMMORTAL_REFCNT of 3.12 and 3.13: UINT_MAX, at which both halves of the check stop counting.
const count_immortal: u64 = 0xffff_ffff;
/// What is counted lies below; such a number of references has nobody.
const count_plausible_max: u64 = 0x7fff_ffff;
const depth_max = 64;

const Head = extern struct { count: u64, type: *py.Object };

/// Offsets of the objects that a code object holds: consts, names, exceptiontable, localsplusnames, localspluskinds,
/// filename, name, qualname, linetable.
const code_parts = [_]usize{ 24, 32, 40, 96, 104, 112, 120, 128, 136 };

/// How many were mortal. The collector's permanent generation is not visited: unfreeze first.
pub fn all() u64 {
    var walk: Walk = .{};
    py.visitTracked(tracked, &walk);
    return walk.made_count;
}

const Walk = struct { made_count: u64 = 0, depth: u32 = 0 };

fn tracked(object: *py.Object, argument: ?*anyopaque) callconv(.c) c_int {
    const walk: *Walk = @ptrCast(@alignCast(argument.?));
    if (py.isFrame(object)) return 1;
    _ = mark(object, walk);
    py.traverse(object, referred, walk);
    return 1;
}

fn referred(object: *py.Object, argument: ?*anyopaque) callconv(.c) c_int {
    const walk: *Walk = @ptrCast(@alignCast(argument.?));
    if (py.isFrame(object) or !mark(object, walk)) return 0;
    if (walk.depth == depth_max) return 0;
    walk.depth += 1;
    defer walk.depth -= 1;
    if (py.isCode(object)) {
        for (code_parts) |offset| {
            const slot: *const ?*py.Object = @ptrFromInt(@intFromPtr(object) + offset);
            if (slot.*) |part| _ = referred(part, walk);
        }
        // What the collector tracks it visits by itself.
    } else if (!py.isTracked(object)) py.traverse(object, referred, walk);
    return 0;
}

/// False: it was so already.
fn mark(object: *py.Object, walk: *Walk) bool {
    const head: *Head = @ptrCast(@alignCast(object));
    if (head.count > count_plausible_max) return false;
    head.count = count_immortal;
    walk.made_count += 1;
    return true;
}
