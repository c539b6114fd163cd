"""HTTP/3 where datagrams get lost, doubled and late, in virtual time: every answer comes, and comes whole."""

import heapq
import random
from collections.abc import Callable
from functools import partial
from itertools import count
from pathlib import Path

import pytest
from aioquic.h3.connection import H3Connection
from aioquic.h3.events import DataReceived, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.events import ConnectionTerminated

from edge_world import HOST, config
from nearmile.http.h3 import Event, Requested, Session
from nearmile.http.h3frames import NO_ERROR
from nearmile.http.qpack import Sections
from nearmile.http.quic import Lobby, Newcomer, Tickets, Transport
from nearmile.services import state
from nearmile.services.certificates import Certificates

CLIENT, SERVER = ("192.0.2.1", 4000), ("192.0.2.2", 443)
DELAY_S, JITTER_S, PATIENCE_S = 0.03, 0.01, 300.0
PIECE_BYTES, PIECE_S = 20_000, 0.002
TICK_S = 1e-6  # of clocks: who looks at one just when it is time may see that it is not yet
REQUESTS = 30
OK = ((b":status", b"200"),)


class Way:
    """A client, a server, and what is between them."""

    def __init__(self, folder: Path, seed: int, lost: float) -> None:
        certificates = Certificates(folder)
        certificates.take_config(config())
        certificates.refresh()
        self._choose = certificates.identity
        configuration = QuicConfiguration(is_client=True, alpn_protocols=["h3"], server_name=HOST)
        configuration.load_verify_locations(str(state.authority_files(folder)[0]))
        self._chance, self._lost = random.Random(seed), lost
        self._lobby = Lobby(bytes(32), self._chance.randbytes)
        self._to_come: list[tuple[float, int, Callable[[], None]]] = []
        self._number, self.now_s = count(), 0.0
        self.client = QuicConnection(configuration=configuration)
        self.client.connect(SERVER, 0.0)
        self.h3 = H3Connection(self.client)
        self.server: Session | None = None
        self.bodies: dict[int, bytes] = {}
        self.whole: set[int] = set()
        self.wanted: dict[int, bytes] = {}

    def ask(self, path: str, body: bytes, end: bool = True) -> None:
        """Asks for what the server says by that path: ``body``."""
        stream = self.client.get_next_available_stream_id()
        fields = (":method", "GET"), (":scheme", "https"), (":authority", HOST), (":path", f"{path}/{len(body)}")
        self.h3.send_headers(stream, [(name.encode(), value.encode()) for name, value in fields], end)
        self.wanted[stream] = body

    def step(self) -> None:
        """To the next thing that happens."""
        self._send()
        timers = [self.client.get_timer(), None if self.server is None else self.server.deadline_s]
        first_s = min((timer for timer in timers if timer is not None), default=PATIENCE_S)
        if self._to_come and self._to_come[0][0] <= first_s:
            self.now_s, _, what = heapq.heappop(self._to_come)
            what()
        else:
            self.now_s = max(self.now_s, first_s) + TICK_S
            if timers[0] is not None and timers[0] <= self.now_s:
                self.client.handle_timer(self.now_s)
            if self.server is not None and timers[1] is not None and timers[1] <= self.now_s:
                self._answer(self.server.tick(self.now_s))
        while (event := self.client.next_event()) is not None:
            assert not isinstance(event, ConnectionTerminated), event
            for one in self.h3.handle_event(event):
                if isinstance(one, DataReceived):
                    self.bodies[one.stream_id] = self.bodies.get(one.stream_id, b"") + one.data
                if isinstance(one, HeadersReceived | DataReceived) and one.stream_ended:
                    self.whole.add(one.stream_id)

    def _send(self) -> None:
        for data, _ in self.client.datagrams_to_send(self.now_s):
            self._throw(True, data)
        while self.server is not None and (runs := self.server.out(self.now_s)):
            for run in runs:
                for data in run.pieces:
                    self._throw(False, data)

    def _throw(self, to_server: bool, data: bytes) -> None:
        chance = self._chance
        for _ in range(2 if chance.random() < self._lost / 2 else 1):
            if chance.random() >= self._lost:
                self._later(DELAY_S + chance.random() * JITTER_S, partial(self._arrive, to_server, data))

    def _later(self, after_s: float, what: Callable[[], None]) -> None:
        heapq.heappush(self._to_come, (self.now_s + after_s, next(self._number), what))

    def _arrive(self, to_server: bool, data: bytes) -> None:
        if not to_server:
            self.client.receive_datagram(data, SERVER, self.now_s)
            return
        if self.server is None:
            _, newcomer = self._lobby.look(data, CLIENT, self.now_s, False)
            assert isinstance(newcomer, Newcomer)
            transport = Transport(newcomer, self._choose, Tickets(), self._lobby.reset_token)
            self.server = Session(transport, Sections())
        self._answer(self.server.feed([data], CLIENT, self.now_s))

    def _answer(self, events: list[Event]) -> None:
        server = self.server
        assert server is not None
        for event in events:
            if not isinstance(event, Requested):
                continue
            stream, path = event.stream_id, dict(server.sections.headers(event.section))[b":path"]
            body = bytes(int(path.rpartition(b"/")[2]))
            if path.startswith(b"/hit"):
                server.answer(stream, server.sections.lines(OK), body)
                continue
            server.respond(stream, OK, False)
            self._go_on(stream, body, not event.end_stream)

    def _go_on(self, stream: int, body: bytes, early: bool) -> None:
        """The server's next piece of a body, and its end behind the last."""
        server = self.server
        assert server is not None
        server.send(stream, (body[:PIECE_BYTES],), not body)
        if body:
            self._later(PIECE_S, partial(self._go_on, stream, body[PIECE_BYTES:], early))
        elif early:
            server.stop(stream, NO_ERROR)


@pytest.mark.parametrize("lost", [0.05, 0.2])
@pytest.mark.parametrize("seed", range(12))
def test_every_answer_comes_whole(folder: Path, seed: int, lost: float) -> None:
    way, chance = Way(folder, seed, lost), random.Random(seed)
    for _ in range(REQUESTS):
        path = chance.choice(("/hit", "/miss", "/early"))
        way.ask(path, bytes(chance.choice((0, 80, 3000, 50_000))), end=path != "/early")
        for _ in range(chance.choice((0, 0, 3, 20))):
            if len(way.whole) < len(way.wanted):
                way.step()
    while len(way.whole) < REQUESTS:
        way.step()
        assert way.now_s < PATIENCE_S, {stream: len(body) for stream, body in way.bodies.items()}
    assert {stream: way.bodies.get(stream, b"") for stream in way.wanted} == way.wanted
