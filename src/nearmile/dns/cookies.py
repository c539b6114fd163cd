"""Cookies: a client that sends ours back has the address that it claims (RFC 7873, RFC 9018).

A server cookie is SipHash-2-4 of the client's half, the time and the client's address. The keys are made of one
secret and of the day of the cookie's own time stamp: all name servers that share the secret roll their keys
together, without a word between them.
"""

from hashlib import blake2b
from hmac import compare_digest
from ipaddress import ip_address
from struct import Struct as Format

from nearmile.dns.memo import Memo
from nearmile.dns.rates import Rates
from nearmile.dns.wire import COOKIE_CLIENT_BYTES

VERSION = b"\1\0\0\0"  # and three reserved bytes
COOKIE_BYTES, KEY_BYTES = 24, 16
# RFC 9018, section 4.3: how old a cookie may be, when it is replaced, and how far clocks of servers are apart.
AGE_MAX_S, RENEW_S, AHEAD_MAX_S = 3600, 1800, 300
KEY_LIFE_S, KEYS_MAX = 86_400, 4
# 300 bytes each; a client needs one for half an hour.
KNOWN_MAX = 16_384
# What was made for a client without a good cookie is given to it again for so long.
REPEAT_S = 60
# A SipHash takes 40 us here: cookies from everywhere at once must not take more than a tenth of the time.
FRESH_PER_S = 2000

_WORD, _TIME = Format("<Q"), Format("!I")
_MASK = 0xFFFF_FFFF_FFFF_FFFF


class Jar:
    """Makes and knows cookies; time is Unix time."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self._known: Memo[tuple[bytes, str], tuple[bytes, bool, float]] = Memo(KNOWN_MAX)
        self._keys: dict[int, bytes] = {}
        self._fresh = Rates(FRESH_PER_S, buckets=1)

    def look(self, cookie: bytes, address: str, now_s: float) -> tuple[bytes, bool]:
        """The whole cookie to send back (empty where there is no time for it), and whether this one is ours."""
        known = self._known.get((cookie, address))
        if known is not None and now_s < known[2]:
            return known[0], known[1]
        if not self._fresh.take(None, now_s):
            return b"", False
        valid, at_s = self._is_ours(cookie, address, now_s), 0
        if valid:
            (at_s,) = _TIME.unpack_from(cookie, 12)
        if valid and now_s - at_s < RENEW_S:
            given, until_s = cookie, float(at_s + RENEW_S)
        else:
            given = self._make(cookie[:COOKIE_CLIENT_BYTES], int(now_s), address)
            until_s = min(now_s + REPEAT_S, at_s + AGE_MAX_S) if valid else now_s + REPEAT_S
        self._known.put((cookie, address), (given, valid, until_s))
        return given, valid

    def _is_ours(self, cookie: bytes, address: str, now_s: float) -> bool:
        if len(cookie) != COOKIE_BYTES or cookie[8:12] != VERSION:
            return False
        (at_s,) = _TIME.unpack_from(cookie, 12)
        if not now_s - AGE_MAX_S <= at_s <= now_s + AHEAD_MAX_S:
            return False
        return compare_digest(cookie, self._make(cookie[:COOKIE_CLIENT_BYTES], at_s, address))

    def _make(self, client: bytes, at_s: int, address: str) -> bytes:
        head = client + VERSION + _TIME.pack(at_s)
        return head + siphash(self._key(at_s // KEY_LIFE_S), head + ip_address(address).packed)

    def _key(self, day: int) -> bytes:
        key = self._keys.get(day)
        if key is None:
            if len(self._keys) >= KEYS_MAX:
                self._keys.clear()
            key = blake2b(day.to_bytes(8, "big"), key=self._secret, digest_size=KEY_BYTES).digest()
            self._keys[day] = key
        return key


def siphash(key: bytes, message: bytes) -> bytes:
    """SipHash-2-4 with 64 bits of output (Aumasson and Bernstein 2012)."""
    k0, k1 = _WORD.unpack_from(key)[0], _WORD.unpack_from(key, 8)[0]
    state = (k0 ^ 0x736F6D6570736575, k1 ^ 0x646F72616E646F6D, k0 ^ 0x6C7967656E657261, k1 ^ 0x7465646279746573)
    whole = len(message) // 8 * 8
    words = [word for (word,) in _WORD.iter_unpack(message[:whole])]
    words.append(int.from_bytes(message[whole:], "little") | (len(message) & 0xFF) << 56)
    for word in words:
        v0, v1, v2, v3 = _rounds((state[0], state[1], state[2], state[3] ^ word), 2)
        state = (v0 ^ word, v1, v2, v3)
    v0, v1, v2, v3 = _rounds((state[0], state[1], state[2] ^ 0xFF, state[3]), 4)
    return _WORD.pack(v0 ^ v1 ^ v2 ^ v3)


def _rounds(state: tuple[int, int, int, int], count: int) -> tuple[int, int, int, int]:
    v0, v1, v2, v3 = state
    for _ in range(count):
        v0 = v0 + v1 & _MASK
        v1 = (v1 << 13 & _MASK | v1 >> 51) ^ v0
        v0 = v0 << 32 & _MASK | v0 >> 32
        v2 = v2 + v3 & _MASK
        v3 = (v3 << 16 & _MASK | v3 >> 48) ^ v2
        v0 = v0 + v3 & _MASK
        v3 = (v3 << 21 & _MASK | v3 >> 43) ^ v0
        v2 = v2 + v1 & _MASK
        v1 = (v1 << 17 & _MASK | v1 >> 47) ^ v2
        v2 = v2 << 32 & _MASK | v2 >> 32
    return v0, v1, v2, v3
