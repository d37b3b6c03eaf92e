//! Every bound in the process, with its unit, its cost and its relations.
//!
//! Called by everybody; calls nobody. A full pool is an *answer* (503, 429, close), never an allocation.
//! Names end in `_max`, `_bytes`, `_ns`, `_count`; the most significant word comes first.
const std = @import("std");
const assert = std.debug.assert;

pub const kib = 1024;
pub const mib = 1024 * kib;
pub const us_ns = std.time.ns_per_us;
pub const ms_ns = std.time.ns_per_ms;
pub const s_ns = std.time.ns_per_s;

// -- Threads and connections -------------------------------------------------------------------------------------

/// Reactor threads in one gateway: one per shared CPU.
pub const reactors_max = 64;
/// Connections of one reactor. Each costs `connection_bytes_in + connection_bytes_out` of address space, touched lazily.
pub const connections_max = 4096;
/// Submission queue of one reactor's ring; the completion queue is four times as long.
pub const ring_entries = 4096;
/// Buffers that the kernel fills with what clients send, shared by a reactor's connections.
pub const receive_buffer_bytes = 4 * kib;
pub const receive_buffers_count = 1024;
/// Of these, so many may hold what clients pipeline behind a request that is being served. Over it such bytes are
/// dropped, and the connection ends with its answer: the client sends the rest again elsewhere (RFC 9112 section 9.3.2).
pub const receive_buffers_held_max = receive_buffers_count / 2;
/// The same for one connection. What the kernel delivers before it is told to stop stays below this.
pub const connection_buffers_held_max = 256;

// -- HTTP ---------------------------------------------------------------------------------------------------------

/// Request line and headers together; more is 431 (414 when the request line alone is too long).
pub const header_bytes_max = 16 * kib;
pub const request_line_bytes_max = 8 * kib;
pub const headers_max = 64;
/// Body of a request or of an answer. The ceiling; the gateway's setting and the version's limits may be lower.
pub const body_bytes_max = 6 * mib;
/// Bodies up to this size stay in the connection's own buffer and travel inside the frame.
pub const body_inline_bytes_max = 32 * kib;
/// A chunk-size line: hexadecimal digits and extensions (RFC 9112 section 7.1.1).
pub const chunk_line_bytes_max = 256;
/// All framing of a chunked body (size lines, extensions, trailers) together may exceed the body's own bytes by this:
/// a flood of one-byte chunks or of extensions ends here, an upload line by line does not.
pub const chunk_overhead_bytes_max = 64 * kib;
/// Trailers of a chunked body, all together; more is 431.
pub const trailer_bytes_max = 8 * kib;
pub const header_timeout_ns = 10 * s_ns;
/// From the end of the headers to the end of the body, plus a second for every `body_bytes_per_s_min` received.
pub const body_timeout_ns = 30 * s_ns;
pub const body_bytes_per_s_min = 16 * kib;
/// After an answer that ends a connection: so long may the client still send, unread, before it is closed.
pub const linger_timeout_ns = 2 * s_ns;
/// While draining, a connection that waits for a request is kept this long: the request may be on its way.
pub const drain_grace_ns = 1500 * ms_ns;
/// Connections that a draining reactor still takes from the shared socket's queue.
pub const drain_sweeps_max = connections_max;
pub const idle_timeout_ns = 75 * s_ns;
/// Without progress in sending the answer; and in all, plus a second for every `body_bytes_per_s_min` sent.
pub const write_timeout_ns = 30 * s_ns;
/// Large buffers (bodies that do not fit a connection's own) of one reactor; all taken: 503.
pub const body_buffers_count = 64;
/// Of these, requests may hold so many, and answers so many.
pub const body_buffers_share_count = body_buffers_count / 4 * 3;
/// When no more than these may still be taken, the slowest client gives its buffer up, if it has had it this long.
pub const body_buffers_spare_count = body_buffers_count / 8;
pub const body_buffer_hold_ns = 1 * s_ns;

// -- Frames between gateway and worker ----------------------------------------------------------------------------

/// One datagram of the worker's channel. Larger bodies go through the worker's shared memory.
pub const frame_bytes_max = 64 * kib;
/// Headers of an answer, encoded as a frame block.
pub const answer_header_bytes_max = 16 * kib;
pub const answer_headers_max = 64;
/// Entries of a frame block that describes a failure (type, message, traceback, one per bad argument).
pub const failure_entries_max = 64;
/// A worker's shared memory: first half the request's body, second half the answer's.
pub const shared_bytes = 2 * body_bytes_max;

// -- Workers ------------------------------------------------------------------------------------------------------

/// Workers of one reactor.
pub const workers_max = 256;
/// Of these, so many are never taken by workers that are only kept (a version's minimum): they are for calls.
pub const workers_spare_count = workers_max / 4;
/// Starting a worker: fork, import of the function, ready. Longer is a failed start.
pub const start_timeout_ns = 20 * s_ns;
/// An idle worker above its version's minimum ends after this.
pub const worker_idle_timeout_ns = 60 * s_ns;
/// Invocations waiting for a worker, one reactor; more is 503.
pub const queue_max = 4096;
pub const queue_timeout_ns = 10 * s_ns;
/// Of these, so many may be of one version: the others keep their places.
pub const queue_version_max = queue_max / 4;
/// One more worker of a version is started when the first in its queue has waited this long and all its workers have
/// been at their invocation for `yield_run_max_ns`: short ones are faster served by the workers that are warm.
pub const queue_scale_ns = 2 * ms_ns;
/// The same while any of its workers is busy computing: another one would only share its CPU.
pub const queue_scale_busy_ns = 100 * ms_ns;
/// Workers of one version that may be starting at once, on one reactor.
pub const version_starting_max = 4;
/// Requests to the zygote, which forks one after the other for everybody, that one tenant may have waiting there, of one
/// reactor: another's start does not stand behind all of a crowd's. Two keep the zygote busy.
pub const tenant_forks_max = 2;
/// A worker whose channel was closed ends by itself; after this it is killed.
pub const worker_stop_timeout_ns = 2 * s_ns;
/// Log frames that come when no invocation runs are dropped; so many, and the worker is killed.
pub const stray_frames_max = 10_000;
/// Lines that a worker may say while it imports its function.
pub const starting_log_lines_max = 1_000;
/// The runtime's own word that output was cut does not count against the bound.
pub const log_notice_bytes = 4 * kib;
/// Shared memory that a body of this size or more has touched is given back after the invocation, other when the worker
/// has rested: a worker that is busy with large bodies takes no page fault for them.
pub const shared_keep_bytes = 2 * mib;
/// From the end of a worker's process to the end of what it sent before.
pub const exit_drain_ns = 50 * ms_ns;
/// Workers that died in a row in the middle of invocations before the version's starts back off.
pub const crashes_free_max = 16;
/// How long an invocation whose worker died waits for the zygote's word on how it died.
pub const exit_status_timeout_ns = 200 * ms_ns;
/// Failed starts of one version back off from the first to the last of these.
pub const start_backoff_first_ns = 100 * ms_ns;
pub const start_backoff_last_ns = 30 * s_ns;
/// Answers that may be kept back while their version's next invocations run, to be sent together: a client that sleeps is
/// woken once for all of them (a wake-up across CPUs costs as much as a short invocation). So many, none for longer than
/// this, and only of a version whose invocations have been this short lately.
pub const answers_late_max = 8;
pub const answers_late_ns = 150 * us_ns;
pub const answers_late_run_ns = 50 * us_ns;
/// Once an invocation has run this long its reactor stops yielding and sleeps, at most `reactor_nap_ns` where it matters.
pub const yield_run_max_ns = 1 * ms_ns;
/// Yields in a row that brought nothing: after these the reactor sleeps although a worker is busy.
pub const yields_idle_max = 4;
pub const reactor_nap_ns = 1 * ms_ns;

// -- Whose CPU it is -----------------------------------------------------------------------------------------------

/// CPUs that may be reserved, and workers of all tenants on them, of one gateway.
pub const reserved_cpus_max = 16;
pub const reserved_workers_max = 256;
/// Versions that wait for a reservation in a row; more wait behind these, in no order.
pub const reserved_waiters_max = 16;
/// Of one tenant: many versions of one must not take the row from the others.
pub const reserved_waiters_of_tenant_max = 4;
/// Who has not said again for so long that it waits does not; said every millisecond.
pub const reserved_wait_ns = 250 * ms_ns;
/// What is given back is kept for who waits longest for so long, and then not for as long.
pub const reserved_hold_ns = 2 * s_ns;
/// A reserved CPU is not asked again for so long after the kernel found it full (somebody else holds bandwidth), or when
/// its partition could not be made (no right to, a file system that cannot be written).
pub const reserved_full_pause_ns = 1 * s_ns;
pub const reserved_broken_pause_ns = 30 * s_ns;
/// An invocation that has used so much of a shared CPU is demoted; a tenant's running ones together, down to `_min` each;
/// an import.
pub const burn_cpu_ns = 8 * ms_ns;
pub const burn_cpu_ns_min = 1 * ms_ns;
pub const burn_start_cpu_ns = 50 * ms_ns;
/// Looks at running invocations are at least this far apart.
pub const burn_look_pause_ns = 1 * ms_ns;
/// An invocation that follows a demoted one of its version sooner than this starts demoted.
pub const burn_rest_ns = 20 * ms_ns;
/// Threads of one process that are demoted with it; more escape.
pub const burn_threads_max = 512;
/// The demoted together get at least a part of the CPU of 1 in so many; what each tenant's got is looked at this often.
pub const burn_floor_count = 16;
pub const burn_share_pause_ns = 100 * ms_ns;

/// A reactor that goes before its workers looks this often at the CPU that it needs: with more than 1 in so many parts of
/// it, it goes beside them for a while.
pub const first_look_ns = 10 * ms_ns;
pub const first_cpu_parts_count = 2;
pub const first_pause_ns = 100 * ms_ns;

// -- A worker's memory -------------------------------------------------------------------------------------------

/// The soft limit lies below the bound by this much and by the bound divided by that: for what the kernel itself holds
/// for a worker and for pages of the zygote's that it comes to write to (gateway/zygote/groups.py says the same).
pub const memory_slack_bytes = 2 * mib;
pub const memory_slack_parts_count = 16;
/// The peak of a worker's memory is reset after so many invocations that did not move it: what it held may be less by now.
pub const memory_peak_reset_count = 64;
/// And before each of so many that follow one that did.
pub const memory_peak_moved_count = 32;
/// Address space that may be reserved beyond the bound without being used: thread stacks, arenas, mapped libraries.
pub const memory_reserve_bytes = 1024 * mib;

// -- Limits of an invocation --------------------------------------------------------------------------------------

/// From the soft signal to the kill: what a handler has to clean up, by the wall clock.
pub const grace_ns = 50 * ms_ns;
/// A handler whose process has had this long, and the CPU, without being interrupted will not be: it is killed.
pub const soft_unseen_ns = 8 * ms_ns;
/// What having the CPU means: less, while the process waits for its turn, is the machine's fault and not the handler's.
pub const soft_unseen_cpu_ns = 4 * ms_ns;
pub const soft_unseen_pause_ns = 2 * ms_ns;
/// Looks at the CPU clock of one invocation are at least this far apart.
pub const cpu_look_pause_ns = 500 * us_ns;
/// A limit is acted on only when what the worker has sent so far is read; so long is waited for that.
pub const overrun_patience_ns = 3 * ms_ns;
/// Where the handler was, as its worker tells it.
pub const traceback_bytes_max = 32 * kib;
/// How often the CPU clock of an idle worker is looked at; all of a reactor's at the same time.
pub const idle_look_ns = 1 * s_ns;
/// And before it has rested so long: after this, and each time after twice as much. Who computes on after its answer is
/// found by the first of these looks, not a second later.
pub const idle_look_first_ns = 20 * ms_ns;
/// The same of one with a reservation: a call at another reactor may be waiting for it.
pub const idle_reserved_look_ns = 50 * ms_ns;
/// After this time without an invocation the clock is also looked at before the next: what was used is not billed to it.
pub const idle_unbilled_ns = 1 * ms_ns;
/// What an idle worker may use, for ending its answer and going back to its checkpoint; with more it is replaced.
pub const idle_cpu_ns_max = 20 * ms_ns;
/// Of that, what is nobody's when the next invocation comes: this, and 1 in so many parts of the pause. With more it has
/// worked through the pause, and that is its next invocation's: or calls in quick succession would get a CPU for nothing.
pub const idle_free_cpu_ns = 200 * us_ns;
pub const idle_free_parts_count = 8;
/// With this much CPU a worker is replaced after its invocation: RLIMIT_CPU, which counts its whole life, is twice that.
pub const worker_cpu_ns_max = timeout_ms_max * ms_ns;

// -- Memory that workers share with the zygote --------------------------------------------------------------------

/// Blocks of one size that fill holes before the first fork.
pub const holes_blocks_max = 64 * kib;
/// What the zygote tells its template of one worker: the spawn document, and some hundred bytes more.
pub const order_bytes_max = 128 * kib;
/// All writable memory of the zygote, in one file.
pub const base_bytes_max = 1024 * mib;
/// Of the zygote's pages between two that a worker has written to: no more, and the checkpoint copies them along.
pub const base_gap_bytes = 0;

// -- Fresh state for each invocation ------------------------------------------------------------------------------

/// Mappings of a process at its checkpoint, and later; more cannot be put back.
pub const mappings_max = 4096;
/// Stretches of pages that a process owns at its checkpoint, or has written to since.
pub const own_ranges_max = 16 * kib;
/// A checkpoint that has copied no more than this is mapped over the memory only when that pays.
pub const unsettled_bytes_max = 4 * mib;
/// A worker that has had no invocation for so long settles its checkpoint: half of its memory goes back.
pub const unsettled_rest_ns = 500 * ms_ns;
/// All private memory at the checkpoint that is not merely reserved.
pub const checkpoint_bytes_max = 2 * 1024 * mib;
/// The part of the stack that is in use at the checkpoint: the interpreter's frames, arguments, environment.
pub const checkpoint_stack_bytes_max = 1 * mib;
/// Ranges of pages that an invocation may dirty; more are dropped instead of copied.
pub const hot_ranges_max = 16 * kib;
/// Dirty memory beyond this is dropped range by range, the longest first to go, instead of copied.
pub const hot_keep_bytes = 4 * mib;
/// A range of that kind is dropped when it has this length.
pub const hot_drop_bytes = 128 * kib;
/// After so many invocations the set of dirty pages is learnt anew, and the mappings are compared.
pub const hot_relearn_count = 16 * kib;
/// After so many when the set has grown meanwhile.
pub const hot_grown_count = 1024;
/// And once after so many, when what is done on first use has been done.
pub const hot_settle_count = 8;
/// Files that the import left open, whose positions are restored.
pub const kept_files_max = 64;
/// An invocation's own heap: address space; blocks beyond are the original allocator's.
pub const heap_bytes = 64 * mib;
pub const heap_pool_bytes = 16 * kib;
pub const heap_block_bytes_max = 16 * kib;
/// What an invocation used beyond this goes back to the kernel instead of being cleared.
pub const heap_keep_bytes = 2 * mib;
/// An invocation's heap is opened in such steps beyond that.
pub const heap_step_bytes = 1 * mib;
/// Room that malloc keeps at the top of its heap in a fresh worker.
pub const malloc_slack_bytes = 1 * mib;
/// Blocks that are asked for, and given back, until the heap has grown.
pub const malloc_probe_bytes = 256 * kib;
pub const malloc_probes_max = 256;
/// From this size on malloc maps a block of its own; the largest that glibc accepts.
pub const malloc_map_bytes = 32 * mib;
pub const malloc_trim_bytes = 1024 * mib;

// -- The journal --------------------------------------------------------------------------------------------------

/// One segment file of one reactor, header included; three are mapped at most.
pub const journal_segment_bytes = 8 * mib;
/// Records in a segment.
pub const journal_slots_max = (journal_segment_bytes - 4096) / 128;
/// Rows for the invocations of one reactor that may be in flight: one for each connection and for each worker.
pub const inflight_max = 8 * kib;

// -- The table ----------------------------------------------------------------------------------------------------

/// One revision (the JSON document that the host hands over), and what it is decoded into.
pub const revision_bytes_max = 64 * mib;
pub const tenants_max = 16 * kib;
pub const keys_max = 64 * kib;
/// Tenants, and functions with a quota of their own.
pub const leased_max = 32 * kib;
pub const versions_max = 64 * kib;
pub const routes_max = 64 * kib;
pub const name_bytes_max = 63;
/// An API key as it is sent; longer ones are unknown without being hashed.
pub const token_bytes_max = 256;
/// What a version's row may ask for (gateway/contract/table.py, Limits, promises the same).
pub const timeout_ms_min = 10;
pub const timeout_ms_max = 900_000;
pub const version_concurrency_max = 256;
pub const version_workers_min_max = 16;
pub const log_bytes_max = 1 * mib;
pub const memory_bytes_min = 16 * mib;
pub const memory_bytes_max = 64 * 1024 * mib;
pub const open_files_max = 4096;
pub const processes_max = 512;
/// What a tenant's row may ask for.
pub const rate_per_s_max = 1_000_000;
pub const burst_max = 1_000_000;
pub const cpu_weight_min = 1;
pub const cpu_weight_max = 10_000;
/// SCHED_DEADLINE: enforcement is by the tick (4 ms), so that finer reservations would not hold.
pub const reserved_runtime_us_min = 10_000;
pub const reserved_period_us_min = 50_000;
pub const reserved_period_us_max = 1_000_000;
pub const upgrade_url_bytes_max = 512;
/// What a node lends a tenant before the first lease of its quota is there; each node may overshoot by it once.
pub const credit_invocations_max = 16;
pub const credit_cpu_us_max = 1_000_000;
pub const credit_mib_us_max = 1024 * 1_000_000;
/// What the zygote is told about a version, as opaque bytes.
pub const spawn_bytes_max = 48 * kib;

// -- Events to the host -------------------------------------------------------------------------------------------

/// Ring of events (ready, failed, log, exit) from one reactor to the Python host.
pub const events_bytes = 4 * mib;
/// One event, its header included: room for whatever fits a worker's frame.
pub const event_bytes_max = frame_bytes_max + 64;
/// The last part of the ring, kept free of logs for what must not be lost (ready, failed, exited, drained).
pub const events_reserve_bytes = 1 * mib;
/// The last part of that, kept for such events without their payload.
pub const events_header_reserve_bytes = 64 * kib;

comptime {
    assert(body_buffers_share_count + body_buffers_spare_count < body_buffers_count);
    assert(body_inline_bytes_max + header_bytes_max + request_line_bytes_max < frame_bytes_max);
    assert(answer_header_bytes_max < frame_bytes_max);
    assert(event_bytes_max * 8 <= events_bytes);
    assert(event_bytes_max % 8 == 0);
    assert(events_reserve_bytes * 2 <= events_bytes);
    assert(events_header_reserve_bytes * 2 <= events_reserve_bytes);
    assert(version_concurrency_max <= workers_max);
    assert(soft_unseen_ns < grace_ns and soft_unseen_cpu_ns < soft_unseen_ns);
    assert(traceback_bytes_max < frame_bytes_max);
    assert(leased_max > tenants_max);
    assert(inflight_max >= connections_max + workers_max + 256);
    assert(spawn_bytes_max < frame_bytes_max);
    assert(order_bytes_max >= 2 * frame_bytes_max);
    assert(chunk_line_bytes_max < receive_buffer_bytes);
    assert(std.math.isPowerOfTwo(receive_buffers_count));
    assert(connection_buffers_held_max <= receive_buffers_held_max);
    assert(receive_buffers_held_max < receive_buffers_count);
    assert(std.math.isPowerOfTwo(ring_entries));
    assert(reactor_nap_ns <= yield_run_max_ns);
    assert(burn_cpu_ns_min >= yield_run_max_ns and burn_cpu_ns_min <= burn_cpu_ns);
    assert(std.heap.page_size_min <= 4096 and shared_bytes % 4096 == 0);
}
