"""What is fuzzed: one function for each place where bytes from outside are read.

A target takes any bytes and returns: whatever it raises is a fault. Where there is a second opinion (another
reader, the same bytes in other pieces, the way back) the target asks for it.
"""

import contextlib
import tempfile
from collections.abc import Callable
from functools import cache
from itertools import count
from pathlib import Path
from zlib import crc32

import dns.exception
import dns.message
import msgspec
import pylsqpack

from edge_world import config
from h3_wire import sense
from nearmile.base.errors import NearmileError
from nearmile.base.geography import NOWHERE
from nearmile.cache.dates import format_date, parse_date
from nearmile.cache.directives import request_directives
from nearmile.cache.policy import decide_store, stored_fields
from nearmile.cache.ranges import wanted
from nearmile.cache.reuse import reusable, verdict
from nearmile.cache.target import cookie_values
from nearmile.cli.fetch import read_cache_status
from nearmile.config.layout import NamedSite
from nearmile.config.network import Site
from nearmile.config.read import read_directory
from nearmile.dns.answer import LowWorld, TopWorld, answer
from nearmile.dns.locate import Locator
from nearmile.dns.responder import Responder
from nearmile.dns.signer import Signer
from nearmile.edge import limits
from nearmile.edge.messages import forwarded_request, forwarding, request_head
from nearmile.edge.origins.peer import Question
from nearmile.edge.rules.rates import Limiter
from nearmile.edge.rules.redirects import To
from nearmile.edge.rules.signatures import EXPIRES, Claims, signed, split
from nearmile.edge.rules.site import Allow, Asked, Files, Rules, rules_of, stored_target
from nearmile.edge.visitors import Hop
from nearmile.http import h2
from nearmile.http.body import ChunkedBody, encode_chunk
from nearmile.http.fields import BadMessage, Pairs, parse_fields, parse_pairs
from nearmile.http.h2frames import CANCEL, PREFACE
from nearmile.http.h3frames import Fault
from nearmile.http.head import parse_request, parse_response, write_fields
from nearmile.http.prefixed import Strings
from nearmile.http.qpackread import Reader
from nearmile.http.quic import INITIAL_BYTES_MIN, Lobby
from nearmile.http.streams import request_of
from nearmile.reports import segment
from strict_http import read_request

NOW_S = 1_800_000_000.0
SECONDS = count()
NOBODY: frozenset[bytes] = frozenset()


def request(data: bytes) -> None:
    """A request's head; what is taken must be plain to the next reader."""
    line, _, lines = (data + b"\r\n\r\n").partition(b"\r\n")
    end = lines.find(b"\r\n\r\n") + 2
    with contextlib.suppress(BadMessage):
        taken = parse_request(line, parse_fields(lines[:end] if end > 1 else b""))
        told = forwarding(taken, b"http", taken.host, "9.9.9.9", trusted=False, internal=False)
        pairs = forwarded_request(taken.fields.pairs, NOBODY, told, b"edge", Hop.CLIENT)
        asked = Question(method=taken.method, target=taken.target, host=taken.host, pairs=pairs, framing=0)
        found = read_request(request_head(asked) + b"next")
        assert found is not None and found[1] == b"next" and not found[0].body


def fields(data: bytes) -> None:
    """Field lines; what is taken must be the same when written and read again."""
    for response in (False, True):
        with contextlib.suppress(BadMessage):
            taken = parse_fields(data, response)
            assert parse_pairs(write_fields(taken.pairs)) == taken.pairs


def datagrams(data: bytes) -> None:
    """A datagram that no connection is named in; who does not show its address is not answered at length."""
    lobby = Lobby(bytes(32), bytes)
    for doubtful in (False, True):
        for padded in (data, data.ljust(INITIAL_BYTES_MIN, b"\0")):
            _, found = lobby.look(padded, ("192.0.2.1", 4000), NOW_S, doubtful)
            assert not isinstance(found, bytes) or len(found) <= len(padded)


def frames(data: bytes) -> None:
    """A stream of HTTP/3, a request's or one of one direction: judged alike in any pieces."""
    how, data = (data[0], data[1:]) if data else (0, b"")
    number, end, step = how & 2, bool(how & 1), (how >> 2) % 7 + 1
    assert sense(number, data, end, step) == sense(number, data, end, 0)


def section(data: bytes) -> None:
    """A field section of HTTP/3; what is taken must be the same to another reader."""
    with contextlib.suppress(Fault, BadMessage):
        taken = Reader().read(data)
        # The other wants a line, and names in all; we leave that to the parser of heads.
        if taken and all(name for name, _ in taken):
            assert tuple(pylsqpack.Decoder(0, 0).feed_header(0, data)[1]) == taken


def chunks(data: bytes) -> None:
    """A chunked body: judged alike in any pieces, and the same when written and read again."""
    step, data = (data[0] % 7 + 1, data[1:]) if data else (1, b"")
    whole = _decoded([data])
    assert whole == _decoded([data[at : at + step] for at in range(0, len(data), step)])
    if isinstance(whole, tuple) and whole[0]:
        assert (
            _decoded([encode_chunk(whole[0]) + b"0\r\n\r\n" + whole[1]]) == (whole[0], whole[1], True)
            or not whole[2]
        )


def _decoded(pieces: list[bytes]) -> tuple[bytes, bytes, bool] | None:
    decoder, body, rest = ChunkedBody(), b"", b""
    try:
        for piece in pieces:
            if decoder.done:
                rest += piece
            else:
                out, rest = decoder.feed(piece)
                body += b"".join(out)
    except BadMessage:
        return None
    return body, rest, decoder.done


def h2_frames(data: bytes) -> None:
    """What a client of HTTP/2 sends after its preface: the same requests in any pieces, each answered."""
    step, data = (data[0] % 61 + 1, data[1:]) if data else (1, b"")
    assert _asked([data]) == _asked([data[at : at + step] for at in range(0, len(data), step)])


def _asked(pieces: list[bytes]) -> tuple[list[tuple[Pairs, bool]], int]:
    session, brought_bytes = h2.Session(Strings()), 0
    asked: list[h2.Requested] = []
    for piece in (PREFACE, *pieces):
        for event in session.feed(piece):
            if isinstance(event, h2.Requested):
                asked.append(event)
            elif isinstance(event, h2.BodyCame):
                brought_bytes += len(event.data)
                session.consumed(event.stream_id, len(event.data))
    for number, said, ended in asked:
        _answer_stream(session, number, said.headers, ended)
    while session.out(limits.H2_WRITE_BYTES):
        session.events()
    return [(said.headers, ended) for _, said, ended in asked], brought_bytes


def _answer_stream(session: h2.Session, number: int, headers: Pairs, ended: bool) -> None:
    with contextlib.suppress(BadMessage):
        taken = request_of(headers, ended)
        assert parse_pairs(write_fields(taken.fields.pairs)) == taken.fields.pairs
    if session.answer(number, b"\x88", b"hello", at_once=bool(number & 2)) is not None:
        session.reset(number, CANCEL)


def response(data: bytes) -> None:
    """A response's head."""
    with contextlib.suppress(BadMessage):
        parse_response(data.partition(b"\r\n\r\n")[0] + b"\r\n\r\n")


def directives(data: bytes) -> None:
    """What the cache reads of fields: directives, ages, validators, ranges, Vary."""
    try:
        pairs = parse_pairs(data)
    except BadMessage:
        return
    kept = decide_store(b"GET", (), 200, pairs, 0, NOW_S, NOW_S)
    stored_fields(pairs, NOW_S)
    wanted(b"GET", pairs)
    reusable(b"GET", pairs)
    asked = request_directives(pairs)
    if kept is not None:
        verdict(kept, asked, NOW_S + 1)


def date(data: bytes) -> None:
    """A date; what is read must be the same when written and read again."""
    seconds = parse_date(data, NOW_S)
    if seconds is not None:
        assert parse_date(format_date(seconds), NOW_S) == seconds


def cache_status(data: bytes) -> None:
    """Cache-Status, as the command line reads it."""
    read_cache_status(data.decode("latin-1"))


@cache
def _worlds() -> tuple[TopWorld, LowWorld]:
    locator, signer = Locator(lambda _: NOWHERE), Signer((bytes(32),), 0.0)
    return TopWorld(config(), None, locator, signer), LowWorld(config(), None, locator, signer)


@cache
def _responder() -> Responder:
    return Responder("fuzz", b"secret", 1_000)


def _reply(
    responder: Responder, data: bytes, world: TopWorld | LowWorld, now_s: float, over_tcp: bool
) -> bytes | None:
    (ready,) = [None] if over_tcp else responder.ready([data[2:]], ["9.9.9.9"], world, now_s)
    if ready is None:
        return responder.answer(data, "9.9.9.9", world, now_s, over_tcp)
    return data[:2] + ready


def query(data: bytes) -> None:
    """A packet to a nameserver; what is answered must be a message to another reader."""
    # Later each time, so that no rate is reached.
    responder, now_s = _responder(), NOW_S + next(SECONDS)
    for world in _worlds():
        for over_tcp in (False, True):
            # The second time it may be known, and must be the same.
            replies = {_reply(responder, data, world, now_s, over_tcp) for _ in range(2)}
            reply = answer(data, "9.9.9.9", world, over_tcp)
            assert len(replies) == 1 and (reply is None) == (replies == {None})
            if reply is not None:
                try:
                    dns.message.from_wire(reply)
                except dns.exception.FormError as error:
                    # It knows no subnet of family 0, which some resolvers send for "none", and we send back.
                    if "unsupported family" not in str(error):
                        raise


def subnet(data: bytes) -> None:
    """The same with the bytes as a client subnet in a query that is otherwise well."""
    question = b"\x00\x01\x01\x00\x00\x01\x00\x00\x00\x00\x00\x01\x03www\x04test\x07example\x00\x00\x01\x00\x01"
    data = data[:400]
    option = b"\x00\x08" + len(data).to_bytes(2, "big") + data
    query(question + b"\x00\x00\x29\x04\xd0\x00\x00\x00\x00" + len(option).to_bytes(2, "big") + option)


def hits(data: bytes) -> None:
    """A segment of the hit journal, as it is and with its checksum made right."""
    segment.decode(data)
    body = data[2:]
    checked = segment._PREFIX.pack(segment._MAGIC, crc32(body), int.from_bytes(data[:2], "big"))
    segment.decode(checked + body)


@cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    folder = tempfile.TemporaryDirectory()
    (Path(folder.name) / "sites").mkdir()
    return folder


def documents(data: bytes) -> None:
    """The documents of a network: network.toml, a NUL, a site's."""
    folder = Path(_folder().name)
    network, _, site = data.partition(b"\0")
    (folder / "network.toml").write_bytes(network)
    (folder / "sites" / "www.toml").write_bytes(site)
    with contextlib.suppress(NearmileError):
        read_directory(folder)


@cache
def _rules() -> tuple[NamedSite, Rules]:
    document = {
        "hostnames": ["www.test.example"], "origin": "http://127.0.0.1", "methods": ["GET"],
        "key": {"normalise": True, "sort": True, "query": "without", "parameters": ["utm_*"], "cookies": ["lang"]},
        "redirects": [{"path": "/old/*", "to": "/new/*"}, {"path": "/off/*", "to": "https://b.example/*"}],
        "access": {"deny_countries": ["XX"]}, "signed": {"keys": {"k": {"environment": "K"}}, "open": ["/open/"]},
    }  # fmt: skip
    named = NamedSite(name="www", serial=1, origins=(), document=msgspec.convert(document, Site))
    return named, rules_of(named, Files(secrets={"k": bytes(32)}))


def rules(data: bytes) -> None:
    """A request's target and cookies; what is let in has one form, what is sent on keeps to its place."""
    line, _, cookies = data.partition(b"\n")
    named, made = _rules()
    try:
        taken = parse_request(b"GET " + line + b" HTTP/1.1", parse_fields(HEAD))
    except BadMessage:
        return
    cookie_values([cookies], (b"lang",))
    for target in (taken.target, _signed(taken.target)):
        found = made.check(Asked(b"GET", target, 0, "192.0.2.1", str), NOW_S, Limiter())
        if isinstance(found, Allow):
            assert found.target == made.target(found.target) == stored_target(named.document, target)
            assert found.target.startswith(b"/open/") or target != taken.target or EXPIRES in target
        elif isinstance(found, To):
            assert found.location.startswith(b"https://b.example/") or found.location[:2].strip(b"/\\")


def _signed(target: bytes) -> bytes:
    """As who has the key would sign it."""
    made = _rules()[1]
    return signed(bytes(32), "www", made.target(split(target)[0]), Claims(expires=b"9999999999", key=b"k"))


HEAD = b"Host: www.test.example\r\n"
# EDNS as it is, and with a wish for signatures.
OPTS = tuple(b"\x00\x00\x29\x04\xd0\x00\x00" + flags + b"\x00\x00\x00" for flags in (b"\x00", b"\xc0"))
QUERY = b"\x00\x01\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x03www\x04test\x07example\x00\x00\x01\x00\x01"
NETWORK = b"""name = "n"
zone = "n.example"
[regions.a]
city = "Berlin"
servers = 2
[[nameservers]]
tier = "top"
city = "Berlin"
[[nameservers]]
tier = "low"
city = "Berlin"
\0hostnames = ["www.n.example"]
origin = "http://127.0.0.1:80"
[cache]
default_ttl_s = 5
"""
TARGETS: dict[str, tuple[Callable[[bytes], None], tuple[bytes, ...]]] = {
    "request": (request, (b"GET /a?b HTTP/1.1\r\n" + HEAD, b"POST http://a/ HTTP/1.0\r\nContent-Length: 3\r\n")),
    "fields": (
        fields,
        (HEAD + b"Transfer-Encoding: chunked\r\nConnection: close, x\r\n", b"Content-Length: 5\r\n"),
    ),
    "datagrams": (
        datagrams,
        (
            b"\xc0\0\0\0\x01\x0812345678\x0887654321\0\x44\x00",
            b"\xc0\x1a\x1a\x1a\x1a\x0812345678\x0887654321" + bytes(1200),
            b"\x40" + b"12345678" * 4,
        ),
    ),
    "frames": (
        frames,
        (
            b"\x01\x21\x02ab\x01\x03\0\0\xd1\x00\x04body\x01\x03\0\0\xd1",
            b"\x02\0\x04\x02\x06\x09\x07\x01\0",
            b"\x02\x02\x20\x20",
            b"\x02\x03\x44\x7f\x80\x01",
        ),
    ),
    "section": (section, (b"\0\0\xd1\xd7\x50\x01a\xc1", b"\0\0\x5f\x50\x83\x1c\x64\x9f\x27\0\x01x\x01y")),
    "chunks": (chunks, (b"\x013;a=b\r\nabc\r\n0\r\n\r\n", b'\x02a;x="y"\r\n0123456789\r\n0\r\nX: y\r\n\r\n')),
    "h2-frames": (
        h2_frames,
        (
            b"\x07" + bytes.fromhex("00000004000000000000000b010500000001828487410661") + b".b.c1" + b"\x53\x01x",
            b"\x01"
            + bytes.fromhex(
                "00000004000000000000000101000000000100000401040000000182848741000003000100000001414243"
            ),
        ),
    ),
    "response": (response, (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n", b"HTTP/1.0 404\r\n")),
    "directives": (
        directives,
        (
            b'Cache-Control: max-age=5, private="a, b"\r\nAge: 3\r\nVary: a, b\r\nETag: W/"x"\r\n',
            b"Range: bytes=0-1,-3\r\nCDN-Cache-Control: s-maxage=5;x\r\nExpires: 0\r\n",
        ),
    ),
    "date": (
        date,
        (b"Sun, 06 Nov 1994 08:49:37 GMT", b"Sunday, 06-Nov-94 08:49:37 GMT", b"Sun Nov  6 08:49:37 1994"),
    ),
    "cache-status": (cache_status, (b"a; hit", b"b; fwd=stale; fwd-status=304, a; hit; ttl=-3")),
    "query": (query, (QUERY, *(QUERY[:11] + b"\x01" + QUERY[12:] + opt for opt in OPTS))),
    "subnet": (subnet, (b"\x00\x01\x18\x00\x09\x09\x09", b"\x00\x02\x30\x00\x20\x01\x0d\xb8\x00\x00")),
    "hits": (hits, (b"\x00\x10" + b"\x81" * 40,)),
    "documents": (documents, (NETWORK,)),
    "rules": (
        rules,
        (b"/a/%7eb/../c?b=1&utm_x=2&a=%2f\nlang=de; x=y", b"/old//b.example?x", b"/off/a", b"/open/%41?nm-key=k"),
    ),
}
