//! Going back to a place on the stack, and running on another stack: the few lines that no compiler writes.
//!
//! Called by runtime/checkpoint. `enter` calls a function and may be made to call it again (`resume`), from any depth,
//! with the stack pointer and the floating-point modes of the first time; it returns when the function returns.
//! Why a call and not setjmp: a function that returns twice would have to be known to the compiler as such.
const builtin = @import("builtin");

pub const supported = builtin.cpu.arch == .x86_64;

pub const Body = *const fn (*anyopaque) callconv(.c) void;

pub const Place = extern struct {
    stack: usize,
    body: Body,
    argument: *anyopaque,
};

pub const enter = tailcut_switch_enter;
pub const again = tailcut_switch_again;
pub const runOn = tailcut_switch_run_on;

extern fn tailcut_switch_enter(place: *Place, body: Body, argument: *anyopaque) callconv(.c) void;
extern fn tailcut_switch_again(place: *const Place) callconv(.c) noreturn;
extern fn tailcut_switch_run_on(stack_top: usize, body: *const fn (*anyopaque) callconv(.c) noreturn, argument: *anyopaque) callconv(.c) noreturn;

comptime {
    if (supported) asm (
        \\.pushsection .text
        \\.hidden tailcut_switch_enter
        \\.globl tailcut_switch_enter
        \\.type tailcut_switch_enter, @function
        \\tailcut_switch_enter:
        \\  pushq %rbp
        \\  pushq %rbx
        \\  pushq %r12
        \\  pushq %r13
        \\  pushq %r14
        \\  pushq %r15
        \\  subq $8, %rsp
        \\  stmxcsr (%rsp)
        \\  fnstcw 4(%rsp)
        \\  movq %rsp, 0(%rdi)
        \\  movq %rsi, 8(%rdi)
        \\  movq %rdx, 16(%rdi)
        \\.Ltailcut_switch_body:
        \\  movq %rdx, %rdi
        \\  callq *%rsi
        \\  ldmxcsr (%rsp)
        \\  fldcw 4(%rsp)
        \\  addq $8, %rsp
        \\  popq %r15
        \\  popq %r14
        \\  popq %r13
        \\  popq %r12
        \\  popq %rbx
        \\  popq %rbp
        \\  retq
        \\.hidden tailcut_switch_again
        \\.globl tailcut_switch_again
        \\.type tailcut_switch_again, @function
        \\tailcut_switch_again:
        \\  movq 0(%rdi), %rsp
        \\  movq 8(%rdi), %rsi
        \\  movq 16(%rdi), %rdx
        \\  fninit
        \\  ldmxcsr (%rsp)
        \\  fldcw 4(%rsp)
        \\  cld
        \\  xorl %ebp, %ebp
        \\  jmp .Ltailcut_switch_body
        \\.hidden tailcut_switch_run_on
        \\.globl tailcut_switch_run_on
        \\.type tailcut_switch_run_on, @function
        \\tailcut_switch_run_on:
        \\  movq %rdi, %rsp
        \\  movq %rdx, %rdi
        \\  callq *%rsi
        \\  ud2
        \\.popsection
    );
}
