//! The system-call policy as data: what a worker may ask of the kernel, and why; what becomes of the rest.
//!
//! Read by seccomp.zig, which compiles it. The list comes from running CPython's own test suite under
//! it as a prototype; whatever is not here is refused. What always holds: a call is in one list only (checked when this is compiled).

/// What the kernel does with a call. The numbers are errno's.
pub const Action = enum(u16) {
    allow = 0,
    /// An ordinary refusal.
    eperm = 1,
    /// Where a library falls back to something older.
    enosys = 38,
    /// Terminal and device questions: the answer of anything that is no terminal.
    enotty = 25,
    /// Extended attributes: shutil.copy2 knows this one and goes on, EPERM breaks it.
    enotsup = 95,
    /// No Python program needs it: one try ends the process by SIGSYS.
    kill = 0xffff,
    /// The same where tripwire.zig has been told first; by itself it is ENOSYS.
    told = 0xfffe,
};

pub const Group = struct { why: []const u8, calls: []const []const u8 };

pub const allowed = [_]Group{
    .{ .why = "files: of the read-only root and of /tmp; the mounts and Landlock say which", .calls = &.{
        "access",    "chdir",           "chmod",     "close",      "close_range", "copy_file_range", "creat",      "dup",
        "dup2",      "dup3",            "faccessat", "faccessat2", "fadvise64",   "fallocate",       "fchdir",     "fchmod",
        "fchmodat",  "fchown",          "fdatasync", "flock",      "fstat",       "fstatat64",       "fstatfs",    "fsync",
        "ftruncate", "getcwd",          "getdents",  "getdents64", "lchown",      "link",            "linkat",     "lseek",
        "lstat",     "mkdir",           "mkdirat",   "newfstatat", "open",        "openat",          "pread64",    "preadv",
        "preadv2",   "pwrite64",        "pwritev",   "pwritev2",   "read",        "readlink",        "readlinkat", "readv",
        "rename",    "renameat",        "renameat2", "rmdir",      "stat",        "statfs",          "statx",      "symlink",
        "symlinkat", "sync_file_range", "truncate",  "umask",      "unlink",      "unlinkat",        "utime",      "utimensat",
        "utimes",    "futimesat",       "write",     "writev",
    } },
    .{ .why = "memory of its own", .calls = &.{ "brk", "mincore", "mprotect", "mremap", "msync", "munmap", "membarrier" } },
    .{ .why = "threads: starting, waiting, ending (clone is judged by its arguments)", .calls = &.{
        "exit",            "exit_group",      "futex",  "get_robust_list", "gettid", "restart_syscall", "rseq", "sched_yield",
        "set_robust_list", "set_tid_address", "tgkill",
    } },
    .{ .why = "waiting: pipes, event loops, timers", .calls = &.{
        "alarm",        "clock_nanosleep",  "epoll_create",  "epoll_create1", "epoll_ctl",      "epoll_pwait",     "epoll_pwait2",
        "epoll_wait",   "eventfd",          "eventfd2",      "getitimer",     "nanosleep",      "pause",           "pipe",
        "pipe2",        "poll",             "ppoll",         "pselect6",      "select",         "setitimer",       "timer_create",
        "timer_delete", "timer_getoverrun", "timer_gettime", "timer_settime", "timerfd_create", "timerfd_gettime", "timerfd_settime",
    } },
    .{ .why = "signals to itself and its handlers", .calls = &.{
        "kill",            "rt_sigpending",     "rt_sigprocmask", "rt_sigqueueinfo", "rt_sigreturn", "rt_sigsuspend",
        "rt_sigtimedwait", "rt_tgsigqueueinfo", "sigaltstack",    "signalfd",        "signalfd4",    "tkill",
    } },
    .{ .why = "its end of the channel, and socket pairs of its own: no address can be named (socket is refused)", .calls = &.{
        "getpeername", "getsockname", "getsockopt", "shutdown",
    } },
    .{ .why = "asking about itself, the clock and the machine's size; nothing is told of others", .calls = &.{
        "clock_getres",       "clock_gettime",         "getcpu",                 "getegid",                "geteuid",           "getgid",
        "getgroups",          "getpgid",               "getpgrp",                "getpid",                 "getppid",           "getpriority",
        "getrandom",          "getresgid",             "getresuid",              "getrlimit",              "getrusage",         "getsid",
        "gettimeofday",       "getuid",                "sched_get_priority_max", "sched_get_priority_min", "sched_getaffinity", "sched_getparam",
        "sched_getscheduler", "sched_rr_get_interval", "sysinfo",                "time",                   "times",             "uname",
        "wait4",              "waitid",
    } },
};

pub const enosys = Group{ .why = "newer ways to do an allowed thing: glibc and libraries fall back to the old one", .calls = &.{
    "cachestat",       "clone3",            "fchmodat2",        "futex_requeue",           "futex_wait",              "futex_waitv",            "futex_wake",
    "getxattrat",      "io_cancel",         "io_destroy",       "io_getevents",            "io_pgetevents",           "io_setup",               "io_submit",
    "io_uring_enter",  "io_uring_register", "io_uring_setup",   "landlock_add_rule",       "landlock_create_ruleset", "landlock_restrict_self", "listmount",
    "listxattrat",     "lsm_get_self_attr", "lsm_list_modules", "lsm_set_self_attr",       "map_shadow_stack",        "memfd_secret",           "mseal",
    "open_tree_attr",  "openat2",           "pidfd_open",       "pidfd_send_signal",       "pkey_alloc",              "pkey_free",              "pkey_mprotect",
    "process_madvise", "process_mrelease",  "removexattrat",    "set_mempolicy_home_node", "setxattrat",              "statmount",              "uretprobe",
    "uprobe",          "file_getattr",      "file_setattr",
} };

pub const enotsup = Group{ .why = "extended attributes: tmpfs of a worker has none to offer", .calls = &.{
    "fgetxattr", "flistxattr",  "fremovexattr", "fsetxattr", "getxattr", "lgetxattr", "listxattr", "llistxattr", "lremovexattr",
    "lsetxattr", "removexattr", "setxattr",
} };

pub const killed = Group{ .why = "the doors of past break-outs (kernelCTF): no Python program comes here by accident", .calls = &.{
    "acct",             "add_key",           "bpf",               "chroot",         "delete_module",   "finit_module", "fsconfig",
    "fsmount",          "fsopen",            "fspick",            "init_module",    "ioperm",          "iopl",         "kcmp",
    "kexec_file_load",  "kexec_load",        "keyctl",            "lookup_dcookie", "modify_ldt",      "mount",        "mount_setattr",
    "move_mount",       "name_to_handle_at", "open_by_handle_at", "open_tree",      "perf_event_open", "pidfd_getfd",  "pivot_root",
    "process_vm_readv", "process_vm_writev", "ptrace",            "quotactl",       "quotactl_fd",     "reboot",       "request_key",
    "setns",            "swapoff",           "swapon",            "syslog",         "umount2",         "unshare",      "userfaultfd",
    "uselib",           "vhangup",           "vmsplice",
} };

/// A condition on one argument; `Rule.otherwise` is what happens when it does not hold.
pub const Condition = struct {
    argument: u3,
    test_: union(enum) {
        /// The low 32 bits are one of these: for arguments that the kernel takes as `int`.
        one_of: []const u32,
        /// The low 32 bits are any number but this.
        not: u32,
        /// None of these bits is set in the low 32.
        without: u32,
        /// All 64 bits are zero.
        zero: void,
        /// All 64 bits are one of these values.
        exactly: []const u32,
    },
};

pub const Rule = struct {
    call: []const u8,
    why: []const u8,
    /// All must hold for the call to be allowed.
    conditions: []const Condition,
    otherwise: Action,
};

const soft_signal = @import("../pool/frame.zig").soft_signal;

/// One more way for a call of `rules` to be allowed.
pub const Exception = struct {
    call: []const u8,
    why: []const u8,
    conditions: []const Condition,
};

/// What some workers may do beyond that: calls, rules for calls that have none, exceptions to the rules of others.
pub const Profile = struct {
    allowed: []const Group = &.{},
    rules: []const Rule = &.{},
    exceptions: []const Exception = &.{},
};

/// Children that die with the worker, the first of its PID namespace; RLIMIT_NPROC counts them. They keep this filter.
pub const processes = Profile{
    .allowed = &.{
        .{ .why = "programs of its bundle and the interpreter; nothing else in its root can be executed", .calls = &.{ "execve", "vfork", "fork" } },
        .{ .why = "groups and sessions of its own children, as subprocess makes them", .calls = &.{ "setpgid", "setsid" } },
    },
    .rules = &.{
        .{ .call = "arch_prctl", .why = "a program that starts sets its thread pointer (ARCH_SET_FS)", .otherwise = .eperm, .conditions = &.{
            .{ .argument = 0, .test_ = .{ .one_of = &.{0x1002} } },
        } },
    },
    .exceptions = &.{
        .{ .call = "clone", .why = "fork and posix_spawn as glibc makes them; no namespaces", .conditions = &.{
            .{ .argument = 0, .test_ = .{ .exactly = &.{ fork_flags, spawn_flags } } },
        } },
    },
};

/// TCP over IPv4 to whoever listens in the worker's own namespace, which is the egress alone (network.zig). No sendmsg and
/// recvmsg: descriptors could be passed on the pairs that event loops make (the kernel's collector of such cycles has had
/// holes); no bind, listen, accept; no datagrams, so no DNS: the egress resolves names. No TCP_ULP (kernel TLS) and no
/// sizes of buffers (network.zig bounds them).
pub const network = Profile{
    .allowed = &.{
        .{ .why = "to the egress: the namespace has nobody else, and Landlock lets pass that port alone", .calls = &.{"connect"} },
    },
    .rules = &.{
        .{
            .call = "socket",
            .why = "TCP over IPv4",
            .otherwise = .eperm,
            .conditions = &.{
                .{ .argument = 0, .test_ = .{ .one_of = &.{2} } },
                // SOCK_STREAM, with or without NONBLOCK and CLOEXEC
                .{ .argument = 1, .test_ = .{ .one_of = &.{ 1, 0x801, 0x80001, 0x80801 } } },
                .{ .argument = 2, .test_ = .{ .one_of = &.{ 0, 6 } } },
            },
        },
        .{
            .call = "setsockopt",
            .why = "what HTTP clients set on a connection",
            .otherwise = .eperm,
            .conditions = &.{
                // SOL_SOCKET: SO_REUSEADDR SO_KEEPALIVE SO_LINGER SO_RCVTIMEO SO_SNDTIMEO
                .{ .argument = 1, .test_ = .{ .one_of = &.{1} } },
                .{ .argument = 2, .test_ = .{ .one_of = &.{ 2, 9, 13, 20, 21 } } },
            },
        },
    },
    .exceptions = &.{
        .{
            .call = "setsockopt",
            .why = "TCP_NODELAY TCP_CORK TCP_KEEPIDLE TCP_KEEPINTVL TCP_KEEPCNT TCP_QUICKACK TCP_USER_TIMEOUT",
            .conditions = &.{
                .{ .argument = 1, .test_ = .{ .one_of = &.{6} } },
                .{ .argument = 2, .test_ = .{ .one_of = &.{ 1, 3, 4, 5, 6, 12, 18 } } },
            },
        },
    },
};

/// The flags of glibc's pthread_create.
pub const thread_flags = 0x3d0f00;
/// Of its fork: CHILD_CLEARTID, CHILD_SETTID, SIGCHLD.
const fork_flags = 0x1200011;
/// Of its posix_spawn: VM, VFORK, SIGCHLD.
const spawn_flags = 0x4111;
const msg_oob = 1;
const map_hugetlb = 0x40000;

/// Tenant code shares the process with the rewinder and may do the same. What that gives it:
/// PAGEMAP_SCAN tells which of the process's own pages are present, its to know anyway; the flags that write (protection
/// of pages) need a userfaultfd, which is refused. Physical addresses are hidden, as the file was opened without rights.
/// Sealing the checkpoint early breaks the worker's own start.
pub const rewinding = Profile{ .exceptions = &.{
    .{ .call = "ioctl", .why = "PAGEMAP_SCAN on the process's own pagemap: finds the pages that an invocation has written", .conditions = &.{
        .{ .argument = 0, .test_ = .{ .exactly = &.{pagemap_fd} } },
        .{ .argument = 1, .test_ = .{ .one_of = &.{0xc0606610} } },
    } },
    .{ .call = "fcntl", .why = "F_ADD_SEALS (all) on the file that holds the checkpoint: nobody writes to it any more", .conditions = &.{
        .{ .argument = 0, .test_ = .{ .exactly = &.{memory_fd} } },
        .{ .argument = 1, .test_ = .{ .one_of = &.{1033} } },
        .{ .argument = 2, .test_ = .{ .exactly = &.{15} } },
    } },
} };

/// Tenant code of such a function may fork, too: what it leaves is killed with the invocation, and all of it counts for
/// the worker (PID namespace, RLIMIT_NPROC, control group).
pub const forking = Profile{ .exceptions = &.{
    .{ .call = "clone", .why = "fork, with the flags of glibc's: a process for each invocation", .conditions = &.{
        .{ .argument = 0, .test_ = .{ .exactly = &.{fork_flags} } },
    } },
} };

const pagemap_fd = @import("fds.zig").Rewinder.pagemap;
const memory_fd = @import("fds.zig").Rewinder.memory;

/// The hottest first: these are never in the kernel's own cache of verdicts.
pub const rules = [_]Rule{
    .{ .call = "recvfrom", .why = "the channel; out-of-band bytes have been a way into the garbage collector of sockets", .otherwise = .eperm, .conditions = &.{
        .{ .argument = 3, .test_ = .{ .without = msg_oob } },
    } },
    .{ .call = "sendto", .why = "the channel; no address may be named", .otherwise = .eperm, .conditions = &.{
        .{ .argument = 3, .test_ = .{ .without = msg_oob } },
        .{ .argument = 4, .test_ = .zero },
    } },
    .{ .call = "rt_sigaction", .why = "handlers of its own; the one of the soft signal stays", .otherwise = .eperm, .conditions = &.{
        .{ .argument = 0, .test_ = .{ .not = soft_signal } },
    } },
    .{ .call = "mmap", .why = "memory; huge pages are a resource of everybody's", .otherwise = .eperm, .conditions = &.{
        .{ .argument = 3, .test_ = .{ .without = map_hugetlb } },
    } },
    .{ .call = "madvise", .why = "advice for itself: not merging with others' pages, not breaking them", .otherwise = .eperm, .conditions = &.{
        .{ .argument = 2, .test_ = .{ .one_of = &.{ 0, 1, 2, 3, 4, 8, 9, 10, 11, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25 } } },
    } },
    .{
        .call = "fcntl",
        .why = "flags, duplicates, locks; no leases, owners of signals, pipe sizes, seals",
        .otherwise = .eperm,
        .conditions = &.{
            // DUPFD GETFD SETFD GETFL SETFL GETLK SETLK SETLKW, OFD locks, DUPFD_CLOEXEC, GETPIPE_SZ, GET_SEALS
            .{ .argument = 1, .test_ = .{ .one_of = &.{ 0, 1, 2, 3, 4, 5, 6, 7, 36, 37, 38, 1030, 1032, 1034 } } },
        },
    },
    .{
        .call = "ioctl",
        .why = "what Python asks of descriptors; everything else is a driver's",
        .otherwise = .enotty,
        .conditions = &.{
            // FIONREAD FIONBIO FIOCLEX FIONCLEX, TCGETS TIOCGWINSZ (answered: no terminal)
            .{ .argument = 1, .test_ = .{ .one_of = &.{ 0x541b, 0x5421, 0x5451, 0x5450, 0x5401, 0x5413 } } },
        },
    },
    .{ .call = "clone", .why = "threads; a process would be outside the worker's accounting", .otherwise = .eperm, .conditions = &.{
        .{ .argument = 0, .test_ = .{ .exactly = &.{thread_flags} } },
    } },
    .{ .call = "prlimit64", .why = "reading one's own limits", .otherwise = .eperm, .conditions = &.{
        .{ .argument = 0, .test_ = .{ .one_of = &.{0} } },
        .{ .argument = 2, .test_ = .zero },
    } },
    .{ .call = "prctl", .why = "names of threads", .otherwise = .eperm, .conditions = &.{
        .{ .argument = 0, .test_ = .{ .one_of = &.{ 15, 16 } } },
    } },
    .{
        .call = "socketpair",
        .why = "event loops wake themselves by a pair of streams",
        .otherwise = .eperm,
        .conditions = &.{
            .{ .argument = 0, .test_ = .{ .one_of = &.{1} } },
            // SOCK_STREAM, with or without NONBLOCK and CLOEXEC
            .{ .argument = 1, .test_ = .{ .one_of = &.{ 1, 0x801, 0x80001, 0x80801 } } },
            .{ .argument = 2, .test_ = .{ .one_of = &.{0} } },
        },
    },
};
