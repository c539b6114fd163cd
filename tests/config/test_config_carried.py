"""Documents of which the bus could not carry what follows from them."""

from random import Random

from msgspec import structs

from nearmile.base.geography import Point
from nearmile.config.carried import beyond_the_bus
from nearmile.config.layout import Config, lay_out
from nearmile.config.network import Access, Nameserver, Network, Region, Site

AT = Point(0, 0)
NETWORK = Network(
    name="n",
    zone="n.test",
    regions={f"r{number}": Region(city="A", point=AT) for number in range(20)},
    nameservers=(Nameserver(tier="top", city="A", point=AT), Nameserver(tier="low", city="A", point=AT)),
    units=200_000,
)


def of(network: Network, *sites: Site) -> Config:
    return lay_out(network, {f"s{number:03}": site for number, site in enumerate(sites)}, {}, 1)


def pinned(count: int, *regions: str) -> Site:
    return Site(hostnames=(f"{count}.test",), origin="http://o.test", regions=regions)


def test_more_sets_of_regions_than_a_map_carries_are_named() -> None:
    sets = [("r0", f"r{number}") for number in range(1, 20)] + [("r1", f"r{number}") for number in range(2, 20)]
    sites = [pinned(count, *regions) for count, regions in enumerate(sets)]
    many_alike = [pinned(1000 + count, "r1", "r0") for count in range(100)]
    assert len(sites) == 37
    assert not list(beyond_the_bus(of(NETWORK, *many_alike, *sites)))
    more = [structs.replace(pinned(2000 + count, *sets[count]), traffic="downloads") for count in range(4)]
    found = of(NETWORK, *sites, *many_alike, *more)
    [(name, key, what)] = beyond_the_bus(found)
    assert (name, key) == ("s140", "regions")
    assert "no more than 40 of the sites' different ones" in what and "`units` (200000)" in what
    assert not list(beyond_the_bus(structs.replace(found, network=structs.replace(NETWORK, units=190_000))))


def test_documents_that_are_too_long_together_are_named() -> None:
    chance = Random(1)

    def denying(number: int, count: int) -> Site:
        blocks = tuple(
            f"2001:db8:{chance.getrandbits(16):x}:{chance.getrandbits(16):x}::/64" for _ in range(count)
        )
        return structs.replace(pinned(number), access=Access(deny_addresses=blocks))

    sites = [denying(number, 10_000) for number in range(60)]
    assert not list(beyond_the_bus(of(NETWORK, *sites[:30])))
    [(name, key, what)] = beyond_the_bus(of(NETWORK, *sites, denying(60, 9_000), denying(61, 11_000)))
    assert (name, key) == ("s061", "")
    assert "more than the 3,145,728 that the bus carries" in what
