import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nearmile.config.layout import serial_of_name
from nearmile.config.problems import DocumentErrors
from nearmile.config.read import read_config, read_directory
from nearmile.config.reference import render

EXAMPLES = Path(__file__).parent.parent.parent / "examples"
NETWORK = """
name = "n"
zone = "n.test"
regions = { paris = { city = "Paris" }, tokyo = { city = "Tokyo", servers = 1 } }
nameservers = [{ tier = "top", city = "Paris" }, { tier = "low", city = "Tokyo" }]
"""
SITE = 'hostnames = ["www.a.test"]\norigin = "http://localhost:81"\n'


def write(folder: Path, network: str | bytes = NETWORK, **sites: str | bytes) -> Path:
    (folder / "sites").mkdir(exist_ok=True)
    for name, text in {"network": network, **{f"sites/{name}": text for name, text in sites.items()}}.items():
        (folder / f"{name}.toml").write_bytes(text if isinstance(text, bytes) else text.encode())
    return folder


def problems(folder: Path) -> list[str]:
    """What is wrong, each without the folder."""
    with pytest.raises(DocumentErrors) as caught:
        read_config(folder, 1)
    return [str(problem).removeprefix(f"{folder}/") for problem in caught.value.problems]


@pytest.mark.parametrize("name", ["world", "python-docs"])
def test_the_examples_are_right(name: str) -> None:
    if name == "python-docs" and not Path("/usr/share/doc/python3/html").is_dir():
        pytest.skip("needs Debian's python3-doc")
    config = read_config(EXAMPLES / name, 7)
    assert config.version == 7
    assert len(config.of_role("edge")) == 12
    assert {(p.tier, p.city) for p in config.of_role("nameserver")} == {
        ("top", "Frankfurt"), ("top", "Ashburn"), ("low", "London"), ("low", "Tokyo")
    }  # fmt: skip
    assert [Path(p.folder).is_absolute() for p in config.of_role("origin")] == [True]


def test_a_right_network_is_read(tmp_path: Path) -> None:
    (tmp_path / "pages").mkdir()
    write(tmp_path, a=SITE, b='hostnames = ["b.test"]\norigin = "pages"\n[cache]\ndefault_ttl_s = 5')
    documents = read_directory(tmp_path)
    assert set(documents.points) == {"Paris", "Tokyo"}
    assert documents.sites["a"].origin == "http://localhost:81"
    assert documents.sites["b"].origin == str(tmp_path.resolve() / "pages")
    config = read_config(tmp_path, 1, "127.36.0.0/16")
    assert [process.address for process in config.of_role("edge")] == ["127.36.1.1", "127.36.1.2", "127.36.2.1"]
    assert [process.name for process in config.of_role("origin")] == ["origin-b"]


def test_a_point_makes_any_city_good(tmp_path: Path) -> None:
    write(tmp_path, NETWORK.replace('"Tokyo", servers', '"Atlantis", point = { lat = 1, lon = -2.5 }, servers'))
    point = read_config(tmp_path, 1).of_role("edge")[-1].point
    assert point is not None and (point.lat, point.lon) == (1, -2.5)


@pytest.mark.parametrize(
    ("wrong", "found"),
    [
        ('xyz = "x"', "network.toml:6: xyz: unknown key; allowed here: name, zone, loopback"),
        ("[dns]\nlow_ttl = 5", "network.toml:7: dns.low_ttl: unknown key; did you mean low_ttl_s?"),
        ("[dns]\nlow_ttl_s = 0", "network.toml:7: dns.low_ttl_s: is 0, but must be a whole number from 1 to 3600"),
        ("[dns]\nport = 99999", "network.toml:7: dns.port: is 99999, but must be a whole number from 1 to 65535"),
        ("dns.port = true", "network.toml:6: dns.port: is true or false, but must be a whole number"),
        ("dns = 5", "network.toml:6: dns: is a whole number, but must be a table"),
        ("controllers = 1.0", "network.toml:6: controllers: is a number, but must be a whole number from 1 to 9"),
        ("controllers = 2000-01-01", "network.toml:6: controllers: is a date or time, but must be"),
        (
            'trusted = ["10.0.0.1/8"]',
            "trusted[1]: is '10.0.0.1/8', which has bits set outside its prefix; did you",
        ),
        ('trusted = ["ten"]', "trusted[1]: is 'ten', but must be an address block such as 10.20.0.0/16"),
        ('trusted = "127.0.0.0/8"', "trusted: is text, but must be a list of address blocks"),
        ('loopback = "127.999.0.0/16"', "loopback: is '127.999.0.0/16', but must be an address block"),
        ('loopback = "10.0.0.0/16"', "loopback: is '10.0.0.0/16', but must be a block `127.x.0.0/16`"),
        ('networks = "gone.mmdb"', "network.toml:6: networks: there is no "),
        ('geography = "gone.mmdb"', "gone.mmdb; leave the key out for the built-in database"),
        ('nats = "localhost"', "nats: is 'localhost', but must be nats://host[:port]"),
        (
            "[health]\nbeat_ms = 500",
            "health.beat_ms: dead_after_ms is 1250, but must be at least 3 beats of 500 ms",
        ),
        ('[[places]]\nblock = "10.0.0.0/8"', "network.toml:6: places[1]: `city` is missing; it must be a city"),
        (
            '[[places]]\nblock = "10.0.0.0/8"\ncity = "Parris"',
            "8: places[1].city: no city 'Parris' is known; did you mean Paris?",
        ),
        (
            'places = [{block="10.0.0.0/8", city="Paris"}, {block="10.0.0.0/8", city="Tokyo"}]',
            "places[2].block: 10.0.0.0/8 is the block of places[1] already",
        ),
    ],
)
def test_a_wrong_key_of_the_network_is_named(tmp_path: Path, wrong: str, found: str) -> None:
    [problem] = problems(write(tmp_path, f"{NETWORK}{wrong}\n"))
    assert found in problem


@pytest.mark.parametrize(
    ("right", "wrong", "found"),
    [
        (
            'name = "n"',
            'name = "N n"',
            "network.toml:2: name: is 'N n', but must be a name of 1 to 32 of the characters",
        ),
        ('name = "n"', "", "network.toml: `name` is missing; it must be a name of 1 to 32"),
        ('zone = "n.test"', 'zone = "n"', "zone: is 'n', but must be a host name in lower case"),
        (
            'tier = "low"',
            'tier = "lo"',
            "nameservers[2].tier: is 'lo', but must be `low` or `top`; did you mean low?",
        ),
        (
            'tier = "low"',
            'tier = "top"',
            "network.toml:5: nameservers: none is of tier `low`; at least one must be",
        ),
        (
            'tier = "low"',
            'delayed_s = 3600, tier = "low"',
            "nameservers: every `low` server has `delayed_s`; at least one must run on the current map",
        ),
        (
            'tier = "top"',
            'delayed_s = 3600, tier = "top"',
            "nameservers[1].delayed_s: is of a `top` server, which needs no map; set it for a `low` one",
        ),
        (
            '"Tokyo", servers',
            '"Tokyyo", servers',
            "regions.tokyo.city: no city 'Tokyyo' is known; did you mean Tokyo",
        ),
        (
            "servers = 1",
            "servers = 255",
            "regions.tokyo.servers: is 255, but must be a whole number from 1 to 254",
        ),
        (
            "servers = 1",
            'servers = "one"',
            "regions.tokyo.servers: is text, but must be a whole number from 1 to 254 or",
        ),
        (
            "servers = 1",
            'servers = ["::g"]',
            "regions.tokyo.servers[1]: is '::g', but must be an IPv4 or IPv6 address",
        ),
        (
            "servers = 1",
            'servers = ["::1", "0::1"]',
            "regions.tokyo.servers[2]: ::1 is the address of regions.tokyo.servers[1] already",
        ),
        (
            "servers = 1",
            "point = { lat = nan, lon = 0 }",
            "regions.tokyo.point.lat: is nan, but must be from -90 to 90 degrees",
        ),
        (
            "servers = 1",
            'contract = "uplinc"',
            "regions.tokyo.contract: there is no [contracts.uplinc]",
        ),
        ("tokyo =", "Tokyo =", "regions.Tokyo: is 'Tokyo', but must be a name of"),
    ],
)
def test_a_wrong_value_of_the_network_is_named(tmp_path: Path, right: str, wrong: str, found: str) -> None:
    assert right in NETWORK
    [problem] = problems(write(tmp_path, NETWORK.replace(right, wrong)))
    assert found in problem


@pytest.mark.parametrize(
    ("origin", "found"),
    [
        (
            "ftp://a.test",
            "sites/a.toml:2: origin: ftp:// is not supported; use http://host[:port] or https://host[:port], or a",
        ),
        ("https://a.test/path", "origin: is 'https://a.test/path', but must be"),
        ("http://", "origin: is 'http://', but must be http://host[:port] or https://host[:port], or a folder"),
        ("http://a.test/path", "origin: is 'http://a.test/path', but must be"),
        ("http://a.test?", "but must be http://host[:port] or https://host[:port], or a folder"),
        ("http://u@a.test", "but must be http://host[:port] or https://host[:port], or a folder"),
        ("http://a.test:0", "but must be http://host[:port] or https://host[:port], or a folder"),
        ("http://a.test:99999", "but must be http://host[:port] or https://host[:port], or a folder"),
        ("http://a b", "but must be http://host[:port] or https://host[:port], or a folder"),
        ("http://a\\r\\nb.test", "but must be http://host[:port] or https://host[:port], or a folder"),
        ("http://[::1", "but must be http://host[:port] or https://host[:port], or a folder"),
        ("localhost:80", "localhost:80; did you mean http://localhost:80?"),
        ("gone", "gone; a server is written http://host[:port]"),
        ("", "origin: is empty"),
    ],
)
def test_a_wrong_origin_is_named(tmp_path: Path, origin: str, found: str) -> None:
    [problem] = problems(write(tmp_path, a=f'hostnames = ["a.test"]\norigin = "{origin}"'))
    assert found in problem


@pytest.mark.parametrize(
    "origin", ["http://a.test", "http://a.test/", "http://10.0.0.1:80", "http://[::1]:8080", "https://a.test:8443"]
)
def test_a_right_origin_is_taken(tmp_path: Path, origin: str) -> None:
    write(tmp_path, a=f'hostnames = ["a.test"]\norigin = "{origin}"')
    assert read_config(tmp_path, 1).sites[0].origins == (origin.rstrip("/"),)


def test_sites_must_not_share_a_hostname_or_a_serial(tmp_path: Path) -> None:
    other = f'hostnames = ["x.test", "www.a.test"]\norigin = "http://b"\nserial = {serial_of_name("a")}'
    assert problems(write(tmp_path, a=SITE, b=other, c=SITE.replace("www.a", "x.test', 'x"))) == [
        "sites/b.toml:1: hostnames[2]: www.a.test is a hostname of site a already",
        f"sites/b.toml:3: serial: serial {serial_of_name('a')} is site a's; choose another",
        "sites/c.toml:1: hostnames[1]: is \"x.test', 'x.test\", but must be a host name in lower case, such as "
        "`www.example.com` or `*.example.com`",
    ]
    twice = 'hostnames = ["a.test", "a.test"]\norigin = "http://b"'
    for name in ("b", "c"):
        (tmp_path / f"sites/{name}.toml").unlink()
    assert problems(write(tmp_path, a=twice)) == [
        "sites/a.toml:1: hostnames[2]: a.test is a hostname of site a already"
    ]


def test_processes_must_not_share_an_address_and_port(tmp_path: Path) -> None:
    taken = NETWORK.replace("servers = 1", 'servers = ["127.20.1.1"]')
    assert problems(write(tmp_path, taken)) == [
        "network.toml: paris-1 and tokyo-1 would both listen on 127.20.1.1 port 8080"
    ]


@pytest.mark.parametrize(
    "address",
    ["0.0.0.0", "255.255.255.255", "224.0.0.1", "169.254.1.1", "::", "ff02::1", "fe80::1", "::ffff:192.0.2.1"],
)
def test_what_no_client_can_reach_is_no_servers_address(tmp_path: Path, address: str) -> None:
    [problem] = problems(write(tmp_path, NETWORK.replace("servers = 1", f'servers = ["{address}"]')))
    assert problem.endswith(f"is '{address}', but must be the address of one host, as clients elsewhere know it")


@pytest.mark.parametrize(
    ("region", "server"),
    [("low", "low-1"), ("top", "top-1"), ("controller", "controller-1"), ("tokyo-1", "tokyo-1")],
)
def test_a_region_must_not_give_its_servers_names_that_are_taken(tmp_path: Path, region: str, server: str) -> None:
    other = NETWORK.replace("regions = {", f'regions = {{ {region} = {{ city = "London", servers = 1 }},')
    [problem] = problems(write(tmp_path, other))
    assert problem.startswith(f"network.toml: {server} would be the name of two; give region ")


def test_everything_wrong_is_told_at_once(tmp_path: Path) -> None:
    folder = write(
        tmp_path,
        'name = 5\nzone = "n.test"\n[dns]\nanswers = 0\n[regions]\na = {}\n',
        a="hostnames = []",
        b="=",
        C=SITE,
    )
    found = problems(folder)
    assert [problem.partition(" is ")[0].rpartition(":")[0] or problem for problem in found if problem] == [
        "network.toml", "network.toml:1: name", "network.toml:4: dns.answers", "network.toml:6: regions.a",
        "sites/C.toml", "sites/a.toml", "sites/a.toml:1: hostnames", "sites/b.toml",
    ]  # fmt: skip
    with pytest.raises(DocumentErrors, match=r"^8 problems in the documents:"):
        read_directory(folder)


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (b"\xff", "is not UTF-8 text (byte 0)"),
        (b"a = [", "is not valid TOML: "),
        (b"a = 1\na = 2\n", "is not valid TOML: "),
        (b"a = " + b"[" * 100_000, "is nested too deeply"),
        (b"#" * (9 << 20), "cannot be read: longer than 8388608 bytes"),
    ],
)
def test_what_is_no_document_is_named(tmp_path: Path, data: bytes, found: str) -> None:
    [problem] = problems(write(tmp_path, data))
    assert problem.startswith(f"network.toml: {found}")


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    assert problems(tmp_path / "gone") == ["network.toml: there is no such file; a network's folder has one"]
    (tmp_path / "network.toml").mkdir()
    assert problems(tmp_path) == ["network.toml: cannot be read: Is a directory"]


def test_a_link_that_leads_nowhere_is_named(tmp_path: Path) -> None:
    folder = write(tmp_path, a=SITE)
    (folder / "sites" / "b.toml").symlink_to("gone")
    assert problems(folder) == ["sites/b.toml: is a link that leads nowhere"]


def test_documents_of_other_systems_are_read(tmp_path: Path) -> None:
    marked = b"\xef\xbb\xbf" + NETWORK.replace("\n", "\r\n").encode()
    assert read_config(write(tmp_path, marked, a=SITE), 1).network.name == "n"


def test_databases_lie_beside_the_document(tmp_path: Path) -> None:
    (tmp_path / "a.mmdb").touch()
    network = read_directory(write(tmp_path, NETWORK + 'networks = "a.mmdb"\ngeography = "a.mmdb"')).network
    assert network.networks == network.geography == str(tmp_path / "a.mmdb")


# Any TOML value, written by a small writer of our own.
scalars = st.one_of(
    st.booleans(), st.integers(), st.floats(), st.dates(), st.text(max_size=8),
    st.sampled_from(["Paris", "top", "127.0.0.1", "::/0", "http://x", "a.test", ".", "nats://x"]),
)  # fmt: skip
KEYS = re.findall(r"^\| `(\w+)`", render(), re.MULTILINE)
KEY = st.sampled_from(KEYS) | st.text(max_size=3)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEY, inner, max_size=5),
    max_leaves=12,
)
documents = st.dictionaries(st.sampled_from(KEYS), values, max_size=8)


def toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return '"' + "".join(f"\\U{ord(c):08x}" for c in value if not 0xD800 <= ord(c) < 0xE000) + '"'
    if isinstance(value, list):
        return f"[{', '.join(map(toml, value))}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{toml(key)} = {toml(item)}" for key, item in value.items()) + "}"
    return str(value)


@given(network=documents, site=documents)
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_value_breaks_the_reader(tmp_path: Path, network: dict[str, Any], site: dict[str, Any]) -> None:
    texts = ["".join(f"{key} = {toml(item)}\n" for key, item in d.items()) for d in (network, site)]
    write(tmp_path, f"{NETWORK if not network else ''}{texts[0]}", site=f"{SITE if not site else ''}{texts[1]}")
    try:
        read_config(tmp_path, 1)
    except DocumentErrors as error:
        assert error.problems


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        ('origin = ["http://a", "gone"]', "origin[2]: there is no folder"),
        ('origin = ["http://a", "http://a"]', "origin[2]: http://a is listed already"),
        ('origin = ["pages", "more"]', "origin[2]: only one of the origins can be a folder"),
        ("origin = []", "origin: has 0, but must be"),
        ("origin = 1", "origin: is a whole number, but must be text or a list"),
        ('origin = "http://a"\n[upstream]\nserver_name = "b.test"', "upstream.server_name: has no effect"),
        ('origin = "https://a"\n[upstream]\nauthority = "gone.pem"', "gone.pem cannot be read: No such file"),
        ('origin = "https://a"\n[upstream]\nauthority = "a.txt"', "a.txt holds no certificate in PEM form"),
        ('origin = "https://a"\n[upstream]\nhost = "a b"', "upstream.host: is 'a b', but must be a host name"),
        (
            'origin = "http://a"\nregions = ["tokio"]',
            "regions[1]: the network has no region 'tokio'; did you mean tokyo?",
        ),
        (
            'origin = "http://a"\nparents = ["tokio"]',
            "parents[1]: the network has no region 'tokio'; did you mean tokyo?",
        ),
        ('origin = "http://a"\nparents = ["tokyo", "tokyo"]', "parents[2]: tokyo is listed already"),
        ('origin = "https://a"\n[upstream.probe]\npath = "x"', "upstream.probe.path: is 'x', but must be a path"),
        ('origin = "https://a"\n[upstream]\nconnect_timeout_s = 0', "is 0, but must be a number from 0.05 to 600"),
    ],
)
def test_what_is_wrong_about_origins_is_named(tmp_path: Path, lines: str, found: str) -> None:
    folder = write(tmp_path, a=f'hostnames = ["a.test"]\n{lines}')
    for name in ("pages", "more"):
        (tmp_path / name).mkdir(exist_ok=True)
    (tmp_path / "a.txt").write_text("hello")
    [problem] = problems(folder)
    assert found in problem


def test_several_origins_one_of_them_a_folder(tmp_path: Path) -> None:
    (tmp_path / "sorry").mkdir()
    folder = write(tmp_path, a='hostnames = ["a.test"]\norigin = ["https://a.test/", "sorry"]')
    config = read_config(folder, 1)
    [process] = config.of_role("origin")
    assert config.sites[0].origins == ("https://a.test", f"http://{process.address}:{process.port}")
    assert process.folder == str(tmp_path.resolve() / "sorry")


@pytest.mark.parametrize(
    ("network", "site", "found"),
    [
        (
            "",
            "[tls]\nacme = true",
            "tls.acme: the network document names no authority; add a table `[acme]` to it",
        ),
        ("", "[tls]", "tls: names no certificate; give `certificate` and `key`, or `acme = true`"),
        ("", '[tls]\nkey = "network.toml"', "tls: has one of `certificate` and `key`; both are needed"),
        (
            '[acme]\ndirectory = "https://a.test/d"',
            '[tls]\nacme = true\nkey = "k"',
            "tls.key: there is none beside `acme = true`; leave one of them out",
        ),
        ('[acme]\ndirectory = "http://a.test/d"', "", "acme.directory: is 'http://a.test/d', but must be a URL"),
        ('[acme]\ndirectory = "https://a.test/d"\nroot = "none.pem"', "", "acme.root: there is no "),
        ("", 'https = "always"', "https: is 'always', but must be `offered` or `redirect`"),
        ("", "[cache]\nshare = 0", "cache.share: is 0, but must be a whole number from 1 to 1000"),
    ],
)
def test_what_is_wrong_about_https_and_shares_is_named(
    tmp_path: Path, network: str, site: str, found: str
) -> None:
    write(tmp_path, f"{NETWORK}{network}\n", a=f"{SITE}{site}\n")
    assert any(found in problem for problem in problems(tmp_path))


def test_a_file_that_a_site_names_is_part_of_its_configuration(tmp_path: Path) -> None:
    """So that a network that runs reads it again; nothing of what it holds is."""
    page = tmp_path / "page.html"
    site = SITE + '[error_pages]\n503 = "page.html"\n'
    seen = []
    for text in ("a", "a", "longer"):
        if not page.exists() or page.read_text() != text:
            page.write_text(text)
        seen.append(read_config(write(tmp_path, a=site, b=SITE.replace("a.test", "b.test")), 1).sites)
    first, same, other = seen
    assert first == same
    assert (first[0] == other[0], first[1] == other[1]) == (False, True)
