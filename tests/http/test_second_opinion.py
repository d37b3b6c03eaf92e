"""What the table accepts, h11 reads in the same way: a differential between two readers is how requests are smuggled.

h11 (the parser below httpx and uvicorn) knows nothing of us, so it also checks the table's own expectations. Only what
is accepted is compared: what we refuse on top of h11 is refused on purpose.
"""

import h11
import pytest

from tests.http.table import Case, load

EMPTY_LINE_FIRST = {"one empty line before the request", "an empty line between two requests"}
"""RFC 9112 section 2.2 asks servers to forgive it; h11 does not."""

ACCEPTED = [case for case in load() if all(one.accepted for one in case.expected) and case.name not in EMPTY_LINE_FIRST]


@pytest.mark.parametrize("case", ACCEPTED, ids=lambda case: case.name)
def test_h11_reads_the_same(case: Case) -> None:
    expected = [(one.method, one.target, one.body) for one in case.expected]
    assert requests_of(case.stream, len(case.stream)) == expected
    assert requests_of(case.stream, 1) == expected


def test_the_second_opinion_is_asked_often() -> None:
    assert len(ACCEPTED) >= 100


def requests_of(stream: bytes, piece_bytes: int) -> list[tuple[str, str, bytes]]:
    """Method, target and body of each request that h11 reads as a server that answers at once."""
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=32 * 1024)
    requests: list[tuple[str, str, bytes]] = []
    method, target, body = "", "", b""
    for at in range(0, len(stream), max(piece_bytes, 1)):
        connection.receive_data(stream[at : at + piece_bytes])
        while (event := connection.next_event()) not in (h11.NEED_DATA, h11.PAUSED):
            if isinstance(event, h11.Request):
                method, target, body = event.method.decode(), event.target.decode("latin-1"), b""
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                requests.append((method, target, body))
                connection.send(h11.Response(status_code=200, headers=[("content-length", "0")]))
                connection.send(h11.EndOfMessage())
                if connection.our_state is h11.MUST_CLOSE:
                    return requests
                connection.start_next_cycle()
    return requests
