"""The client's side of HTTP/2: which responses it refuses, and orders that come too late.

Its transcripts with origins are in tests/edge/origins/test_edge_h2origins.py.
"""

import pytest

from nearmile.http.fields import BadMessage, Pairs
from nearmile.http.h2client import CANCEL, ClientSession, Ended, response_of, trailers_of
from nearmile.http.limits import TRAILER_BYTES_MAX

OK = (b":status", b"200")
SETTINGS = bytes.fromhex("000000040000000000")
ASK: Pairs = ((b":method", b"GET"), (b":scheme", b"http"), (b":authority", b"a"), (b":path", b"/"))
GOAWAY = 7


def frames(data: bytes) -> list[int]:
    """The types of frames."""
    found = []
    while data:
        found.append(data[3])
        data = data[9 + int.from_bytes(data[:3]) :]
    return found


@pytest.mark.parametrize(
    ("headers", "why"),
    [
        ((), "a malformed status"),
        (((b"a", b"b"),), "a malformed status"),
        (((b":status", b"20"),), "a malformed status"),
        (((b":status", b"099"),), "a malformed status"),
        (((b":status", b"2x0"),), "a malformed status"),
        ((OK, (b":status", b"200")), "a malformed field"),
        ((OK, (b"a", b"b\r\nc: d")), "a malformed field"),
        ((OK, (b"a", b"b\n")), "a malformed field"),
        ((OK, (b"transfer-encoding", b"chunked")), "framing that HTTP/2 does not have"),
    ],
)
def test_a_malformed_response_is_refused(headers: Pairs, why: str) -> None:
    with pytest.raises(BadMessage, match=why):
        response_of(headers)


def test_a_response_and_its_trailers_are_read() -> None:
    head = response_of((OK, (b"content-length", b"3")))
    assert (head.status, head.fields.length) == (200, 3)
    assert trailers_of(((b"a", b"b"),)) == ((b"a", b"b"),)
    for bad in (((b":a", b"b"),), ((b"a", b"b" * TRAILER_BYTES_MAX),)):
        with pytest.raises(BadMessage):
            trailers_of(bad)


def test_who_says_goodbye_asks_no_more() -> None:
    session = ClientSession()
    session.out(1 << 16)
    session.feed(SETTINGS)
    assert session.takes_more and session.ask(ASK, True) == 1
    session.out(1 << 16)
    session.go_away()
    assert GOAWAY in frames(session.out(1 << 16))
    late(session)


def test_what_is_no_http_2_ends_it_and_orders_that_come_later_are_no_errors() -> None:
    session = ClientSession()
    session.out(1 << 16)
    session.feed(b"HTTP/1.1 400 Bad Request\r\n\r\n" * 10)
    assert frames(session.out(1 << 16)) == [GOAWAY]
    late(session)


def late(session: ClientSession) -> None:
    """All that can be wanted of a session that has ended."""
    session.send(1, [b"x"], True)
    session.consumed(1, 10)
    session.reset(1, CANCEL)
    session.go_away()
    assert not session.takes_more and session.ask(ASK, True) is None
    assert session.queued_bytes(1) == 0
    session.out(1 << 16)
    assert all(isinstance(event, Ended) for event in session.events())
    assert session.out(1 << 16) == b""
