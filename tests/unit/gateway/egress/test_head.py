"""What a tenant may send as a request to the proxy: read in one way only, or refused."""

import ipaddress
import re

import h11
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.egress.head import HeadError, Target, headers_on, target_of

HEAD_BYTES_MAX = 4096


def read(raw: bytes) -> h11.Request | None:
    """As proxy.py does."""
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_BYTES_MAX)
    connection.receive_data(raw)
    event = connection.next_event()
    return event if isinstance(event, h11.Request) else None


def target(line: str) -> Target:
    request = read(f"{line} HTTP/1.1\r\nHost: other.example\r\n\r\n".encode("latin-1"))
    assert request is not None
    return target_of(request)


GOOD = {
    "CONNECT example.com:443": ("example.com", 443, b""),
    "CONNECT [2A00::1]:443": ("2a00::1", 443, b""),
    "GET http://example.com": ("example.com", 80, b"/"),
    "GET HTTP://example.com:8080/a?b": ("example.com", 8080, b"/a?b"),
    "GET http://example.com?x=/@y": ("example.com", 80, b"/?x=/@y"),
    "POST http://[::1]/": ("::1", 80, b"/"),
    "GET http://a_b.example./": ("a_b.example.", 80, b"/"),
}
BAD = (
    *("CONNECT example.com", "CONNECT example.com:0", "CONNECT example.com:65536"),
    *("CONNECT http://example.com/", "CONNECT user@example.com:443", "CONNECT [::1", "CONNECT [::1]443"),
    *("CONNECT [fe80::1%lo]:443", "CONNECT ::1:443", "CONNECT -example.com:443", "CONNECT a..b:443", "CONNECT :443"),
    *("GET /", "GET *", "GET https://example.com/", "GET ftp://example.com/", "GET http:///path", "GET http://"),
    *("GET http://user:password@example.com/", "GET http://example.com:port/", "GET http://exa\xe4mple.com/"),
    *("GET http://example.com\\@10.0.0.1/", "GET http://example.com/a#b", f"GET http://{'a' * 254}/"),
)  # fmt: skip


@pytest.mark.parametrize("line", GOOD)
def test_what_is_meant_is_read(line: str) -> None:
    found = target(line)
    assert (found.host, found.port, found.path) == GOOD[line]
    assert found.is_tunnel == line.startswith("CONNECT")


@pytest.mark.parametrize("line", BAD)
def test_what_could_mean_anything_else_is_refused(line: str) -> None:
    with pytest.raises((HeadError, h11.RemoteProtocolError)):
        target(line)


def test_headers_between_two_ends_only_stay_behind() -> None:
    request = read(
        b"GET http://example.com/ HTTP/1.1\r\nHost: smuggled.example\r\nConnection: close, X-One\r\nX-One: 1\r\n"
        b"X-Two: 2\r\nProxy-Authorization: Basic c2VjcmV0\r\nProxy-Connection: keep-alive\r\nTE: trailers\r\n"
        b"Upgrade: websocket\r\nKeep-Alive: 5\r\nAuthorization: Bearer for-the-service\r\n\r\n"
    )
    assert request is not None
    assert headers_on(request) == [(b"x-two", b"2"), (b"authorization", b"Bearer for-the-service")]


def test_a_length_beside_chunks_stays_behind() -> None:
    request = read(
        b"POST http://example.com/ HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    assert request is not None
    assert headers_on(request) == [(b"transfer-encoding", b"chunked")]
    # A connection cannot take the length away either: the body would be read as the next request.
    request = read(
        b"POST http://example.com/ HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nConnection: content-length\r\n\r\n"
    )
    assert request is not None
    assert (b"content-length", b"5") in headers_on(request)


HOSTS = st.one_of(
    st.sampled_from([b"example.com", b"10.0.0.1", b"[::1]", b"[::ffff:1.2.3.4]", b"localhost", b"0x7f.1", b""]),
    st.binary(max_size=20),
)
PIECES = st.one_of(
    HOSTS,
    st.sampled_from(
        [b"CONNECT ", b"GET ", b"http://", b"https://", b":443", b":", b"@", b"/", b"?", b"#", b"\\", b"%0d%0a", b" ",
         b" HTTP/1.1\r\n", b" HTTP/1.0\r\n", b"Host: x\r\n", b"\r\n", b"\n", b"\r", b"\0", b"Content-Length: 3\r\n",
         b"Transfer-Encoding: chunked\r\n", b"Connection: host\r\n", b" folded: yes\r\n", b"X: \xff\r\n"]
    ),
)  # fmt: skip
LINES = st.builds(
    lambda method, before, host, port, path: method + before + host + port + path + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    st.sampled_from([b"CONNECT ", b"GET "]), st.sampled_from([b"", b"http://"]), HOSTS,
    st.sampled_from([b"", b":443", b":0", b":99999", b":x"]), st.one_of(st.just(b""), st.binary(max_size=12)),
)  # fmt: skip


@settings(max_examples=500, deadline=None)
@given(st.one_of(LINES, st.lists(PIECES, max_size=12).map(b"".join)))
def test_whatever_is_sent_is_read_in_one_way_or_refused(raw: bytes) -> None:
    try:
        request = read(raw)
        if request is None:
            return
        found = target_of(request)
    except (HeadError, h11.RemoteProtocolError):
        return
    assert 1 <= found.port <= 65535
    if ":" in found.host:
        ipaddress.IPv6Address(found.host)
    else:
        assert re.fullmatch(r"[A-Za-z0-9_.-]{1,253}", found.host), found.host
    if found.is_tunnel:
        return
    # Written on, it is read as what was judged, and as nothing more.
    far = h11.Connection(h11.CLIENT)
    headers = [(b"host", found.authority), *headers_on(request)]
    sent = far.send(h11.Request(method=request.method, target=found.path, headers=headers))
    assert sent is not None
    server = h11.Connection(h11.SERVER)
    server.receive_data(sent)
    again = server.next_event()
    assert isinstance(again, h11.Request)
    assert again.target == found.path
    assert [value for name, value in again.headers if name == b"host"] == [found.authority]
    assert found.authority.lower().startswith((found.host.lower().encode(), b"["))
