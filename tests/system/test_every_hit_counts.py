"""kill -9 of collector, bus and an edge, twenty times under load: every response is reported exactly once."""

import asyncio
import random
import time
from collections import Counter

from live_network import EXAMPLES, LiveNetwork
from load import Load, Tally
from origin_folder import digests_of

HOST = "www.example.test"
EDGE = "frankfurt-1"
KILLS = 20
SETTLED_LOOKS = 60


def reported(network: LiveNetwork) -> Counter[str]:
    rows = network.json("report", "--last", "all", "--by", "server", check=False).get("rows", [])
    return Counter({row["server"]: row["hits"] for row in rows})


def test_the_report_equals_what_clients_received(world: LiveNetwork) -> None:
    world.until_ready()
    before = settled(world, None)

    async def run() -> Tally:
        chance = random.Random(7)
        async with Load(world.config, HOST, digests_of(EXAMPLES / "world" / "site")) as load:
            for number in range(KILLS):
                await asyncio.sleep(chance.uniform(0.2, 1.2))
                name = ("collector", "nats", EDGE)[number % 3]
                world.kill(name)
            await asyncio.sleep(1)
        return load.tally

    tally = asyncio.run(run())
    assert tally.failures == []
    assert tally.wrong == []
    world.until_ready()
    after = settled(world, before + tally.received)
    got = after - before
    print(f"\nreceived {tally.received.total()}, reported {got.total()}, by second try {tally.second_tries}")
    difference = {name: got[name] - tally.received[name] for name in got | tally.received}
    print(f"{EDGE}, killed {KILLS // 3} times: {difference.pop(EDGE, 0):+d} hits in its last seconds")
    assert not any(difference.values()), difference
    # A response that the kernel still delivered may miss its record, or a record its response: one turn of the
    # killed server's loop, with 32 clients no more than 32 each time.
    assert abs(got[EDGE] - tally.received[EDGE]) <= 32 * KILLS


def settled(network: LiveNetwork, expected: Counter[str] | None) -> Counter[str]:
    """The report once it no longer changes, with what is expected of all but the edge that is killed."""
    last = [Counter[str](), Counter({"": -1})]
    for _ in range(SETTLED_LOOKS):
        time.sleep(1)
        last.append(reported(network))
        others = expected is None or not any((expected - last[-1] + (last[-1] - expected)).keys() - {EDGE})
        if others and last[-1] == last[-2] == last[-3]:
            break
    return last[-1]
