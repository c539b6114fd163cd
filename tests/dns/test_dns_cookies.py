"""Cookies, by the test vectors of the RFC and of the hash's authors."""

from ipaddress import ip_address

import pytest

from nearmile.dns import cookies
from nearmile.dns.cookies import Jar, siphash

CLIENT = bytes.fromhex("2464c4abcf10c957")
NOW_S = 1_800_000_000.0
ADDRESS = "198.51.100.100"


def test_the_hash_of_its_authors() -> None:
    assert siphash(bytes(range(16)), bytes(range(15))) == bytes.fromhex("e545be4961ca29a1")


@pytest.mark.parametrize(
    ("key", "cookie", "address"),
    [  # RFC 9018, appendix A.1 and A.2
        ("e5e973e5a6b2a43f48e7dc849e37bfcf", "2464c4abcf10c957010000005cf79f111f8130c3eee29480", ADDRESS),
        ("e5e973e5a6b2a43f48e7dc849e37bfcf", "2464c4abcf10c957010000005cf7a871d4a564a1442aca77", ADDRESS),
    ],
)
def test_the_cookies_of_the_rfc(key: str, cookie: str, address: str) -> None:
    whole = bytes.fromhex(cookie)
    assert siphash(bytes.fromhex(key), whole[:16] + ip_address(address).packed) == whole[16:]


def test_a_cookie_is_known_and_replaced_in_time() -> None:
    jar = Jar(b"secret")
    given, valid = jar.look(CLIENT, ADDRESS, NOW_S)
    assert not valid and given[:8] == CLIENT and len(given) == 24
    # Another server with the same secret knows it; one with another secret does not.
    for secret, expected in ((b"secret", (given, True)), (b"other", False)):
        found = Jar(secret).look(given, ADDRESS, NOW_S + 1000)
        assert found == expected or found[1] is expected
    renewed, valid = jar.look(given, ADDRESS, NOW_S + 2000)
    assert valid and renewed != given
    assert jar.look(given, ADDRESS, NOW_S + 4000)[1] is False
    assert jar.look(renewed, ADDRESS, NOW_S + 4000)[1] is True
    assert jar.look(given, "2001:db8::1", NOW_S)[1] is False
    assert jar.look(given[:-1] + b"\0", ADDRESS, NOW_S + 1)[1] is False
    assert len(jar._keys) <= 2


def test_a_cookie_outlives_the_day_of_its_key() -> None:
    midnight_s = NOW_S // 86_400 * 86_400 + 86_400
    given, _ = Jar(b"secret").look(CLIENT, ADDRESS, midnight_s - 10)
    assert Jar(b"secret").look(given, ADDRESS, midnight_s + 10) == (given, True)


def test_a_flood_of_cookies_gets_a_share_of_the_time() -> None:
    jar = Jar(b"secret")
    made = sum(bool(jar.look(number.to_bytes(8, "big"), ADDRESS, NOW_S)[0]) for number in range(5000))
    assert made <= cookies.FRESH_PER_S + 2
    assert jar.look((0).to_bytes(8, "big"), ADDRESS, NOW_S + 1)[0]  # what was made before costs nothing
