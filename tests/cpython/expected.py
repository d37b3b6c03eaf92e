"""Which modules of CPython's own test suite run in a worker, and which of their tests fail there as they must.

Read by test_suite.py and by `make cpython`. A failure is expected when the test is listed and its message is that of
the reason; anything else fails. Behind each module stands the least number of its tests, so that none passes by
running none.
"""

from typing import NamedTuple

QUICK = {
    "test_json": 150,
    "test_struct": 30,
    "test_csv": 100,
    "test_zlib": 60,
    "test_hashlib": 60,
    "test_collections": 90,
    "test_random": 80,
    "test_re": 120,
    "test_datetime": 800,
    "test_sqlite3": 400,
    "test_tempfile": 90,
    "test_concurrent_futures.test_thread_pool": 15,
    "test_asyncio.test_locks": 40,
    "test_os.FileTests": 12,
    "test_mmap": 30,
}
"""Part of `make test`."""

LONG = {
    "test_decimal": 500,
    "test_pickle": 700,
    "test_io": 500,
    "test_threading": 150,
    "test_concurrent_futures.test_future": 15,
    "test_asyncio.test_tasks": 700,
    "test_asyncio.test_queues": 40,
    "test_asyncio.test_futures": 100,
    "test_asyncio.test_taskgroups": 25,
    "test_asyncio.test_timeouts": 20,
    "test_asyncio.test_runners": 20,
    "test_os.EnvironTests": 20,
    "test_os.WalkTests": 8,
    "test_os.StatAttributeTests": 8,
    "test_os.UtimeTests": 10,
    "test_os.MakedirTests": 4,
    "test_os.TestScandir": 18,
    "test_os.EventfdTests": 3,
    "test_os.TimerfdTests": 8,
    "test_ctypes": 350,
    "test_zipfile": 250,
}
"""With `make cpython`. Of test_os only classes: others try chroot and unshare, which end the worker."""


class Reason(NamedTuple):
    why: str
    message: str
    """Its beginning, as a regular expression."""
    tests: dict[str, str]
    """Class → names of its methods."""


PROCESS = Reason(
    "starts a process (subprocess, os.fork), makes a fifo, or splices: refused with EPERM by policy.zig",
    r"PermissionError: \[Errno 1\] Operation not permitted",
    {
        "test.datetimetester.ExtensionModuleTests_Fast": """
            test_gh_120161 test_update_type_cache
        """,
        "test.test_asyncio.test_tasks.CoroutineGatherTests": """
            test_env_var_debug
        """,
        "test.test_asyncio.test_tasks.FutureGatherTests": """
            test_env_var_debug
        """,
        "test.test_ctypes.test_refcounts.ModuleIsolationTest": """
            test_finalize
        """,
        "test.test_io.CMiscIOTest": """
            test_check_encoding_errors test_check_encoding_warning test_text_encoding
        """,
        "test.test_io.CTextIOWrapperTest": """
            test_create_at_shutdown_with_encoding test_create_at_shutdown_without_encoding
        """,
        "test.test_io.PyMiscIOTest": """
            test_check_encoding_errors test_check_encoding_warning test_text_encoding
        """,
        "test.test_io.PyTextIOWrapperTest": """
            test_create_at_shutdown_with_encoding test_create_at_shutdown_without_encoding
        """,
        "test.test_json.test_tool.TestTool": """
            test_broken_pipe_error test_compact test_help_flag test_indent test_infile_outfile test_infile_stdout
            test_jsonlines test_no_indent test_non_ascii_infile test_sort_keys_flag test_stdin_stdout test_tab
            test_writing_in_place
        """,
        "test.test_os.EnvironTests": """
            test_putenv_unsetenv
        """,
        "test.test_os.FileTests": """
            test_splice test_splice_offset_in test_splice_offset_out
        """,
        "test.test_os.WalkTests": """
            test_walk_named_pipe test_walk_named_pipe2
        """,
        "test.test_random.TestModule": """
            test_after_fork
        """,
        "test.test_re.ReTests": """
            test_regression_gh94675
        """,
        "test.test_sqlite3.test_dbapi.MultiprocessTests": """
            test_ctx_mgr_rollback_if_commit_failed
        """,
        "test.test_sqlite3.test_transactions.AutocommitAttribute": """
            test_autocommit_disabled_implicit_shutdown
        """,
        "test.test_struct.StructTest": """
            test_struct_cleans_up_at_runtime_shutdown
        """,
        "test.test_tempfile.TestRandomNameSequence": """
            test_process_awareness
        """,
        "test.test_tempfile.TestTemporaryDirectory": """
            test_del_on_shutdown test_del_on_shutdown_ignore_errors test_exit_on_shutdown
        """,
        "test.test_threading.AtexitTests": """
            test_atexit_after_shutdown test_atexit_called_once test_atexit_output
        """,
        "test.test_threading.SubinterpThreadingTests": """
            test_daemon_threads_fatal_error test_daemon_threads_not_allowed test_threads_not_allowed
        """,
        "test.test_threading.ThreadJoinOnShutdown": """
            test_1_join_on_shutdown test_2_join_in_forked_process test_3_join_in_forked_from_thread
            test_4_daemon_threads test_clear_threads_states_after_fork test_thread_from_thread
        """,
        "test.test_threading.ThreadTests": """
            test_dummy_thread_after_fork test_finalization_shutdown test_finalize_running_thread
            test_finalize_with_trace test_import_from_another_thread test_is_alive_after_fork
            test_join_nondaemon_on_shutdown test_locals_at_exit test_main_thread_after_fork
            test_main_thread_after_fork_from_dummy_thread test_main_thread_after_fork_from_foreign_thread
            test_main_thread_after_fork_from_nonmain_thread test_main_thread_during_shutdown
            test_start_new_thread_at_finalization
        """,
        "test.test_threading.ThreadingExceptionTests": """
            test_print_exception test_print_exception_gh_102056 test_print_exception_stderr_is_none_1
            test_print_exception_stderr_is_none_2 test_recursion_limit
        """,
        "test.test_zipfile.test_core.CommandLineTest": """
            test_bad_use test_create_command test_extract_command test_list_command test_test_command
        """,
    },
)
EXECUTABLE = Reason(
    "starts the interpreter, whose path a version without `processes` is not told",
    r"ValueError: argv first element cannot be empty",
    {
        "test.test_tempfile.TestMkstempInner": """
            test_noinherit
        """,
    },
)
WRITTEN_BY = Reason(
    "reads what a process that it started should have written",
    r"FileNotFoundError: ",
    {
        "test.test_json.test_tool.TestTool": """
            test_ensure_ascii_default test_no_ensure_ascii_flag
        """,
    },
)
READ_ONLY = Reason(
    "writes beside the code, which is mounted read-only",
    r"OSError: \[Errno 30\] Read-only file system",
    {
        "test.test_pickle.CUnpicklerTests": """
            test_unpickle_module_race
        """,
        "test.test_pickle.InMemoryPickleTests": """
            test_unpickle_module_race
        """,
        "test.test_pickle.PyUnpicklerTests": """
            test_unpickle_module_race
        """,
    },
)
TOO_LARGE = Reason(
    "writes a file larger than /tmp: RLIMIT_FSIZE",
    r"OSError: \[Errno 27\] File too large",
    {
        "test.test_io.CIOTest": """
            test_large_file_ops
        """,
        "test.test_io.PyIOTest": """
            test_large_file_ops
        """,
    },
)
COMPILER = Reason(
    "looks for a compiler or linker: no program of the host's is in a worker's root",
    r"AssertionError: None == None",
    {
        "test.test_ctypes.test_find.FindLibraryLinux": """
            test_find_library_with_gcc test_find_library_with_ld
        """,
    },
)

REASONS = (PROCESS, EXECUTABLE, WRITTEN_BY, READ_ONLY, TOO_LARGE, COMPILER)
