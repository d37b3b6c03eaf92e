"""The one exception that ends a command with one clear line."""


class CannotStart(Exception):  # noqa: N818 - named after what happened
    """What is wrong, with which value, and what to do; ``exit_code`` for scripts."""

    def __init__(self, text: str, exit_code: int = 1) -> None:
        super().__init__(text)
        self.exit_code = exit_code


EXIT_PORT_TAKEN = 3
EXIT_ALREADY_RUNNING = 4
EXIT_FEATURE_MISSING = 5
EXIT_CHILD_FAILED = 6
