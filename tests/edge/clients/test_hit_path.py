"""The hit path reads quickly: it must answer what the strict parser takes for a GET of what is stored, no more."""

from types import SimpleNamespace
from typing import Any, cast

from hypothesis import example, given
from hypothesis import strategies as st

from edge_world import HOST, config
from nearmile.cache.entry import response_head
from nearmile.cache.policy import decide_store
from nearmile.cache.store import MemoryStore
from nearmile.edge.clients.h1server import Connection
from nearmile.edge.clients.rounds import Round
from nearmile.edge.node import Node
from nearmile.edge.visitors import Visitors
from nearmile.http.fields import BadMessage, parse_fields
from nearmile.http.head import parse_request

NOW_S, FRESH = 1_800_000_000.0, ((b"cache-control", b"max-age=60"),)
STORED = (b"/a", b"/b")
HOST_LINE = f"Host: {HOST}\r\n".encode()
WHOLE = (b"GET /a HTTP/1.1\r\n%b\r\n" % HOST_LINE, b"GET /b HTTP/1.1\r\n%bX: y\r\n\r\n" % HOST_LINE)
LINES = (
    b"GET /a HTTP/1.1", b"GET /b HTTP/1.1", b"GET /c HTTP/1.1", b"GET /a HTTP/1.0", b"GET /a", b"POST /a HTTP/1.1",
    b"GET http://a/a HTTP/1.1", b"/a HTTP/1.1", b" HTTP/1.1", b"Host: other.test", b"X: GET /a HTTP/1.1", b"X:\ty",
    b"GET s/a HTTP/1.1", b" folded", b"Cache-Control: no-cache", b"Content-Length: 0", b"Connection: close", b"",
)  # fmt: skip
PIECES = (*WHOLE, HOST_LINE, *(line + b"\r\n" for line in LINES), b"\r", b"\n", b" ", b"\t", b"GET ", b"/a", b"\0")


class Hasty(Connection):
    """Stops where the hit path hands a whole head on."""

    def _begin(self, data: bytes) -> None:
        if data.find(b"\r\n\r\n", 2 if data.startswith(b"\r\n") else 0) < 0:
            self._hold(data)
        else:
            self._ready, self._held = False, data


class Wire:
    """A transport that takes everything."""

    written = 0

    def get_extra_info(self, _name: str) -> tuple[str, int]:
        return ("192.0.2.1", 4000)

    def set_write_buffer_limits(self, high: int, low: int) -> None:
        pass

    def writelines(self, _pieces: object) -> None:
        self.written += 1

    def pause_reading(self) -> None:
        pass


def hasty() -> tuple[Hasty, Wire]:
    documents, store, hub = config(), MemoryStore(1 << 20), cast(Any, SimpleNamespace(requests=0))
    door: Any = SimpleNamespace(opened=lambda _: None, shaken=lambda *_: None, round=Round(lambda _: None))
    hub.watch = lambda _: None
    visitors = Visitors(lambda _: 0)
    node = Node(documents.of_role("edge")[0], door, lambda: NOW_S, store, hub, visitors, lambda *_: None, hub)
    node.take_config(documents)
    door.node = node
    kept = decide_store(b"GET", (), 200, FRESH, 0, NOW_S, NOW_S)
    assert kept is not None
    prefixes = [sites[HOST.encode()].prefix for sites in (node.sites, node.secure_sites)]
    for key in [prefix + target for prefix in prefixes for target in STORED]:
        assert store.put(key, (), kept, response_head(200, FRESH, 1), b"x", store.generation)
    connection, wire = Hasty(door), Wire()
    connection.connection_made(wire)  # type: ignore[arg-type]
    return connection, wire


def strict(data: bytes) -> tuple[int, bytes]:
    """How many requests at the beginning are hits, and what is left."""
    hits = 0
    while (end := data.find(b"\r\n\r\n") + 4) >= 4:
        line, _, lines = data[: end - 2].partition(b"\r\n")
        try:
            request = parse_request(line, parse_fields(lines))
        except BadMessage:
            break
        known = (request.method, request.fields.host, request.minor) == (b"GET", HOST.encode(), 1)
        if not (known and request.fields.plain and line.split(b" ")[1] in STORED):
            break
        hits, data = hits + 1, data[end:]
    return hits, data


@given(st.lists(st.lists(st.sampled_from(PIECES), max_size=12).map(b"".join), max_size=4))
@example([WHOLE[0], WHOLE[1], WHOLE[0]])
@example([b"GET /a", b" HTTP/1.1\r\n", HOST_LINE + b"\r\nGET /b"])
@example([b"GET s/a HTTP/1.1\r\n" + HOST_LINE + b"\r\n"])
@example([b"GET /a\r\nX:y HTTP/1.1\r\n" + HOST_LINE + b"\r\n"])
def test_it_agrees_with_the_strict_parser(arrivals: list[bytes]) -> None:
    connection, wire = hasty()
    for data in arrivals:
        if data:
            connection.receive(data)
    assert (wire.written, connection._held) == strict(b"".join(arrivals))
