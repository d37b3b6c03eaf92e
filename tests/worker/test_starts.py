"""Functions that cannot start: each says why in its one word, and its process ends."""

import os

import pytest

CASES = {
    "syntax error": ("def handler(:\n    pass\n", "SyntaxError", "main.py"),
    "import error": ("import no_such_thing\n", "ModuleNotFoundError", "no_such_thing"),
    "error at import": ("def f():\n    raise RuntimeError('born')\nf()\n", "RuntimeError", "born"),
    "sys.exit at import": ("import sys\nsys.exit(3)\n", "SystemExit", "3"),
    "handler missing": ("def other(): pass\n", "HandlerMissing", "other"),
    "not callable": ("handler = 42\n", "HandlerNotCallable", "int"),
    "a class": ("class handler: pass\n", "HandlerNotCallable", "class"),
    "positional-only": ("def handler(a, /): pass\n", "SignatureUnclear", "`/`"),
    "star": ("def handler(*args): pass\n", "SignatureUnclear", "list"),
    "star star": ("def handler(**kwargs): pass\n", "SignatureUnclear", "dict"),
    "request and more": (
        "import tailcut\ndef handler(r: tailcut.Request, n: int): pass\n", "SignatureUnclear", "alone",
    ),
    "unknown annotation": ("def handler(a: 'Nowhere'): pass\n", "AnnotationUnknown", "Nowhere"),
    "annotation that JSON cannot fill": (
        "import socket\ndef handler(a: socket.socket): pass\n", "AnnotationInvalid", "'a'",
    ),
    "exception that cannot be shown": (
        "class E(Exception):\n    def __str__(self): raise KeyboardInterrupt\nraise E\n", "E", "__str__",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_a_start_that_fails_says_why(start, connection, case):
    source, kind, words = CASES[case]
    worker = start(source, ready=False)
    word = worker.first_word()
    assert word.kind == "failed"
    said = word.json
    assert said["type"] == kind
    assert words in said["message"] + said["traceback"] or words == "__str__"
    assert "gateway" not in said["traceback"]
    assert "importlib" not in said["traceback"]
    with pytest.raises(EOFError):
        worker.receive()
    status = connection.exit_of(worker)
    assert os.WIFEXITED(status)
    assert os.waitstatus_to_exitcode(status) == 3


def test_a_module_that_is_missing_names_those_that_are_there(start):
    word = start("", "other:handler", files={"app.py": ""}, ready=False).first_word()
    assert word.json["type"] == "HandlerMissing"
    assert "app, main" in word.json["message"]


def test_an_exit_at_import_is_told_by_the_zygote(start, connection):
    worker = start("import os\nos._exit(9)\n", ready=False)
    with pytest.raises(EOFError):
        worker.first_word()
    assert os.waitstatus_to_exitcode(connection.exit_of(worker)) == 9


def test_the_traceback_shows_the_tenants_frames_only(start):
    word = start("import inner\n", files={"inner.py": "def g():\n    {}['key']\ng()\n"}, ready=False).first_word()
    assert word.json["traceback"].splitlines() == [
        "Traceback (most recent call last):",
        '  File "main.py", line 1, in <module>',
        "    import inner",
        '  File "inner.py", line 3, in <module>',
        "    g()",
        "    ~^^",
        '  File "inner.py", line 2, in g',
        "    {}['key']",
        "    ~~^^^^^^^",
        "KeyError: 'key'",
    ]


def test_what_is_printed_during_the_import_is_logged(start):
    worker = start("import sys\nprint('out')\nprint('err', end='', file=sys.stderr)\ndef handler(): pass\n")
    assert worker.start_logs == [(1, "out"), (2, "err")]


def test_a_flood_during_the_import_is_cut(start):
    worker = start("for _ in range(100_000): print()\ndef handler(): return 1\n")
    assert len(worker.start_logs) <= 1000
    assert worker.start_logs[-1] == (3, "truncated")
    assert worker.call().json == 1
