"""When a certificate is due, and how long to wait after a failure."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import cast

import msgspec
import pytest

from edge_world import HOST, config
from nearmile.services import authority, state
from nearmile.services.acme import renewals
from nearmile.services.acme.issuer import NotIssued, Offer, Pair
from nearmile.services.acme.renewals import LATER_S_MAX, RETRY_S_MAX, Attempt, Renewals, due_at_s
from nearmile.services.bus import BusDown, Conflict
from nearmile.services.runtime import Runtime
from waiting import PATIENCE_S

NOW = datetime.now(UTC)


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    authority.ensure(tmp_path, config(), NOW)
    certificate, key = (path.read_text() for path in state.site_files(tmp_path, "www"))
    return Pair(certificate, key)


def test_after_two_thirds_of_its_life_and_not_all_at_once(pair: Pair) -> None:
    days = {round((due_at_s(pair, (HOST,), Random(seed)) - NOW.timestamp()) / 86_400) for seed in range(100)}
    assert min(days) >= 397 * 2 / 3 - 1 and max(days) < 397 * 0.71 and len(days) > 8


def test_at_once_where_there_is_none_for_these_names(pair: Pair) -> None:
    for held, names in ((None, (HOST,)), (pair, (HOST, "b.test")), (Pair("x", "y"), (HOST,))):
        assert due_at_s(held, names, Random(1)) == 0
    assert due_at_s(Pair(pair.certificate, Pair("x", "y").key), (HOST,), Random(1)) == 0


def test_later_and_later_after_failures() -> None:
    attempt, now_s, pauses = Attempt(), 1_000.0, []
    for _ in range(8):
        attempt = attempt.failure(now_s, 0, Random(1))
        pauses.append(attempt.again_at_s - now_s)
    assert [round(pause) // 60 for pause in pauses[:3]] == [1, 4, 16]
    assert sum(pauses[:4]) > 3600 and RETRY_S_MAX <= pauses[-1] <= 1.2 * RETRY_S_MAX
    assert Attempt().failure(now_s, 9_000, Random(1)).again_at_s == now_s + 9_000
    assert Attempt().failure(now_s, 1e9, Random(1)).again_at_s == now_s + LATER_S_MAX


class FakeBus:
    """Keys with revisions."""

    def __init__(self) -> None:
        self.known: dict[str, tuple[int, bytes]] = {}

    async def get(self, _bucket: str, key: str) -> tuple[int, bytes] | None:
        return self.known.get(key)

    async def put(self, _bucket: str, key: str, value: bytes, expected: int) -> int:
        revision = self.known.get(key, (0, b""))[0]
        if revision != expected:
            raise Conflict(key)
        self.known[key] = (revision + 1, value)
        return revision + 1


class FakeIssuer:
    """Gives what it is told to give."""

    def __init__(self, outcome: Pair | Exception) -> None:
        self.outcome, self.asked = outcome, 0

    async def issue(self, hostnames: tuple[str, ...], offer: Offer) -> Pair:
        self.asked += 1
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome


def lead(bus: FakeBus, issuer: FakeIssuer, until: Callable[[], bool]) -> None:
    """A controller leads until then."""
    runtime = cast(Runtime, SimpleNamespace(bus=bus, epoch=1, config=config(rules={"tls": {"acme": True}})))

    async def scene() -> None:
        task = asyncio.create_task(Renewals(runtime, lambda: True, lambda: issuer).run())
        async with asyncio.timeout(PATIENCE_S):
            while not until():
                await asyncio.sleep(0.005)
        task.cancel()

    asyncio.run(scene())


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(renewals, "LOOK_S", 0.001)


def test_a_failure_is_remembered_for_the_next_leader_and_loses_nothing(pair: Pair) -> None:
    bus, old = FakeBus(), msgspec.json.encode(Pair(pair.certificate, "of another time"))
    bus.known["www"] = (7, old)
    outcomes: list[tuple[Pair | Exception, int]] = [
        (NotIssued("no", 90_000), 2), (Pair("x", "y"), 2), (RuntimeError("?"), 1)
    ]  # fmt: skip
    for outcome, writes in outcomes:
        bus.known.pop("www.attempt", None)
        issuer = FakeIssuer(outcome)
        lead(bus, issuer, partial(written, bus, writes))
        again = FakeIssuer(pair)
        with pytest.raises(TimeoutError):
            lead_briefly(bus, again)
        assert (issuer.asked, again.asked, bus.known["www"]) == (1, 0, (7, old))


@pytest.mark.parametrize(("ahead_s", "asked"), [(LATER_S_MAX - 60, False), (LATER_S_MAX + 60, True)])
def test_a_failure_by_a_clock_that_was_ahead_puts_nothing_off(pair: Pair, ahead_s: float, asked: bool) -> None:
    bus, issuer = FakeBus(), FakeIssuer(pair)
    failure = Attempt(3, datetime.now(UTC).timestamp() + ahead_s)
    bus.known["www.attempt"] = (1, msgspec.json.encode(failure))
    with pytest.raises(TimeoutError):
        lead_briefly(bus, issuer)
    assert issuer.asked == asked


def written(bus: FakeBus, count: int) -> bool:
    """Whether so many attempts have been written."""
    return bus.known.get("www.attempt", (0, b""))[0] == count


def lead_briefly(bus: FakeBus, issuer: FakeIssuer) -> None:
    """Long enough for a hundred looks."""
    looks = iter(range(30))

    def over() -> bool:
        if next(looks, None) is None:
            raise TimeoutError
        return False

    lead(bus, issuer, over)


def test_a_bus_that_takes_no_certificate_is_told_of_once(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It may have no room for more: then all would end one day, without a word."""
    monkeypatch.setattr(renewals, "START_S", 0.0)
    bus, issuer = FakeBus(), FakeIssuer(pair)

    async def refuse(bucket: str, key: str, _value: bytes, _expected: int) -> int:
        raise BusDown(f"cannot write {bucket}/{key}: maximum bytes exceeded")

    monkeypatch.setattr(bus, "put", refuse)
    with pytest.raises(TimeoutError):
        lead_briefly(bus, issuer)
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == [
        "certificates that are due wait for the bus: cannot write certificates/www.attempt: maximum bytes exceeded"
    ]
    assert not issuer.asked, "whose limits such orders would use up"


def test_what_is_issued_is_published_once(pair: Pair) -> None:
    bus, issuer = FakeBus(), FakeIssuer(pair)
    lead(bus, issuer, partial(written, bus, 2))
    with pytest.raises(TimeoutError):
        lead_briefly(bus, issuer)
    assert issuer.asked == 1 and msgspec.json.decode(bus.known["www"][1], type=Pair) == pair
