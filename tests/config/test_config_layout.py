import pytest
from msgspec import DecodeError, json, structs

from nearmile.base.geography import Point
from nearmile.config.layout import Config, Decoder, at_version, decode, edge_hostname, encode, lay_out, serial_of
from nearmile.config.network import Nameserver, Network, Region, Site

PARIS = Point(48.9, 2.3)
SITES = {
    "b": Site(hostnames=("b.test",), origin="/srv/b", serial=9),
    "a": Site(hostnames=("a.test",), origin="http://a.test/"),
}


def config(loopback: str = "", nats: str | None = None) -> Config:
    network = Network(
        name="n",
        zone="n.test",
        nats=nats,
        regions={"paris": Region(city="Paris"), "far": Region(city="X", point=Point(1, 2), servers=("10.0.0.1",))},
        nameservers=(
            Nameserver(tier="top", city="Paris"),
            Nameserver(tier="low", city="Paris", address="10.0.0.2"),
        ),
    )
    return lay_out(network, SITES, {"Paris": PARIS}, 3, loopback)


def test_every_process_has_a_name_and_an_address() -> None:
    assert [(p.name, p.role, p.address, p.port) for p in config().processes] == [
        ("nats", "nats", "127.20.0.2", 4222),
        ("controller-1", "controller", "", 0),
        ("collector", "collector", "", 0),
        ("origin-b", "origin", "127.20.0.129", 8000),
        ("top-1", "nameserver", "127.20.0.53", 5300),
        ("low-1", "nameserver", "10.0.0.2", 5300),
        ("paris-1", "edge", "127.20.1.1", 8080),
        ("paris-2", "edge", "127.20.1.2", 8080),
        ("far-1", "edge", "10.0.0.1", 8080),
    ]
    assert config().process("paris-2").point == PARIS
    assert config().process("far-1").point == Point(1, 2)


def test_another_block_moves_them_all_and_a_cluster_needs_no_server() -> None:
    moved = config("127.99.0.0/16", nats="nats://bus")
    assert moved.process("paris-1").address == "127.99.1.1"
    assert moved.of_role("nats") == ()
    with pytest.raises(KeyError):
        moved.process("nats")


def test_sites_have_an_origin_and_a_serial_that_stays() -> None:
    assert [(s.name, *s.origins) for s in config().sites] == [
        ("a", "http://a.test"),
        ("b", "http://127.20.0.129:8000"),
    ]
    assert serial_of("b", SITES["b"]) == 9
    assert serial_of("a", SITES["a"]) == config().sites[0].serial > 0
    assert edge_hostname(9, "n.test") == "a9.g.n.test"
    assert at_version(config(), 8).version == 8


def test_sites_that_stay_as_they_are_stay_the_same_values() -> None:
    first, decoder = config(), Decoder()
    had = decoder.decode(encode(first))
    assert had == first == decode(json.encode(first))
    other = structs.replace(first.sites[0], files="2")
    second = structs.replace(first, version=9, sites=(other, *first.sites[1:]))
    with pytest.raises(DecodeError):
        decoder.decode(b'{"version": 8}')
    got = decoder.decode(json.encode(second))
    assert got == second
    assert got.sites[1:] and all(now is before for now, before in zip(got.sites[1:], had.sites[1:], strict=True))


def test_what_documents_do_not_say_does_not_travel() -> None:
    """A site has some fifty keys, of which most documents use three."""
    text = json.encode(config().sites[0])
    assert set(json.decode(text)) == {"name", "serial", "origins", "document"}
    assert set(json.decode(text)["document"]) == {"hostnames", "origin"}
