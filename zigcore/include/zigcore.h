/* zigcore: the functions that libzigcore.so exports, for cffi (ABI mode) and for people.
 *
 * One library, two lives: in the gateway process it is the data plane (zc_gateway_*), in a worker it is the loop
 * that serves invocations (zc_worker_*). Every function returns a zc_status (0 = done) unless it says otherwise;
 * `error` receives a message for people: what, the value, the allowed range. No function calls back into Python
 * except zc_worker_run, which calls the handler.
 * This file is read by cffi: declarations only, plain C, no preprocessor.
 */

typedef enum {
    ZC_OK = 0,
    ZC_INVALID = 1,      /* an argument or a document is wrong: `error` says which */
    ZC_NO_MEMORY = 2,    /* memory could not be reserved at start */
    ZC_SYSTEM = 3,       /* the kernel refused: `error` names the call and the errno */
    ZC_STATE = 4,        /* called in the wrong order */
    ZC_TOO_LARGE = 5     /* over a bound of limits.zig: `error` names it */
} zc_status;

typedef struct { char text[512]; } zc_error;

typedef struct {
    uint32_t abi_version;          /* zc_abi_version() of the header's reader: 3 */
    uint32_t reactors_count;       /* one per shared CPU */
    const uint32_t *reactor_cpus;  /* reactors_count CPU numbers */
    const int *listen_fds;         /* reactors_count listening sockets (SO_REUSEPORT), inherited, never closed by us */
    const char *zygote_path;       /* AF_UNIX SOCK_SEQPACKET socket of the zygote */
    const char *problem_base_url;  /* prefix of `type` in problem+json, e.g. "http://127.0.0.1:8000/errors/" */
    const char *base_domain;       /* "" or "functions.example.com": {tenant}.{domain}/{function} */
    uint64_t node;                 /* node (upper 32 bits) and boot epoch (lower 32): first half of every invocation id */
    uint32_t connections_max;      /* per reactor, ≤ limits.connections_max */
    uint32_t body_bytes_max;       /* of requests and answers, ≤ limits.body_bytes_max */
    uint64_t header_timeout_ns, body_timeout_ns, idle_timeout_ns, write_timeout_ns, queue_timeout_ns, worker_idle_timeout_ns;
    const uint32_t *reserved_cpus; /* reserved_cpus_count CPU numbers: workers with a reservation run there, and nobody of ours else */
    uint32_t reserved_cpus_count;  /* 0 to limits.reserved_cpus_max */
    uint32_t reserved_sellable_ppm; /* of each, in millionths: what the kernel admits */
} zc_gateway_config;

uint32_t zc_abi_version(void);

/* Takes all memory, opens the rings; no thread runs yet. */
int zc_gateway_init(const zc_gateway_config *config, zc_error *error);
/* Starts the reactor threads; they accept nothing yet. Fails, for good, when one of them cannot be pinned to its CPU. */
int zc_gateway_start(zc_error *error);
/* Serves `fd`, a connected stream socket of the host's own, as a client of the first reactor, which closes it. How a
 * gateway checks itself before it accepts. ZC_STATE: not running, or the one before has not been taken yet. */
int zc_gateway_serve(int fd);
/* Accepts from now on; the answer is 503 not-ready until a revision is applied. */
int zc_gateway_listen(void);
/* Decodes and checks a complete revision (JSON, gateway/contract/revision.py) and swaps it in on every reactor
 * before it returns. On any error nothing changes. */
int zc_gateway_apply(const uint8_t *document, size_t document_bytes, zc_error *error);
/* Stops accepting; each connection ends with its next answer (`Connection: close`), idle ones after a moment. One event
 * `drained` follows, when the last reactor has none left. */
int zc_gateway_drain(void);
/* Ends the reactors now, kills the workers. */
int zc_gateway_stop(void);

/* What was spent of leased quotas: a JSON array of the purses that changed since the last call,
 * [{"name":"tenant" or "tenant/function","left":[invocations, CPU µs, MiB·µs],"spent":[the same, since the start]},…].
 * Returns its bytes; what does not fit comes with the next call. */
size_t zc_gateway_purses(uint8_t *buffer, size_t buffer_bytes);
/* Adds to (mode 0) or sets (1) what a purse may spend. `reason` says why there is no more (0 none, 1 invocations, 2 CPU,
 * 3 memory, 4 spending cap, 5 nobody can be asked), `allowed` and `used` are that bound's, for the owner's answer.
 * ZC_INVALID: no revision has such a purse. */
int zc_gateway_purse_fill(const char *name, const int64_t *amount, uint32_t mode, uint32_t reason, int64_t allowed, int64_t used);

/* The journal of usage records (meter/journal.zig). `begin`, between init and start: a file of 512 KiB for what is in
 * flight; from then on no invocation runs without a place in a segment. `wants`: whether a reactor should be given one.
 * `give`: a file of 8 MiB, allocated and all zeros; ZC_STATE: it has one in waiting. The host keeps the descriptors. */
int zc_gateway_journal_begin(uint32_t reactor, int fd, zc_error *error);
int zc_gateway_journal_wants(uint32_t reactor);
int zc_gateway_journal_give(uint32_t reactor, int fd, uint64_t number, zc_error *error);
/* How many bytes of `slots`, from the start, are slots whose checksum is right. */
size_t zc_journal_valid(const uint8_t *slots, size_t bytes);

/* An eventfd that is readable while events wait. */
int zc_gateway_event_fd(void);
/* Moves whole events into `buffer`; returns their bytes (0: none). */
size_t zc_gateway_events(uint8_t *buffer, size_t buffer_bytes);

typedef struct {
    uint32_t bytes;          /* of this event, this header included, a multiple of 8 */
    uint16_t kind;           /* zc_event_kind */
    uint16_t stream;         /* log: 1 stdout, 2 stderr, 3 the runtime */
    uint32_t version;        /* `index` of the version in the revision that the host gave (stable while the host keeps it) */
    uint32_t payload_bytes;
    uint64_t time_ns;        /* CLOCK_REALTIME */
    uint8_t invocation_id[16];
    int32_t pid;
    int32_t status;          /* exited: the wait status (-1: unknown), above its 16 bits the number of the forbidden call that
                              * it was ended for, plus one; start_failed: 0 the function's fault, 1 ours (e.g. time-out) */
} zc_event;                  /* followed by payload_bytes and padding to 8 */

typedef enum {
    ZC_EVENT_READY = 1,        /* a worker is ready; payload: JSON of the worker */
    ZC_EVENT_START_FAILED = 2, /* a worker could not start; payload: JSON of the worker, or {"type","message","traceback"} of ours */
    ZC_EVENT_LOG = 3,          /* a line of a function's output */
    ZC_EVENT_EXITED = 4,       /* a worker ended that was not asked to */
    ZC_EVENT_DRAINED = 5,      /* all reactors have answered what they received and have no connection left; once */
    ZC_EVENT_LOST = 6          /* the ring was full: `status` log events were dropped */
} zc_event_kind;

/* Writes the counters as JSON (gateway/contract/metrics.py); returns the bytes needed, also when `buffer` is too small. */
size_t zc_gateway_metrics(uint8_t *buffer, size_t buffer_bytes);

/* What a jail is made of (zigcore/src/jail/config.zig). Paths are absolute, of the host. */
typedef struct {
    uint32_t kind;           /* zc_jail_mount_kind */
    uint32_t reserved;
    const char *source;      /* tree, device: what is bound; link: where it leads; text: the content */
    const char *target;      /* in the jail */
} zc_jail_mount;

typedef enum {
    ZC_JAIL_TREE = 1,        /* a read-only copy of a folder or file, with all that is mounted below it */
    ZC_JAIL_DEVICE = 2,
    ZC_JAIL_LINK = 3,
    ZC_JAIL_TEXT = 4,
    ZC_JAIL_FOLDER = 5,
    ZC_JAIL_HIDDEN = 6,      /* an empty folder over one of a tree that came before */
    ZC_JAIL_FILE = 7         /* a read-only copy of one file, which may be a program */
} zc_jail_mount_kind;

typedef enum {
    ZC_JAIL_PROCESSES = 1,
    ZC_JAIL_NETWORK = 2
} zc_jail_profile;

typedef struct {
    uint32_t parts;          /* bit n: Part n of config.zig, user namespace (0) to seccomp (10) */
    uint32_t mounts_count;
    const zc_jail_mount *mounts;
    uint32_t owner_uid;      /* the worker's ids as the host sees them; only root has a choice */
    uint32_t owner_gid;
    uint64_t tmp_bytes;
    uint64_t tmp_files_max;
    uint64_t address_space_bytes;
    uint32_t descriptors_max;
    uint32_t threads_max;
    uint32_t descriptors;    /* soft limits */
    uint32_t threads;
    uint32_t privileged;     /* 1: root, with the capabilities that namespaces and mounts need */
    uint32_t profile;        /* bits of zc_jail_profile: it may have children; it may connect to the egress */
    uint32_t state;          /* of the function: 0 warm, 1 fresh (it keeps descriptors 5 to 9 to rewind itself), 2 forked */
    uint32_t reserved;
} zc_jail_config;

/* Without root, in a process between the zygote and the worker: its next child is the first of a PID namespace and has
 * every capability in a user namespace of its own. `error`: step, call and errno. */
int zc_jail_begin(const zc_jail_config *config, zc_error *error);
/* The whole jail, in the forked child, before anything of the tenant is read. Descriptors 0 to 4 stay, 5
 * to 9 are the rewinder's (fds.zig). zygote_fd: a socket on which the zygote is told that the user namespace is there (one
 * byte "u", and along with it the descriptor that hears of forbidden calls; with ZC_JAIL_NETWORK "n" instead, and before
 * that descriptor the socket that listens in the worker's namespace), and as root answers "m" when it has written the id
 * maps; -1: nobody listens. `error` as above. */
int zc_jail_enter(const zc_jail_config *config, int zygote_fd, zc_error *error);

/* In the zygote, before its first fork: no signal is ignored any more. Whoever started the server may have ignored some,
 * and those that the C library keeps for itself (32, 33) nobody can set through it. */
void zc_signals_default(void);

/* In the forked child, before the jail, which forbids it: the soft signal (SIGXCPU) is from here on the gateway's word
 * that the running invocation has crossed a limit. Python's own handler of it has been set; it calls the next two. */
int zc_worker_soft_install(zc_error *error);
/* Which limit: 0 none (the signal came too late, or from somebody else), 1 wall clock, 2 CPU; and what was allowed. The
 * gateway is told that the handler is being interrupted. */
int zc_worker_soft_take(uint64_t *allowed_ns);
/* Where the handler was, told to the gateway. Main thread, during an invocation. */
int zc_worker_soft_say(const uint8_t *traceback, size_t traceback_bytes);

/* In the forked child, after the jail: from here on zc_worker_log sends lines on `channel_fd` (those of the import, too). */
int zc_worker_attach(int channel_fd);
/* Whether each invocation can start from the state of the process as it is after the import. ZC_SYSTEM: `error` says why
 * not, for people. known: descriptors that may be open although they are no files. random: address of the object behind
 * `random.random`, whose layout has been checked, or 0. Once, after the import, before zc_worker_run. */
int zc_worker_prepare(const int *known, size_t known_count, size_t random, zc_error *error);
/* Of a worker that forks for each invocation: descriptors of an event loop of ours, which its processes may share. Without
 * this a pipe or a socket that the import left makes each invocation the worker's last. Before zc_worker_run. */
int zc_worker_known(const int *known, size_t known_count);
/* What going back has cost so far in this worker; all zero in one that does not. For measurements and tests. */
typedef struct {
    uint64_t generation;      /* invocations that were undone */
    uint64_t scans;           /* of them, after how many the dirty pages were looked for (page faults had happened) */
    uint64_t mends;           /* of them, after how many the mappings were compared */
    uint64_t rewind_ns;       /* all of them together */
    uint64_t hot_pages;       /* that the last one copied */
    uint64_t hot_ranges;
    uint64_t heap_bytes_max;  /* the most that one invocation took from its own heap */
    uint64_t snapshot_bytes;  /* private memory at the checkpoint, used or not */
    uint64_t asked;           /* invocations that made system calls of their own: more than memory is put back */
} zc_worker_fresh_figures;
void zc_worker_figures(zc_worker_fresh_figures *figures);
/* Makes the objects that the collector tracks, and what they refer to, immortal; returns how many. Only where the layout
 * of objects has been checked (gateway/worker/fresh.py). Called without the GIL; takes it. */
uint64_t zc_worker_immortalise(void);
/* In the zygote: fills the holes of its heaps, so that what workers allocate lies together. How many bytes that took.
 * Called without the GIL; takes it. */
uint64_t zc_zygote_fill(void);
/* In the zygote, last: its memory becomes a sealed file that workers share until they write to it; their checkpoints need
 * not copy it then. */
int zc_zygote_share(zc_error *error);
/* What a worker is to become, as it arrived: `bytes` are the library's, and the worker's to read once. */
typedef struct {
    const uint8_t *bytes;
    uint32_t bytes_count;
    uint32_t descriptors_count;
    int32_t descriptors[8];
} zc_order;
/* The same, and forks the process that workers are forked from (runtime/template.zig). Returns in the zygote, with its pid
 * in `pid`, and in each worker, with 0 there and its order in `order`. Before: descriptor 64 is a seqpacket socket, on
 * which the zygote sends orders and reads pids (int; -1: no worker was made); 65, if `jailed`, the PID namespace to come
 * back to. ZC_SYSTEM: nothing has been shared. Called without the GIL; takes it. */
int zc_zygote_template(int jailed, zc_order *order, int *pid, zc_error *error);
/* Serves invocations until the gateway closes the channel, then returns ZC_OK.
 * invoke(body, head) -> bytes | (status, block, body);   failure(exception) -> block.  PyObject* of callables.
 * head: the bytes of the Request frame up to its body (frame.zig); None for POST, PUT and PATCH unless `flags` has
 * ZC_WORKER_HEAD_ALWAYS (1). bytes: 200 application/json.
 * ZC_WORKER_FRESH (2): takes a checkpoint first and goes back to it after each answer; refresh() -> ignored, or NULL, is
 * then called before each invocation.
 * ZC_WORKER_FORKED (4): each invocation runs in a process that is forked for it.
 * ready: JSON that is sent before the first invocation. Called without the GIL (cffi); takes it. */
int zc_worker_run(int shared_fd, void *invoke, void *failure, void *refresh, uint32_t flags,
                  const uint8_t *ready, size_t ready_bytes, zc_error *error);
/* One line of output during an invocation (or start), at most 8 KiB; any thread. ZC_TOO_LARGE: the budget is spent. */
int zc_worker_log(int stream, const uint8_t *line, size_t line_bytes);
/* The one word of a worker that cannot start. */
int zc_worker_failed(const uint8_t *document, size_t document_bytes);
