"""What is deployed when little is said: guesses where one answer fits, and clear errors where none or several do."""

from datetime import timedelta

import pytest
from tailcut import ProjectError
from tailcut._project import Settings, example_arguments, guess_handler, load, parse_duration

ONE = "def greet(name): ...\n"

GUESSES = [
    ("the only function of main.py", {"main.py": ONE}, "main:greet"),
    ("app.py", {"app.py": ONE}, "app:greet"),
    ("function.py", {"function.py": ONE}, "function:greet"),
    ("the only file", {"thing.py": ONE}, "thing:greet"),
    ("main.py before other files", {"main.py": ONE, "helpers.py": "def help_(): ...\ndef more(): ...\n"}, "main:greet"),
    (
        "tests and setup are no candidates",
        {"x.py": ONE, "test_x.py": ONE, "conftest.py": ONE, "setup.py": ""},
        "x:greet",
    ),
    ("handler before others", {"main.py": ONE + "def handler(): ...\n"}, "main:handler"),
    ("async", {"main.py": "async def greet(): ...\n"}, "main:greet"),
    ("private functions do not count", {"main.py": ONE + "def _help(): ...\n"}, "main:greet"),
    ("classes do not count", {"main.py": ONE + "class Greeter: ...\n"}, "main:greet"),
    ("nested functions do not count", {"main.py": "def greet():\n    def inner(): ...\n"}, "main:greet"),
    ("imported functions do not count", {"main.py": "from os import getcwd\n" + ONE}, "main:greet"),
    ("handler by assignment", {"main.py": ONE + "def other(): ...\nhandler = other\n"}, "main:handler"),
    ("handler by annotated assignment", {"main.py": "handler: object = print\n"}, "main:handler"),
    ("imported as handler", {"main.py": "from app2 import greet as handler\n", "app2.py": ONE}, "main:handler"),
    ("redefined once is one", {"main.py": ONE + ONE}, "main:greet"),
]


@pytest.mark.parametrize(("files", "expected"), [case[1:] for case in GUESSES], ids=[case[0] for case in GUESSES])
def test_a_handler_is_guessed_when_one_fits(tmp_path, files, expected):
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert guess_handler(tmp_path) == expected


NO_GUESSES = [
    ("two functions", {"main.py": "def a(): ...\ndef b(): ...\n"}, ["a, b", "--handler main:a"]),
    ("no function", {"main.py": "x = 1\n"}, ["main.py defines no public function"]),
    ("only private", {"main.py": "def _a(): ...\n"}, ["no public function"]),
    ("two entry files", {"main.py": ONE, "app.py": ONE}, ["main.py, app.py"]),
    ("two other files", {"a.py": ONE, "b.py": ONE}, ["a.py, b.py", "main.py"]),
    ("no Python file", {"readme.md": ""}, ["no Python file"]),
    ("not importable", {"my-file.py": ONE}, ["'my-file' is no Python identifier"]),
    ("syntax error", {"main.py": "x = 1\ndef greet(:\n"}, ["main.py, line 2", "SyntaxError", "def greet(:"]),
    ("null byte", {"main.py": "\0"}, ["SyntaxError"]),
]


@pytest.mark.parametrize(("files", "said"), [case[1:] for case in NO_GUESSES], ids=[case[0] for case in NO_GUESSES])
def test_no_guess_names_the_candidates(tmp_path, files, said):
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(ProjectError) as caught:
        guess_handler(tmp_path)
    for part in said:
        assert part in f"{caught.value} {caught.value.hint}"


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("hello.py", "hello"),
        ("make_invoice.py", "make-invoice"),
        ("Invoices/main.py", "invoices"),
        ("shop/function.py", "shop"),
        ("My Project", "my-project"),
    ],
)
def test_the_name_comes_from_the_path(tmp_path, path, expected):
    place = tmp_path / path
    (place.parent if place.suffix else place).mkdir(parents=True, exist_ok=True)
    (place if place.suffix else place / "main.py").write_text(ONE)
    assert load(place, Settings()).name == expected


@pytest.mark.parametrize("name", ["1st", "Größe", "a" * 64, "-a", "a-", "a/b", "a.b"])
def test_a_name_that_cannot_be_one(tmp_path, name):
    (tmp_path / "main.py").write_text(ONE)
    with pytest.raises(ProjectError, match="lower-case letters"):
        load(tmp_path, Settings(name=name))


def test_settings_come_from_tailcut_toml_and_the_call_wins(tmp_path):
    (tmp_path / "main.py").write_text("def a(): ...\ndef b(): ...\n")
    (tmp_path / "tailcut.toml").write_text(
        'name = "shop"\nhandler = "main:a"\ntimeout = "500ms"\nconcurrency = 8\nworkers_min = 1\npublic = true\n'
        'cpu = "200ms"\nmemory = "128MiB"\ntmp = "2MB"\noutput = "64KiB"\nlog = "512B"\n'
        "open_files = 64\nprocesses = 8\nnetwork = true\n"
        'alias = "canary"\nexclude = ["*.md"]\n[env]\nMODE = "x"\n'
    )
    project = load(tmp_path, Settings(handler="main:b", public=False))
    assert (project.name, project.handler) == ("shop", "main:b")
    settings = project.settings
    assert settings.timeout == timedelta(milliseconds=500)
    assert (settings.concurrency, settings.workers_min, settings.alias) == (8, 1, "canary")
    assert settings.public is False
    assert settings.cpu == timedelta(milliseconds=200)
    assert (settings.memory, settings.tmp, settings.output, settings.log) == (128 * 2**20, 2 * 10**6, 64 * 1024, 512)
    assert (settings.open_files, settings.processes, settings.network) == (64, 8, True)
    assert (settings.exclude, dict(settings.env)) == (("*.md",), {"MODE": "x"})


def test_settings_come_from_pyproject(tmp_path):
    (tmp_path / "main.py").write_text(ONE)
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "other"\n[tool.tailcut]\nname = "shop"\n')
    assert load(tmp_path, Settings()).name == "shop"


BAD_SETTINGS = [
    ("concurency = 3\n", ["'concurency'", "did you mean 'concurrency'"]),
    ('concurrency = "3"\n', ["concurrency", "'3'", "whole number"]),
    ("concurrency = 0\n", ["concurrency is 0", "1 to 256"]),
    ("concurrency = 257\n", ["1 to 256"]),
    ("concurrency = true\n", ["whole number"]),
    ("workers_min = 17\n", ["0 to 16"]),
    ("timeout = 3\n", ["timeout", "text"]),
    ('timeout = "3 parsecs"\n', ["500ms, 3s or 2m"]),
    ('timeout = "9ms"\n', ["10ms to 15m"]),
    ('timeout = "16m"\n', ["10ms to 15m"]),
    ('public = "yes"\n', ["true or false"]),
    ('exclude = "*.md"\n', ["list of patterns"]),
    ('alias = "Live"\n', ["alias is 'Live'"]),
    ("[env]\nA = 1\n", ["env.A", "int"]),
    ('[env]\n"A-B" = "1"\n', ["'A-B'"]),
    ('memory = "128"\n', ["memory", "128MiB, 512KiB or 1GiB"]),
    ('memory = "1MiB"\n', ["memory is 1048576 bytes", "16777216 to 68719476736"]),
    ('output = "7MiB"\n', ["output is 7340032 bytes", "1 to 6291456"]),
    ('cpu = "9ms"\n', ["cpu is 0.009s", "10ms to 15m"]),
    ("open_files = 15\n", ["open_files is 15", "16 to 4096"]),
    ("processes = 513\n", ["processes is 513", "1 to 512"]),
    ("name = \n", ["no valid TOML"]),
    ('handler = "main"\n', ["module:function"]),
    ('handler = "other:greet"\n', ["no module 'other'"]),
]


@pytest.mark.parametrize(("text", "said"), BAD_SETTINGS)
def test_wrong_settings_say_what_is_allowed(tmp_path, text, said):
    (tmp_path / "main.py").write_text(ONE)
    (tmp_path / "tailcut.toml").write_text(text)
    with pytest.raises(ProjectError) as caught:
        load(tmp_path, Settings())
    for part in said:
        assert part in f"{caught.value} {caught.value.hint}"


def test_the_value_of_an_environment_variable_is_in_no_message(tmp_path):
    (tmp_path / "main.py").write_text(ONE)
    (tmp_path / "tailcut.toml").write_text('[env]\nTOKEN = "hunter2"\n"B-D" = "hunter2"\n')
    with pytest.raises(ProjectError) as caught:
        load(tmp_path, Settings())
    assert "hunter2" not in str(caught.value)
    assert "hunter2" not in repr(Settings(env={"TOKEN": "hunter2"}))


def test_settings_in_two_places_are_one_too_many(tmp_path):
    (tmp_path / "main.py").write_text(ONE)
    (tmp_path / "tailcut.toml").write_text("")
    (tmp_path / "pyproject.toml").write_text("[tool.tailcut]\n")
    with pytest.raises(ProjectError, match="both in"):
        load(tmp_path, Settings())


@pytest.mark.parametrize("path", ["nothing", "data.txt"])
def test_a_path_that_is_no_project(tmp_path, path):
    (tmp_path / "data.txt").write_text("")
    with pytest.raises(ProjectError, match=path):
        load(tmp_path / path, Settings())


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [("10ms", 10), ("3s", 3000), ("1.5s", 1500), ("2m", 120_000), ("2min", 120_000), ("0.25s", 250)],
)
def test_durations(text, milliseconds):
    assert parse_duration(text) == timedelta(milliseconds=milliseconds)


@pytest.mark.parametrize("text", ["", "3", "s", "-1s", "1h", "1e3s", "1,5s", "9" * 30 + "s", "3s 4s", "٣s"])
def test_no_durations(text):
    with pytest.raises(ProjectError):
        parse_duration(text)


def test_the_example_call_has_the_arguments_that_must_be_given(tmp_path):
    (tmp_path / "main.py").write_text("def f(a: str, b: int, c: list[int], d, e: str = 'x', *, k: bool, m=1): ...\n")
    assert example_arguments(load(tmp_path, Settings())) == {"a": "text", "b": 1, "c": [], "d": None, "k": True}
