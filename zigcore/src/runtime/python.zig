//! The part of CPython's C API that the worker's loop uses, declared by hand.
//!
//! Called by runtime/loop. The symbols are found in the process that loads the library: CPython itself, 3.12 or newer.
//! Only functions and static objects: the same declarations fit every 3.x (also free-threaded). The one struct layout is
//! at the end, for walking the heap, and only used where it has been checked.
//! What always holds: a function here returns owned objects as `?*Object` (null: an exception is set) unless its name
//! says borrowed; the GIL is held.
const std = @import("std");

pub const Object = opaque {};

extern fn PyGILState_Ensure() c_int;
extern fn PyGILState_Release(state: c_int) void;
extern fn PyBytes_FromStringAndSize(bytes: ?[*]const u8, size: isize) ?*Object;
extern fn PyBytes_AsStringAndSize(object: *Object, bytes: *[*]u8, size: *isize) c_int;
extern fn PyTuple_Size(object: *Object) isize;
extern fn PyTuple_GetItem(object: *Object, index: isize) ?*Object;
extern fn PyLong_AsLong(object: *Object) c_long;
extern fn PyObject_Vectorcall(callable: *Object, args: [*]const ?*Object, nargsf: usize, names: ?*Object) ?*Object;
extern fn PyErr_GetRaisedException() ?*Object;
extern fn PyErr_Clear() void;
extern fn PyErr_CheckSignals() c_int;
extern fn PyErr_SetInterruptEx(signal: c_int) c_int;
extern fn Py_DecRef(object: ?*Object) void;
extern fn PyObject_CallNoArgs(callable: *Object) ?*Object;
extern fn PyUnstable_GC_VisitObjects(visit: Visit, argument: ?*anyopaque) void;
extern fn PyObject_GC_IsTracked(object: *Object) c_int;
extern fn PyType_GetFlags(of: *Object) c_ulong;
extern fn PyType_GetSlot(of: *Object, slot: c_int) ?*anyopaque;
extern var _Py_NoneStruct: u8;
extern var PyFrame_Type: u8;
extern var PyCode_Type: u8;

pub const Gil = struct {
    state: c_int,

    pub fn take() Gil {
        return .{ .state = PyGILState_Ensure() };
    }

    pub fn release(gil: Gil) void {
        PyGILState_Release(gil.state);
    }
};

pub fn none() *Object {
    return @ptrCast(&_Py_NoneStruct);
}

pub fn free(object: *Object) void {
    Py_DecRef(object);
}

/// A bytes object with a copy of `bytes`.
pub fn bytesNew(bytes: []const u8) ?*Object {
    return PyBytes_FromStringAndSize(bytes.ptr, @intCast(bytes.len));
}

/// What a bytes object holds, for as long as it lives; null for any other type (no exception stays set).
pub fn bytesBorrowed(object: *Object) ?[]const u8 {
    var bytes: [*]u8 = undefined;
    var size: isize = 0;
    if (PyBytes_AsStringAndSize(object, &bytes, &size) < 0) {
        PyErr_Clear();
        return null;
    }
    return bytes[0..@intCast(size)];
}

/// Item of a tuple of exactly `count` items; null for anything else (no exception stays set).
pub fn tupleItemBorrowed(object: *Object, count: isize, index: isize) ?*Object {
    if (PyTuple_Size(object) != count) {
        PyErr_Clear();
        return null;
    }
    return PyTuple_GetItem(object, index);
}

pub fn integer(object: *Object) ?c_long {
    const value = PyLong_AsLong(object);
    if (value == -1) {
        PyErr_Clear();
        return null;
    }
    return value;
}

pub fn call1(callable: *Object, a: *Object) ?*Object {
    // The slot before the first argument is the callee's to use (PY_VECTORCALL_ARGUMENTS_OFFSET).
    var arguments = [_]?*Object{ null, a };
    return PyObject_Vectorcall(callable, arguments[1..].ptr, 1 | arguments_offset, null);
}

pub fn call2(callable: *Object, a: *Object, b: *Object) ?*Object {
    var arguments = [_]?*Object{ null, a, b };
    return PyObject_Vectorcall(callable, arguments[1..].ptr, 2 | arguments_offset, null);
}

/// A call for its effect; what it raises has nobody to go to.
pub fn call0(callable: *Object) void {
    if (PyObject_CallNoArgs(callable)) |result| free(result) else PyErr_Clear();
}

extern fn PyOS_BeforeFork() void;
extern fn PyOS_AfterFork_Parent() void;
extern fn PyOS_AfterFork_Child() void;

/// Around a fork: CPython's locks, its threads, the generator of `random`, what was registered with os.register_at_fork.
pub const forkPrepare = PyOS_BeforeFork;
pub const forkDoneParent = PyOS_AfterFork_Parent;
pub const forkDoneChild = PyOS_AfterFork_Child;

const arguments_offset: usize = 1 << (@bitSizeOf(usize) - 1);

/// Takes the exception that is set, or null.
pub fn exceptionTake() ?*Object {
    return PyErr_GetRaisedException();
}

pub fn exceptionDrop() void {
    PyErr_Clear();
}

/// Runs Python's signal handlers; what they raise between invocations has nobody to go to.
pub fn signalsRun() void {
    if (PyErr_CheckSignals() < 0) PyErr_Clear();
}

/// Has the main thread call Python's handler of the signal as soon as it can. From signal handlers, without the GIL.
pub fn interrupt(signal: u8) void {
    _ = PyErr_SetInterruptEx(signal);
}

// -- Walking the heap (runtime/immortal alone) --------------------------------------------------------------------

pub const Visit = *const fn (object: *Object, argument: ?*anyopaque) callconv(.c) c_int;

/// Calls `visit` with every object that the collector tracks; it may not allocate, and returns 1 to go on.
pub fn visitTracked(visit: Visit, argument: ?*anyopaque) void {
    PyUnstable_GC_VisitObjects(visit, argument);
}

/// Calls `visit` with what `object` refers to; it returns 0 to go on.
pub fn traverse(object: *Object, visit: Visit, argument: ?*anyopaque) void {
    const of = typeOf(object);
    const have_gc = 1 << 14;
    const tp_traverse = 71;
    if (PyType_GetFlags(of) & have_gc == 0) return;
    const slot = PyType_GetSlot(of, tp_traverse) orelse return;
    const function: *const fn (*Object, Visit, ?*anyopaque) callconv(.c) c_int = @ptrCast(@alignCast(slot));
    _ = function(object, visit, argument);
}

pub fn isTracked(object: *Object) bool {
    const have_gc = 1 << 14;
    return PyType_GetFlags(typeOf(object)) & have_gc != 0 and PyObject_GC_IsTracked(object) != 0;
}

pub fn isFrame(object: *Object) bool {
    return @intFromPtr(typeOf(object)) == @intFromPtr(&PyFrame_Type);
}

pub fn isCode(object: *Object) bool {
    return @intFromPtr(typeOf(object)) == @intFromPtr(&PyCode_Type);
}

/// The second word of an object's head in builds with the GIL.
fn typeOf(object: *Object) *Object {
    const head: *const extern struct { count: u64, type: *Object } = @ptrCast(@alignCast(object));
    return head.type;
}
