"""The virtual network: bounds of the delay, loss, and cuts that overlap."""

from random import Random

from nearmile.simulate.clock import Clock
from nearmile.simulate.network import HOP_MAX_S, Network


def arrivals(
    network: Network, clock: Clock, source: str, target: str, reliable: bool, count: int = 1000
) -> list[float]:
    seen: list[float] = []
    start_s = clock.now_s
    for _ in range(count):
        network.send(source, target, lambda: seen.append(clock.now_s - start_s), reliable)
    clock.run_until(start_s + 10)
    return seen


def test_delay_is_bounded_and_only_the_unreliable_is_lost() -> None:
    clock = Clock()
    network = Network(clock, Random(1), 0.1)
    for name in "ab":
        network.join(name)
    sure = arrivals(network, clock, "a", "b", True)
    assert len(sure) == 1000
    assert 0 < min(sure) < max(sure) <= HOP_MAX_S
    assert 850 < len(arrivals(network, clock, "a", "b", False)) < 950


def test_cuts_overlap_and_have_a_direction() -> None:
    clock = Clock()
    network = Network(clock, Random(1), 0.0)
    for name in "abc":
        network.join(name)
    heal_one = network.cut("a", "bc")
    heal_two = network.cut("ac", "b")
    assert arrivals(network, clock, "a", "b", True, 1) == []
    assert len(arrivals(network, clock, "b", "a", True, 1)) == 1
    heal_one()
    assert network.open("a", "c")
    assert not network.open("a", "b")
    heal_two()
    assert network.open("a", "b")
    assert network.open("c", "b")
