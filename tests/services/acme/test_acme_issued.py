"""An edge takes up certificates from the bus, and answers authorities."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

import msgspec

from edge_world import Asked, config, response, world
from nearmile.config.network import Tls
from nearmile.services import authority, state
from nearmile.services.acme.issued import ASKING_MAX, Issued
from nearmile.services.acme.issuer import Pair
from nearmile.services.bus import KV_CERTIFICATES, KV_CHALLENGES, Bus, BusDown
from nearmile.services.certificates import Certificates

ACME = {"tls": msgspec.to_builtins(Tls(acme=True)), "https": "redirect"}
TOKEN = "t" * 43
PATH = f"/.well-known/acme-challenge/{TOKEN}"


class FakeBus:
    """Of the bus what an edge needs here."""

    def __init__(self) -> None:
        self.watches: list[Callable[[str, bytes], None]] = []
        self.known: dict[str, bytes] = {}
        self.asked = 0
        self.down = False
        self.gate: asyncio.Event | None = None

    def watch_all(self, bucket: str, callback: Callable[[str, bytes], None]) -> None:
        assert bucket == KV_CERTIFICATES
        self.watches.append(callback)

    async def get(self, bucket: str, key: str) -> tuple[int, bytes] | None:
        assert bucket == KV_CHALLENGES
        self.asked += 1
        if self.gate is not None:
            await self.gate.wait()
        if self.down:
            raise BusDown("down")
        return (1, self.known[key]) if key in self.known else None


def test_what_is_good_is_taken_up_and_kept(tmp_path: Path) -> None:
    bus, changed = FakeBus(), list[int]()
    document, folder = config(rules=ACME), tmp_path / "process"
    authority.ensure(tmp_path, document, datetime.now(UTC))
    local = state.site_files(tmp_path, "www")
    certificates = Certificates(tmp_path, folder)
    issued = Issued(cast(Bus, bus), folder, lambda: changed.append(1))
    for _ in range(2):
        issued.take_config(document)
    [come] = bus.watches  # one, however many sites there are
    certificates.take_config(document)
    certificates.refresh()
    files = state.issued_files(folder, "www")
    good = Pair(*(path.read_text() for path in local))
    for value in (b"", b"{", msgspec.json.encode(Pair(good.certificate, "x")), b'{"certificate": "", "key": ""}'):
        come("www", value)
        assert not files[0].exists() and not changed
    for _ in range(2):  # as after each reconnection
        come("www", msgspec.json.encode(good))
    assert changed == [1] and files[0].read_text() == good.certificate and files[1].read_text() == good.key
    assert files[1].stat().st_mode & 0o777 == 0o600
    come("www", b"{")
    assert files[0].read_text() == good.certificate
    issued.take_config(config())
    files[0].unlink()
    come("www", msgspec.json.encode(good))
    assert changed == [1], "the site does not want it any more"
    issued.take_config(document)
    assert changed == [1, 1] and files[0].read_text() == good.certificate, "it does again"


async def test_authorities_are_answered_by_http_and_all_else_goes_to_the_origin(tmp_path: Path) -> None:
    async def origin(asked: Asked) -> bytes:
        return response(b"origin's")

    bus = FakeBus()
    bus.known[TOKEN] = b"proof"
    async with world(origin, rules=ACME) as here:
        here.node.challenge = Issued(cast(Bus, bus), tmp_path, lambda: None).challenge
        client = await here.client()
        answer = await client.get(PATH)
        assert (answer.status, answer.body) == (200, b"proof") and "hit" not in answer.cache
        assert (await client.get(PATH, method="HEAD")).status == 200
        others = ("s" * 43, "short", "%2e%2e/x", "a" * 200, "")
        assert [(await client.get(PATH.replace(TOKEN, other))).body for other in others] == [b"origin's"] * 5
        assert bus.asked == 2, "only what may be a token is looked up"
        bus.down = True
        assert (await client.get(PATH)).body == b"origin's"
        assert (await client.get("/")).status == 301
    async with world(origin) as here:
        here.node.challenge = Issued(cast(Bus, bus), tmp_path, lambda: None).challenge
        assert (await (await here.client()).get(PATH)).body == b"origin's", "the site asks for no certificate"


async def test_a_flood_of_tokens_asks_the_bus_for_few() -> None:
    bus = FakeBus()
    bus.gate = asyncio.Event()
    issued = Issued(cast(Bus, bus), Path(), lambda: None)
    asking = [asyncio.create_task(issued.challenge(b"%043d" % number)) for number in range(200)]
    await asyncio.sleep(0)
    assert bus.asked == ASKING_MAX
    bus.gate.set()
    assert await asyncio.gather(*asking) == [None] * 200
