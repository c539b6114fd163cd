"""The name server that runs on a map an hour old: what breaks others does not reach it."""

import asyncio
import os
import time
from pathlib import Path
from random import Random

import dns.asyncquery
import dns.message
import dns.rcode
import msgspec
import pytest
import uvloop
from msgspec import structs

from nearmile.base.geography import Point
from nearmile.config.layout import Config, lay_out
from nearmile.config.names import Dns
from nearmile.config.network import Nameserver, Network, Region, Site
from nearmile.mapping.controller import regions_of
from nearmile.mapping.map import Map, Units, encode
from nearmile.services import nameserver, resolver, state
from nearmile.services.nameserver import Nameserver as Role
from nearmile.services.resolver import Resolver
from nearmile.services.runtime import Runtime

HERE, PORT, DEADLINE_S, HOUR_S = Point(50, 8), 5397, 30.0, 3600


@pytest.fixture
def config(tmp_path: Path) -> Config:
    network = Network(
        name="names",
        zone="cdn.test",
        loopback="127.34.0.0/16",
        regions={
            name: Region(city="", point=Point(50, 9 * n)) for n, name in enumerate(("fra", "waw", "kbp", "vgg"))
        },
        nameservers=(
            Nameserver(tier="top", city="", point=HERE),
            Nameserver(tier="low", city="", point=HERE),
            Nameserver(tier="low", city="", point=HERE, delayed_s=HOUR_S),
        ),
        dns=Dns(port=PORT),
    )
    sites = {f"s{n}": Site(hostnames=(f"www{n}.test",), origin="http://127.34.0.9", serial=n) for n in range(1, 9)}
    config = lay_out(network, sites, {"": HERE}, version=1)
    (tmp_path / "config.json").write_bytes(msgspec.json.encode(config))
    state.make_dnssec_secret(tmp_path)
    return config


def good(config: Config, version: int = 1) -> Map:
    return Map(
        version=version,
        term=1,
        made_at_s=0,
        regions=regions_of(config),
        units=Units.of({"DE": (0, 1)}),
        fallback=(0, 1, 2, 3),
    )


def poisoned(map_: Map, chance: Random) -> bytes:
    """A later map that is ruinous in one way or another."""
    nobody = tuple(structs.replace(region, servers=()) for region in map_.regions)
    nowhere = tuple(
        structs.replace(region, servers=tuple(structs.replace(s, address="nowhere") for s in region.servers))
        for region in map_.regions
    )
    changed = chance.choice(
        (
            structs.replace(map_, regions=()),
            structs.replace(map_, regions=nobody),
            structs.replace(map_, regions=nowhere),
            structs.replace(map_, units=Units(), fallback=(99, -7)),
            structs.replace(map_, regions=nobody[1:] + map_.regions[:1], fallback=(2**40,)),
        )
    )
    return encode(structs.replace(changed, version=map_.version + 1))


def rcode(role: Role, serial: int, chance: Random) -> tuple[int, set[str]]:
    query = dns.message.make_query(f"a{serial}.g.cdn.test", "A")
    answer = role.answer(query.to_wire(), f"192.0.2.{chance.randrange(256)}")
    assert answer is not None
    message = dns.message.from_wire(answer)
    return message.rcode(), {rdata.to_text() for rrset in message.answer for rdata in rrset}


@pytest.mark.parametrize("seed", range(12))
def test_a_poisoned_map_leaves_all_answers_of_the_delayed_server(
    config: Config, tmp_path: Path, seed: int
) -> None:
    async def scenario() -> None:
        run_poisoned(config, tmp_path, Random(seed))

    uvloop.run(scenario())


def run_poisoned(config: Config, tmp_path: Path, chance: Random) -> None:
    roles = []
    for name in ("low-1", "low-2"):
        runtime = Runtime(tmp_path, name)
        role = Role(runtime)
        role.learn()
        runtime._take_map(1, encode(good(config)))
        runtime._take_map(2, poisoned(good(config), chance))
        roles.append(role)
    prompt, delayed = ([rcode(role, chance.randrange(1, 9), chance) for _ in range(200)] for role in roles)
    assert any(code == dns.rcode.SERVFAIL for code, _ in prompt)
    addresses = {process.address for process in config.of_role("edge")}
    assert all(code == dns.rcode.NOERROR and len(named) == 2 and named <= addresses for code, named in delayed)


def test_it_names_nobody_who_died_since_and_a_restart_keeps_its_age(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, chance = good(config), Random(1)
    second = structs.replace(good(config, 2), fallback=(3, 2, 1, 0))
    third = structs.replace(
        second, version=3, regions=(structs.replace(first.regions[0], servers=()), *first.regions[1:])
    )
    started_s = time.time()
    for after_s, newest, region in ((0, first, 1), (600, second, 1), (1200, third, 2), (5000, third, 4)):
        monkeypatch.setattr(time, "time", lambda after_s=after_s: started_s + after_s)
        runtime = Runtime(tmp_path, "low-2")
        role = Role(runtime)
        role.learn()
        runtime._take_map(1, encode(newest))
        role._take_map(newest)
        assert {address[:9] for address in rcode(role, 1, chance)[1]} == {f"127.34.{region}."}
    folder = tmp_path / "processes" / "low-2" / "past"
    assert len(os.listdir(folder)) == 2, "what is too old is removed"


def test_what_cannot_be_read_is_passed_over(config: Config, tmp_path: Path) -> None:
    folder = tmp_path / "processes" / "low-2" / "past"
    folder.mkdir(parents=True)
    for name, text in (("1.bin", "{"), ("x.bin", "{}"), ("2.bin", '{"version": 1}')):
        (folder / name).write_text(text)
    (folder / "3.bin").mkdir()
    runtime = Runtime(tmp_path, "low-2")
    role = Role(runtime)
    role.learn()
    assert not runtime.ready
    runtime._take_map(1, encode(good(config)))
    assert runtime.ready and rcode(role, 1, Random(1))[0] == dns.rcode.NOERROR
    assert len(list(folder.iterdir())) == 2, "the new one, and what cannot be removed"


def test_resolvers_turn_to_it_by_themselves(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resolver, "TRY_TIMEOUT_S", DEADLINE_S)

    async def scenario() -> None:
        for name in (names := ("top-1", "low-1", "low-2")):
            (state.process_folder(tmp_path, name) / "map.bin").write_bytes(encode(good(config)))
        runtimes = [Runtime(tmp_path, name) for name in names]
        tasks = [asyncio.create_task(nameserver.run(runtime)) for runtime in runtimes]
        async with asyncio.timeout(DEADLINE_S):
            while not all(runtime.ready for runtime in runtimes):
                await asyncio.sleep(0.01)
        for runtime in runtimes:
            runtime._take_map(2, poisoned(structs.replace(good(config), regions=()), Random(1)))
        for n in range(1, 9):
            found = await Resolver([(runtimes[0].me.address, PORT)], PORT, "192.0.2.1").resolve(f"www{n}.test")
            assert len(found.addresses) == 2
            assert found.steps[-1].server == f"{config.process('low-2').address}:{PORT}"
        for runtime in runtimes:
            runtime.stopping.set()
        await asyncio.gather(*tasks)

    uvloop.run(scenario())
