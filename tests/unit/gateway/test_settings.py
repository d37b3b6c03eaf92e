"""Lists of numbers as people write them for a shell."""

import pytest
from pydantic import TypeAdapter, ValidationError

from gateway.settings import Numbers

numbers = TypeAdapter(Numbers)


@pytest.mark.parametrize(
    ("text", "meant"), [("", ()), ("3", (3,)), ("0, 2-4,", (0, 2, 3, 4)), ("1-1", (1,)), ("5-4", ())]
)
def test_lists_and_ranges(text: str, meant: tuple[int, ...]) -> None:
    assert numbers.validate_python(text) == meant


@pytest.mark.parametrize("text", ["a", "1-", "-1", "1-2-3", "1.5", "0-4096", "1-99999999999999"])
def test_others_are_refused_with_what_is_needed(text: str) -> None:
    with pytest.raises(ValidationError, match=r"0,2-3|4096"):
        numbers.validate_python(text)
