"""What the package promises, and what importing it costs."""

import subprocess
import sys

import tailcut

PROMISED = {
    "Alias",
    "AnswerInvalid",
    "AnswerMissing",
    "ApiError",
    "AsyncClient",
    "BadRequest",
    "Client",
    "ConfigurationError",
    "Conflict",
    "ConnectionFailed",
    "Context",
    "CpuLimitExceeded",
    "DependencyError",
    "Deployment",
    "Forbidden",
    "Function",
    "FunctionCrashed",
    "FunctionError",
    "FunctionLimitExceeded",
    "FunctionTimeout",
    "InvalidArguments",
    "Invocation",
    "Key",
    "NewKey",
    "NotFound",
    "Overloaded",
    "Page",
    "Progress",
    "ProjectError",
    "QuotaExceeded",
    "Request",
    "Response",
    "Runtime",
    "StartError",
    "StartFailed",
    "StartTimeout",
    "TailcutError",
    "Tenant",
    "TierLimit",
    "TimeLimitExceeded",
    "Unauthorized",
    "Version",
    "warmup",
}
HEAVY = ("httpx", "rich", "typer", "asyncio", "ssl", "socket", "email", "zipfile", "subprocess")


def test_the_promised_names_are_exactly_these():
    assert set(tailcut.__all__) == PROMISED
    for name in PROMISED:
        assert getattr(tailcut, name).__name__ == name


def test_every_error_is_in_one_tree():
    errors = [getattr(tailcut, name) for name in PROMISED]
    raised = [entry for entry in errors if isinstance(entry, type) and issubclass(entry, BaseException)]
    # What a handler sees in the worker, and no broad `except` of its own may swallow.
    inside = {tailcut.CpuLimitExceeded, tailcut.TimeLimitExceeded}
    assert not any(issubclass(entry, Exception) for entry in inside)
    raised = [entry for entry in raised if entry not in inside]
    assert len(raised) > 15
    assert all(issubclass(entry, tailcut.TailcutError) for entry in raised)


def test_a_name_that_does_not_exist_is_an_attribute_error():
    assert not hasattr(tailcut, "NoSuchThing")


def test_importing_the_package_in_a_worker_stays_light():
    program = "import sys, tailcut; tailcut.Request, tailcut.Response; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert [name for name in HEAVY if name in loaded] == []


def test_the_clients_are_there_when_they_are_asked_for():
    program = "import sys, tailcut; tailcut.Client; print('httpx' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout.strip() == "True"
