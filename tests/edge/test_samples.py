"""Samples: few a second, the least of each client, bounded."""

from nearmile.edge.samples import CLIENTS_MAX, SAMPLES_PER_S, Samples


def test_so_many_a_second_and_the_least_of_each() -> None:
    now = [7.0]
    samples = Samples(lambda: now[0])
    assert [samples.wanted() for _ in range(SAMPLES_PER_S + 1)].count(True) == SAMPLES_PER_S
    now[0] = 8.0
    assert samples.wanted()
    for time_ms in (5.0, 3.0, 4.0):
        samples.heard("192.0.2.1", time_ms)
    assert samples.take() == {"192.0.2.1": 3.0} and samples.take() == {}


def test_memory_is_bounded() -> None:
    now = [0.0]
    samples = Samples(lambda: now[0])
    for n in range(3 * CLIENTS_MAX):
        now[0] += 1.0
        if samples.wanted():
            samples.heard(str(n), 1.0)
    assert len(samples.take()) == CLIENTS_MAX
