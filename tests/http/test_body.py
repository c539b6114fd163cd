"""Bodies: the same whatever the pieces the bytes come in."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nearmile.http.body import (
    LAST_CHUNK,
    ChunkedBody,
    Decoder,
    OpenBody,
    SizedBody,
    encode_chunk,
    request_body,
    response_body,
)
from nearmile.http.fields import BadMessage, parse_fields
from nearmile.http.head import parse_request, parse_response
from nearmile.http.limits import CHUNK_LINE_BYTES_MAX, CHUNK_WASTE_BYTES_MAX, FIELDS_MAX, TRAILER_BYTES_MAX


def decode(decoder: Decoder, pieces: list[bytes]) -> tuple[bytes, bytes]:
    """The body, and what came after it."""
    body, rest = b"", b""
    for piece in pieces:
        if decoder.done:
            rest += piece
        else:
            out, rest = decoder.feed(piece)
            body += b"".join(out)
    return body, rest


def cut(data: bytes, places: list[int]) -> list[bytes]:
    marks = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:end] for start, end in pairwise(marks) if start < end]


CUTS = st.lists(st.integers(0, 10_000), max_size=12)


@given(st.lists(st.binary(min_size=1, max_size=40), max_size=6), CUTS, st.binary(max_size=20))
@settings(max_examples=150, deadline=None)
def test_chunks_are_read_whatever_the_pieces(chunks: list[bytes], places: list[int], after: bytes) -> None:
    wire = b"".join(map(encode_chunk, chunks)) + LAST_CHUNK + after
    decoder = ChunkedBody()
    assert decode(decoder, cut(wire, places)) == (b"".join(chunks), after)
    assert decoder.done and decoder.end()


@given(st.binary(max_size=60), CUTS, st.binary(max_size=20))
@settings(max_examples=100, deadline=None)
def test_sized_bodies_are_read_whatever_the_pieces(body: bytes, places: list[int], after: bytes) -> None:
    decoder = SizedBody(len(body))
    assert decode(decoder, cut(body + after, places)) == (body, after)
    assert decoder.done


WIRE = st.lists(
    st.sampled_from([b"5", b"a;x", b"0", b"\r\n", b"\r", b"\n", b"hello", b"\r\n\r\n", b" ", b"X: y", b"g"]),
    max_size=14,
).map(b"".join)


@given(WIRE, CUTS)
@settings(max_examples=300, deadline=None)
def test_any_bytes_are_judged_alike_whatever_the_pieces(wire: bytes, places: list[int]) -> None:
    def verdict(pieces: list[bytes]) -> tuple[bytes, bytes, bool] | str:
        decoder = ChunkedBody()
        try:
            return *decode(decoder, pieces), decoder.done
        except BadMessage:
            return "bad"

    assert verdict([wire]) == verdict(cut(wire, places)) == verdict([wire[n : n + 1] for n in range(len(wire))])


def test_extensions_are_dropped_and_trailers_stay_apart() -> None:
    wire = b'3 ;a="b"\r\nabc\r\n0;last\r\nX-Sum: 1\r\nY: 2\r\n\r\nNEXT'
    decoder = ChunkedBody()
    assert decode(decoder, [wire]) == (b"abc", b"NEXT")
    assert decoder.trailers == ((b"x-sum", b"1"), (b"y", b"2"))
    fields = b"X: 1\r\n" * FIELDS_MAX
    assert decode(ChunkedBody(), [b"0\r\n" + fields + b"\r\n"]) == (b"", b"")
    with pytest.raises(BadMessage):
        ChunkedBody().feed(b"0\r\n" + fields + b"X: 1\r\n\r\n")


@pytest.mark.parametrize(
    "wire",
    [
        b"\r\n",
        b"x\r\n",
        b"-1\r\n",
        b"+1\r\n",
        b"0x1\r\n",
        b" 1\r\n",
        b"1 1\r\n",
        b"1 \r\n",
        b"1;\r\n",
        b"1;=x\r\n",
        b'1;x="\r\n',
        b"1;x y\r\n",
        b"1;%b\r\nA\r\n" % (b"x" * 200) * (2 * CHUNK_WASTE_BYTES_MAX // 200),
        b"1\n\r\n",
        b"1;\x00\r\n",
        b"1;a\nb\r\n",
        b"1\r\nab\r\n",
        b"1\r\na\n0\r\n",
        b"1\r\na0\r\n\r\n",
        b"FFFFFFFFFFFFFFFFF\r\n",
        b"00000000000000\r\n",
        b"1;" + b"x" * CHUNK_LINE_BYTES_MAX + b"\r\n",
        b"1;" + b"x" * CHUNK_LINE_BYTES_MAX,
        b"0\r\nX : y\r\n\r\n",
        b"0\r\n folded\r\n\r\n",
        b"0\r\n" + b"X: y\r\n" * TRAILER_BYTES_MAX,
    ],
)
def test_chunks_refused(wire: bytes) -> None:
    with pytest.raises(BadMessage):
        decode(ChunkedBody(), [wire])
    with pytest.raises(BadMessage):
        decode(ChunkedBody(), [wire[n : n + 1] for n in range(len(wire))])


def test_tiny_chunks_that_came_together_are_joined() -> None:
    assert ChunkedBody().feed(b"1\r\nA\r\n" * 1000)[0] == [b"A" * 1000]


def test_ends_that_come_too_early() -> None:
    assert not SizedBody(3).end()
    chunked = ChunkedBody()
    chunked.feed(b"3\r\nabc\r\n")
    assert not chunked.end()
    whole = OpenBody()
    assert whole.feed(b"abc") == ([b"abc"], b"")
    assert not whole.done
    assert whole.end() and whole.done


@pytest.mark.parametrize(
    ("method", "head", "kind"),
    [
        (b"GET", b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n", SizedBody),
        (b"GET", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", ChunkedBody),
        (b"GET", b"HTTP/1.1 200 OK\r\n\r\n", OpenBody),
        (b"GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 3\r\n\r\n", None),
        (b"GET", b"HTTP/1.1 204 No Content\r\n\r\n", None),
        (b"HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n", None),
        (b"HEAD", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", None),
    ],
)
def test_framing_of_responses(method: bytes, head: bytes, kind: type | None) -> None:
    decoder = response_body(method, parse_response(head))
    if kind is None:
        assert decoder.done
    else:
        assert type(decoder) is kind
        assert not decoder.done


def test_framing_of_requests() -> None:
    def body(block: bytes) -> Decoder:
        return request_body(parse_request(b"POST / HTTP/1.1", parse_fields(b"Host: a\r\n" + block)))

    assert body(b"").done
    assert body(b"Content-Length: 0\r\n").done
    assert not body(b"Content-Length: 1\r\n").done
    assert isinstance(body(b"Transfer-Encoding: chunked\r\n"), ChunkedBody)
