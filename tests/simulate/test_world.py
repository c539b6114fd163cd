"""Nodes: lives, disks, frozen times and clocks of their own."""

from nearmile.simulate.world import CLOCK_RATE, Node, World


class Counter(Node):
    def booted(self) -> None:
        self.count = 0
        self.disk["boots"] = self.disk.get("boots", 0) + 1
        self.tick()

    def tick(self) -> None:
        self.count += 1
        self.after(1.0, self.tick)

    def wake(self) -> None:
        self.disk["woken_s"] = self.world.clock.now_s


def test_a_crash_ends_a_life_and_leaves_the_disk() -> None:
    world = World(1)
    node = Counter(world, "n")
    node.boot()
    world.clock.run_until(10.5)
    assert node.count == 11
    node.crash()
    world.clock.run_until(20)
    assert node.count == 11
    node.boot()
    node.boot()
    world.clock.run_until(22.5)
    assert node.count == 3  # the ticks of the first life are gone
    assert node.disk["boots"] == 2


def test_a_frozen_node_does_late_what_was_due() -> None:
    world = World(1)
    node = Counter(world, "n")
    node.boot()
    world.clock.run_until(3.5)
    node.freeze(5.0)
    assert not node.working
    world.clock.run_until(8.4)
    assert node.count == 4
    world.clock.run_until(9.0)
    assert node.working
    assert node.count == 5


def test_clocks_differ_and_alarms_go_by_the_own_one() -> None:
    world = World(1)
    one, two = Counter(world, "one"), Counter(world, "two")
    one.boot()
    assert one.now_s() != two.now_s()
    deadline_s = one.now_s() + 100
    one.arm(deadline_s + 5)
    one.arm(deadline_s)
    one.arm(None)
    world.clock.run_until(101)
    assert abs(one.disk["woken_s"] - 100) <= 2 * 100 * CLOCK_RATE


def test_generators_are_of_the_seed_and_the_part() -> None:
    assert World(1).chance("a").random() == World(1).chance("a").random()
    assert World(1).chance("a").random() != World(2).chance("a").random()
    assert World(1).chance("a").random() != World(1).chance("b").random()
