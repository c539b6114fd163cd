"""What a name server says to a packet, whatever its world is: whom a cookie shows to be real, who asks too much.

Two things are limited. Responses to a client block, of one kind (a name's, refusals, referrals), since the address
of a datagram may be a victim's; whoever has our cookie or comes by TCP is real. And answers for names that do not
exist, by zone, since each of them is new and has to be made (and signed): others keep their share of time.
Every second response too many is an empty one with TC, so that a real client comes again by TCP.
"""

from collections.abc import Sequence

from nearmile.base.addresses import read_address
from nearmile.dns import wire
from nearmile.dns.answer import World, body_for
from nearmile.dns.cookies import Jar
from nearmile.dns.memo import Memo
from nearmile.dns.prepared import NUMBER_BYTES
from nearmile.dns.rates import BUCKETS, Rates
from nearmile.dns.wire import Body, Edns, Query

# By an address's bytes: IPv6 clients often have a /56 to themselves; resolvers are told apart by a /24 of IPv4.
BLOCK_BYTES = {4: 3, 16: 7}
BLOCKS_MAX = 16_384
# Signed, such an answer takes some 100 us: a zone gets a tenth of the time, and all together four tenths.
MISSING_PER_S, MISSING_ALL_PER_S = 1000, 4000
# How long a TCP connection may be silent; told in units of 100 ms (RFC 7828).
IDLE_S = 10.0
SLIP = 2
# Client blocks and kinds of responses have numbers of a bucket, as many as a power of two: so has a pair of both.
NUMBERS = BUCKETS - 1
TOO_MANY = Body(wire.SERVFAIL)


class Responder:
    """One name server's: ``name`` is its NSID, ``secret`` what its cookies are made of; times are Unix times."""

    def __init__(self, name: str, secret: bytes, rate_per_s: float) -> None:
        self._jar = Jar(secret)
        self._rates = Rates(rate_per_s)
        self._missing, self._all_missing = Rates(MISSING_PER_S), Rates(MISSING_ALL_PER_S, buckets=2)
        self._blocks: Memo[int | bytes | str, int] = Memo(BLOCKS_MAX)
        self._nsid = wire.option(wire.NSID, name.encode())
        self._keepalive = wire.option(wire.KEEPALIVE, int(IDLE_S * 10).to_bytes(2, "big"))
        self._limited = 0

    def ready(
        self, queries: Sequence[bytes], resolvers: Sequence[int | bytes | str], world: World, now_s: float
    ) -> list[bytes | None]:
        """For each datagram the response that is prepared, both without their number; None where ``answer`` has to
        say. Addresses are as ``ipaddress`` takes them.

        Nearly all answers come from here, so there is one turn of one loop for each.
        """
        out: list[bytes | None] = []
        rates, found = self._rates, world.prepared.find(queries)
        paid_until_s, paid_now_s = rates.paid_until_s, now_s + rates.pause_s
        for ready, block in zip(found, self._blocks.get_each(resolvers, self._block), strict=True):
            if ready is None:
                out.append(None)
                continue
            kind, response = ready
            if paid_until_s[index := block ^ kind] <= now_s:  # as most often in ``take``
                paid_until_s[index] = paid_now_s
                out.append(response)
            else:
                out.append(response if rates.take(index, now_s) else None)
        return out

    def answer(self, packet: bytes, resolver: str, world: World, now_s: float, over_tcp: bool) -> bytes | None:
        """The response to a packet from that address, or None where it deserves none or there are too many."""
        query = wire.parse(packet)
        if query is None:
            return None
        options, real = b"", over_tcp
        if query.edns is not None and query.edns.special:
            options, known = self._options(query.edns, resolver, now_s, over_tcp)
            real = real or known
        apex = world.missing(query) if query.name else b""
        if apex and not self._may_say_missing(apex, real, now_s):
            return wire.respond(query, TOO_MANY, 0, over_tcp, options) if real else self._slip(query, options)
        body, scope, varies = body_for(query, resolver, world, real)
        kind = hash(query.name if body.answers else body.flags.to_bytes(2, "big")) & NUMBERS
        if not real and not self._rates.take(self._block(resolver) ^ kind, now_s):
            return self._slip(query, options)
        response = wire.respond(query, body, scope, over_tcp, options)
        if body.answers and not (varies or over_tcp or options):
            world.prepared.keep(packet[NUMBER_BYTES:], response[NUMBER_BYTES:], kind)
        return response

    def _options(self, edns: Edns, resolver: str, now_s: float, over_tcp: bool) -> tuple[bytes, bool]:
        """What else to say, and whether the client has the address it claims."""
        options, known = b"", False
        if edns.cookie:
            cookie, known = self._jar.look(edns.cookie, resolver, now_s)
            options = wire.option(wire.COOKIE, cookie) if cookie else b""
        if edns.nsid:
            options += self._nsid
        if edns.keepalive and over_tcp:
            options += self._keepalive
        return options, known

    def _may_say_missing(self, apex: bytes, real: bool, now_s: float) -> bool:
        # Who is real has a budget of its own: forged addresses must not take it.
        return self._missing.take((apex, real), now_s) and self._all_missing.take(real, now_s)

    def _slip(self, query: Query, options: bytes) -> bytes | None:
        self._limited += 1
        return wire.respond(query, wire.CUT, 0, False, options) if self._limited % SLIP else None

    def _block(self, address: int | bytes | str) -> int:
        if (known := self._blocks.get(address)) is not None:
            return known
        packed = read_address(address).packed
        found = hash(packed[: BLOCK_BYTES[len(packed)]]) & NUMBERS
        self._blocks.put(address, found)
        return found
