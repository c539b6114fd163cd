"""Who is started again at the same time."""

from nearmile.config.layout import Process, Role
from nearmile.fleet.turns import next_turn


def process(name: str, role: Role = "edge") -> Process:
    return Process(name=name, role=role, region=name.partition("-")[0])


def test_a_share_of_the_servers_at_a_time_and_none_that_share_a_region() -> None:
    todo = [process(f"{region}-{number}") for region in "abc" for number in (1, 2)]
    turns = []
    while todo:
        turn = next_turn(todo, edges=12)
        turns.append([one.name for one in turn])
        todo = [one for one in todo if one not in turn]
    assert turns == [["a-1", "b-1"], ["a-2", "b-2"], ["c-1"], ["c-2"]]


def test_a_small_network_has_one_at_a_time_and_name_servers_before() -> None:
    todo = [process("a-1"), process("low-1", "nameserver"), process("low-2", "nameserver")]
    assert [one.name for one in next_turn(todo, edges=1)] == ["low-1"]
    assert [one.name for one in next_turn(todo[:1], edges=1)] == ["a-1"]
