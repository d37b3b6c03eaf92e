"""The zygote's only setting; alone here, so that its environment is read in one place and pydantic is not imported."""

import os

FD_VARIABLE = "TAILCUT_ZYGOTE_FD"


def listener_fd() -> str | None:
    """The listening socket that the supervisor hands down."""
    return os.environ.get(FD_VARIABLE)
