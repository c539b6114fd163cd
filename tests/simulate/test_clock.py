"""Virtual time: order, and a digest that tells runs apart."""

from nearmile.simulate.clock import BUNCH, Clock


def test_things_happen_in_the_order_of_time_and_then_of_making() -> None:
    clock, seen = Clock(), []

    def note(name: str) -> None:
        seen.append((clock.now_s, name))

    clock.at(2.0, lambda: note("b"))
    clock.at(1.0, lambda: clock.after(1.0, lambda: note("c")))
    clock.at(5.0, lambda: clock.at(3.0, lambda: note("late")))
    clock.run_until(4.0)
    assert seen == [(2.0, "b"), (2.0, "c")]
    assert clock.now_s == 4.0
    clock.run_until(6.0)
    assert seen[-1] == (5.0, "late")  # what lies in the past is done next


def test_the_digest_knows_times_notes_and_their_order() -> None:
    def digest(times: list[float], notes: list[str]) -> str:
        clock = Clock()
        for at_s in times:
            clock.at(at_s, lambda: None)
        clock.run_until(1e6)
        for text in notes:
            clock.note(text)
        return clock.digest()

    runs = [
        digest([1.0, 2.0], []),
        digest([1.0, 2.0000001], []),
        digest([1.0, 2.0], ["a", "b"]),
        digest([1.0, 2.0], ["b", "a"]),
        digest([float(n) for n in range(BUNCH + 1)], []),
    ]
    assert len(set(runs)) == len(runs)
    assert runs[0] == digest([2.0, 1.0], [])
