"""Maps that lose too much at once are held back; a late map names nobody who has left since."""

from msgspec import structs

from nearmile.base.geography import Point
from nearmile.fleet.health import HELD_BACK_S
from nearmile.mapping.map import Map, MapRegion, Server, Units
from nearmile.mapping.safety import STEP_S, Guard, late, loss, without


def map_of(*counts: int, units: dict[str, tuple[int, ...]] | None = None, version: int = 1) -> Map:
    regions = tuple(
        MapRegion(f"r{i}", Point(0, i), tuple(Server(f"r{i}-{n}", f"10.0.{i}.{n}", 80) for n in range(count)))
        for i, count in enumerate(counts)
    )
    ranked: dict[str, tuple[int, ...]] = {f"U{i}": (i, 0) for i in range(len(counts))}
    return Map(
        version=version,
        term=1,
        made_at_s=0,
        regions=regions,
        units=Units.of(ranked if units is None else units),
        fallback=(),
    )


def nobody(_name: str) -> bool:
    return False


def names(map_: Map) -> set[str]:
    return {server.name for region in map_.regions for server in region.servers}


WHOLE = map_of(4, 4, 4, 4)


def test_what_counts_as_a_loss() -> None:
    assert loss(WHOLE, WHOLE) == ""
    assert loss(WHOLE, map_of(4, 4, 0, 0)) == ""  # half is left, as when one of two regions goes
    assert loss(WHOLE, map_of(4, 0, 0, 0)) == "4 of 16 servers would be left"
    assert loss(WHOLE, map_of(1, 1, 4, 1)) == "7 of 16 servers would be left"
    assert loss(map_of(1, 1, 1, 20), map_of(0, 0, 0, 20)) == "1 of 4 regions would be left"
    everybody = structs.replace(WHOLE, units=Units.of(dict.fromkeys(WHOLE.units.names, (2, 0))))
    assert loss(WHOLE, everybody) == "1 of 4 regions in the answers would be left"
    assert loss(WHOLE, structs.replace(WHOLE, units=Units.of({"U1": (1, 0)}))) != ""
    assert loss(map_of(1), map_of(9, 9)) == ""


def test_a_loss_is_held_back_for_a_bounded_time() -> None:
    guard, poor = Guard(), map_of(4, 0, 0, 0, version=7)
    held = guard.judge(WHOLE, poor, nobody, 100.0)
    assert names(held) == names(WHOLE) and held.version == 7
    assert guard.why == "4 of 16 servers would be left"
    assert guard.next_deadline() == 100.0 + HELD_BACK_S
    assert guard.judge(held, poor, nobody, 99.9 + HELD_BACK_S).regions == held.regions
    assert guard.judge(held, poor, nobody, 100.0 + HELD_BACK_S) == poor
    assert guard.why == "" and guard.judge(poor, poor, nobody, 111.0) == poor


def test_a_loss_that_mends_itself_never_shows() -> None:
    guard = Guard()
    guard.judge(WHOLE, map_of(4, 0, 0, 0), nobody, 100.0)
    assert guard.judge(WHOLE, WHOLE, nobody, 101.0) == WHOLE
    assert guard.why == ""


def test_a_loss_in_small_steps_is_one_loss() -> None:
    guard, kept = Guard(), WHOLE
    for number, poorer in enumerate((map_of(4, 4, 4, 0), map_of(4, 4, 0, 0), map_of(3, 1, 0, 0))):
        kept = guard.judge(kept, poorer, nobody, 100.0 + number / 10)
    assert names(kept) == names(map_of(4, 4, 0, 0)) and guard.why
    slow = Guard()
    for number, poorer in enumerate((map_of(4, 4, 4, 0), map_of(4, 4, 0, 0), map_of(4, 0, 0, 0))):
        assert slow.judge(WHOLE if not number else poorer, poorer, nobody, number * (STEP_S + 1)) == poorer


def test_reported_deaths_are_believed_at_once_also_while_a_map_is_held_back() -> None:
    guard, gone = Guard(), {server.name for region in WHOLE.regions[1:] for server in region.servers}
    poor = map_of(4, 0, 0, 0)
    assert guard.judge(WHOLE, poor, gone.__contains__, 100.0) == poor
    guard = Guard()
    held = guard.judge(WHOLE, poor, {"r3-1"}.__contains__, 100.0)
    assert names(held) == names(WHOLE) - {"r3-1"} and guard.why


def test_whoever_lives_is_better_than_nobody() -> None:
    guard, kept = Guard(), map_of(2, 0)
    assert guard.judge(kept, map_of(0, 2), {"r0-0", "r0-1"}.__contains__, 0.0) == map_of(0, 2)
    assert guard.judge(None, kept, nobody, 0.0) == kept


def test_a_late_map_lacks_who_has_left_unless_most_have() -> None:
    newest = structs.replace(map_of(4, 4, 2, 0), units=Units.of({"U0": (1,)}))
    answered = late(WHOLE, newest)
    assert names(answered) == names(newest) and answered.units == WHOLE.units
    assert late(WHOLE, map_of(1, 0, 0, 0)) == WHOLE
    assert late(WHOLE, structs.replace(WHOLE, regions=())) == WHOLE
    assert names(late(map_of(4, 4, 2), WHOLE)) == names(map_of(4, 4, 2))  # who is new waits
    assert without(WHOLE, nobody) == WHOLE
