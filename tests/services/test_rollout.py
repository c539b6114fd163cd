"""In which order processes start, start again and end, when the configuration changes."""

import asyncio
import signal
from collections.abc import Collection

import pytest
from msgspec import structs

from edge_world import config
from nearmile.config.change import at_start
from nearmile.config.layout import Config, Process
from nearmile.services import rollout
from nearmile.services.rollout import Rollout
from waiting import until

pytestmark = pytest.mark.virtual
ALL = {"here": ("127.0.1.1", "127.0.1.2", "127.0.1.3"), "there": ("127.0.2.1",)}


class Fleet:
    """What the agent would keep running. A server that is told to leave, or has ended, leaves the map."""

    def __init__(self, now: Config) -> None:
        self.now = now
        self.runs = {process.name: at_start(now, process) for process in now.processes}
        self.did: list[str] = []
        self.mapped = {process.name for process in now.of_role("edge")}
        self.broken: set[str] = set()
        self.slow = False
        self.said: list[str] = []
        self.rollout = Rollout(self, self.named, self.said.append)

    async def named(self) -> Collection[str] | None:
        return self.mapped

    def kept(self) -> Collection[str]:
        return tuple(self.runs)

    def keep(self, name: str) -> None:
        self.did.append(f"start {name}")
        self.runs[name] = at_start(self.now, self.now.process(name))

    async def end(self, name: str) -> None:
        self.did.append(f"end {name}")
        while self.slow:
            await asyncio.sleep(0.01)
        del self.runs[name]

    async def renew(self, name: str) -> None:
        self.did.append(f"renew {name}")
        self.runs[name] = at_start(self.now, self.now.process(name))
        self.mapped.add(name)

    def tell(self, name: str, signum: int) -> None:
        assert signum == signal.SIGUSR1
        self.did.append(f"tell {name}")
        self.mapped.discard(name)

    def ready(self, name: str) -> bool:
        return name in self.mapped and name not in self.broken

    def outdated(self, process: Process) -> bool:
        return process.name in self.runs and self.runs[process.name] != at_start(self.now, process)

    async def to(self, new: Config, map_follows: bool = True) -> None:
        old, self.now = self.now, new
        self.rollout.begin(old, new)
        if map_follows:
            self.mapped &= {process.name for process in new.processes}
        await self.rollout.run(old, new)


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MAP_PATIENCE_S", "READY_PATIENCE_S"):
        monkeypatch.setattr(rollout, name, 0.2)
    monkeypatch.setattr(rollout, "LOOK_S", 0.01)
    monkeypatch.setattr(rollout, "linger_s", lambda process, dns: 0.0)


def of(low_ttl_s: int = 0, memory_mb: int = 8, **regions: tuple[str, ...]) -> Config:
    made = config(regions=regions or ALL)
    network = structs.replace(
        made.network,
        dns=structs.replace(made.network.dns, low_ttl_s=low_ttl_s),
        edge=structs.replace(made.network.edge, memory_mb=memory_mb),
    )
    return structs.replace(made, network=network)


async def test_who_goes_leaves_the_answers_first() -> None:
    fleet = Fleet(of())
    going = asyncio.create_task(fleet.to(of(here=ALL["here"]), map_follows=False))
    await until(lambda: fleet.rollout.leaving.keys() == {"there-1"})
    await asyncio.sleep(0.05)
    assert fleet.did == []
    fleet.mapped.remove("there-1")
    await going
    assert (fleet.did, fleet.rollout.leaving) == (["end there-1"], {})
    await fleet.to(of())
    assert fleet.did == ["end there-1", "start there-1"]


async def test_a_map_that_never_comes_is_not_waited_for_for_ever() -> None:
    fleet = Fleet(of())
    await fleet.to(of(here=ALL["here"]), map_follows=False)
    assert fleet.did == ["end there-1"]


async def test_an_address_is_free_before_another_has_it() -> None:
    fleet = Fleet(of())
    await fleet.to(of(here=ALL["here"], other=ALL["there"]), map_follows=False)
    assert fleet.did == ["end there-1", "start other-1"]


async def test_who_returns_at_another_address_leaves_his_own_before() -> None:
    """So that whoever has that now need not wait for it."""
    fleet = Fleet(of())
    first = asyncio.create_task(fleet.to(of(here=ALL["here"]), map_follows=False))
    await until(lambda: fleet.rollout.leaving.keys() == {"there-1"})
    first.cancel()
    await fleet.to(of(here=ALL["here"], there=("127.0.2.9",), other=ALL["there"]))
    assert fleet.did == ["end there-1", "start there-1", "start other-1"]


async def test_servers_start_again_one_after_the_other() -> None:
    fleet = Fleet(of())
    await fleet.to(of(memory_mb=9))
    names = ["here-1", "here-2", "here-3", "there-1"]
    assert fleet.did == [f"{verb} {name}" for name in names for verb in ("tell", "renew")]
    assert (fleet.rollout.pending, fleet.said) == ((), [])


async def test_the_rest_waits_for_one_that_does_not_start() -> None:
    fleet = Fleet(of())
    fleet.broken.add("here-2")
    going = asyncio.create_task(fleet.to(of(memory_mb=9)))
    await until(lambda: bool(fleet.said))
    assert fleet.did == ["tell here-1", "renew here-1", "renew here-2"], "it was not ready before"
    assert fleet.rollout.pending == ("here-2", "here-3", "there-1")
    assert fleet.said == ["here-2 is not ready again; who is yet to be started again waits for it"]
    fleet.broken.clear()
    await going
    assert fleet.did[3:] == ["tell here-3", "renew here-3", "tell there-1", "renew there-1"]
    assert not fleet.rollout.pending


async def test_another_configuration_in_the_middle_is_gone_on_with() -> None:
    """Who has been told to leave the answers starts again, even if nothing is left that it should read."""
    fleet = Fleet(of(low_ttl_s=60))
    first = asyncio.create_task(fleet.to(of(low_ttl_s=60, memory_mb=9)))
    await until(lambda: fleet.did == ["tell here-1"])
    first.cancel()
    await fleet.to(of(low_ttl_s=60))
    assert fleet.did == ["tell here-1", "renew here-1"]
    assert fleet.mapped == {"here-1", "here-2", "here-3", "there-1"}


async def test_who_is_being_ended_and_is_wanted_again_is_started_again() -> None:
    fleet = Fleet(of())
    fleet.slow = True
    first = asyncio.create_task(fleet.to(of(here=ALL["here"])))
    await until(lambda: fleet.did == ["end there-1"])
    first.cancel()
    again = asyncio.create_task(fleet.to(of()))
    await asyncio.sleep(0.05)
    assert fleet.did == ["end there-1"]
    fleet.slow = False
    await again
    assert fleet.did == ["end there-1", "start there-1"]
    assert fleet.rollout.leaving == {}
