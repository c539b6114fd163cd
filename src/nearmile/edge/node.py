"""An edge server put together: everything that its requests share, and how that changes."""

import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from itertools import takewhile
from typing import Any, Protocol

from msgspec import Struct

from nearmile.cache.directives import request_directives
from nearmile.cache.entry import Entry
from nearmile.cache.key import CODING, object_key, same_variant, variant_key
from nearmile.cache.policy import Storable
from nearmile.cache.purge import EVERYTHING, Order, Position, key_mark, marks_of, may_concern
from nearmile.cache.reuse import late_for, shareable, usable_on_error
from nearmile.cache.shares import Shares
from nearmile.cache.slices import SLICE_BYTES
from nearmile.cache.store import MemoryStore
from nearmile.config.layout import Config, Process, beacon_zone
from nearmile.edge import limits
from nearmile.edge.coder import Coder
from nearmile.edge.errand import Errand
from nearmile.edge.fill import Fill
from nearmile.edge.lately import Lately
from nearmile.edge.narrow import Narrow
from nearmile.edge.origins.client import Origins
from nearmile.edge.origins.peer import Origin, Peer, UpstreamError
from nearmile.edge.quota import Quota
from nearmile.edge.race import Races
from nearmile.edge.rules.rates import Limiter
from nearmile.edge.rules.site import Allow, Asked
from nearmile.edge.samples import Samples
from nearmile.edge.sites import Compiler, Read, Site, Sites, no_files
from nearmile.edge.visitors import Hop, Visitors
from nearmile.edge.wake import Loop
from nearmile.http import hpack
from nearmile.http.fields import Fields, FieldsMemo, Pairs
from nearmile.http.streams import StreamsMemo, headers_of
from nearmile.mapping.beacons import Sightings
from nearmile.mapping.choose import owner
from nearmile.mapping.map import Map, Server

log = logging.getLogger("nearmile.edge")

MB = 1 << 20
Record = Callable[[int, int, int, int, int, int, bool], None]
"""The journal's: time in ms, site's serial, place, status, cache code, bytes sent, complete."""
Challenge = Callable[[bytes], Awaitable[bytes | None]]
"""The answer to an authority's token (RFC 8555 section 8.3); None where it is none of ours."""
FillKey = tuple[bytes, bytes]
"""An object's key, and the variant's where the object is known to have several."""


class Counter(Protocol):
    """Where answered requests are counted for the heartbeat."""

    requests: int


class FillHead(Struct, frozen=True, kw_only=True):
    """What a fill's readers are told first."""

    status: int
    start: bytes = b""
    """Status line and fields, without Age and framing."""
    own_start: bytes = b""
    """The same with the fields that are for the client alone that asked (no-cache and private with names)."""
    length: int | None = None
    kept: Storable | None = None
    asked: Pairs = ()
    """The fields of the request that was made."""
    entry: Entry | None = None
    """Of a RENEWED fill: what is served."""
    stands_in: bool = False
    """It is what another server has stored, in place of what the origin has now."""
    error: UpstreamError | None = None
    """Of a FAILED fill: what to tell the client."""

    def suits(self, pairs: Pairs, now_s: float, waited: bool) -> bool:
        """Whether it may answer another request, with those fields; ``waited``: since before it came."""
        kept = self.kept
        if kept is None or not same_variant(kept.vary, pairs, self.asked):
            return False
        if shareable(kept, now_s) or (self.stands_in and usable_on_error(kept, now_s)):
            return True
        return waited and not late_for(kept, request_directives(pairs), now_s)


ObjectFill = Fill[FillHead]


def _ended(error: Exception | None) -> None:
    if error is not None:
        log.error("what outlives its request failed unexpectedly", exc_info=error)


async def _no_challenge(_token: bytes) -> None:
    return None


class Node:
    """One edge server."""

    def __init__(
        self,
        me: Process,
        loop: Loop,
        now_s: Callable[[], float],
        store: MemoryStore,
        origins: Origins,
        visitors: Visitors,
        record: Record,
        counter: Counter,
    ) -> None:
        self.me = me
        self.name = me.name.encode()
        self.loop, self.now_s = loop, now_s
        self.store, self.origins, self.visitors = store, origins, visitors
        self.record, self.counter = record, counter
        self.memo, self.streams, self.narrow = FieldsMemo(), StreamsMemo(), Narrow()
        self._compiler, self.sites, self.secure_sites = Compiler(), Sites(), Sites()
        """By http, and by https."""
        self.shapes: dict[int, str] = {}
        """Under which rules each site's stored responses were made: by serial, see sites.shape_of."""
        self.limiter = Limiter()
        self.round_trips, self.downloads = Samples(now_s), Samples(now_s)
        """Clients' round trips, and how much longer than expected their large bodies take."""
        self.beacons, self.beacon_end = Sightings(), b""
        self.object_bytes_max = 0
        self.connections_max = 0
        self.via = b"via: 1.1 %b\r\n" % self.name
        # What ends the head of every hit: one constant.
        self.hit_end = b"%bcache-status: %b; hit\r\n\r\n" % (self.via, self.name)
        self.hit_lines = hpack.lines(headers_of(b"\r\n" + self.hit_end)[1:])
        self.alt_svc = b""
        self.secure_hit_end, self.secure_hit_lines = self.hit_end, self.hit_lines
        """Over TLS, where HTTP/3 may be spoken of."""
        self.position: Position | None = None
        """How far it has come in the log of purge orders; None where it has not seen that log yet."""
        self.fills: dict[FillKey, ObjectFill] = {}
        """Those that may be joined."""
        self.races: Races = {}
        self.fetching = Quota(limits.FILLS_PER_SITE_MAX, limits.FILLS_MAX)
        """Fills under way."""
        self.waiting = Quota(0, 0)
        """Clients' requests that wait for origins."""
        self.tunnels = Quota(limits.WEBSOCKETS_PER_SITE_MAX, 0)
        """Connections that have switched to WebSocket."""
        self.filling_bytes = 0
        self._regions: dict[str, tuple[Server, ...]] = {}
        """Their live servers."""
        self._filling = Shares(int(store.capacity_bytes * limits.FILLING_SHARE))
        self.challenge: Challenge = _no_challenge
        self.unstorable = Lately(limits.HIT_FOR_MISS_S, limits.HIT_FOR_MISS_MAX)
        """Objects whose responses nobody waits for (hit-for-miss)."""
        self.unsliceable = Lately(limits.UNSLICEABLE_S, limits.HIT_FOR_MISS_MAX)
        """Objects that are not put together of parts: their origin sends other things than it was asked for."""
        self.changed = Lately(limits.UNSLICEABLE_S, limits.HIT_FOR_MISS_MAX)
        """Objects that turned out to be of another version while their parts were fetched."""
        self.outdated = Lately(limits.OUTDATED_S, limits.HIT_FOR_MISS_MAX)
        """Objects that a request changed on its way to the origin: other servers of the network may not know."""
        self.slice_bytes = SLICE_BYTES
        self.coder = Coder(loop, store, self.spawn)

    def spawn(self, work: Coroutine[Any, Any, None]) -> Errand:
        """Runs what outlives the request that caused it."""
        return Errand(self.loop, work, _ended)

    def offer_h3(self, port: int) -> None:
        """HTTP/3 is served at that port: tells the clients of https (RFC 7838), those who speak it to renew it."""
        self.alt_svc = b'alt-svc: h3=":%d"; ma=%d\r\n' % (port, limits.ALT_SVC_S)
        self.secure_hit_end = self.alt_svc + self.hit_end
        self.secure_hit_lines = hpack.lines(headers_of(b"\r\n" + self.secure_hit_end)[1:])

    def take_config(self, config: Config, read: Read = no_files) -> None:
        """A new configuration: sites, limits and trust change at once.

        What is cached stays, but for that of sites whose rules have changed what is stored under a key.
        """
        edge = config.network.edge
        # What follows the nonce in a beacon's name.
        self.beacon_end = f".{beacon_zone(config.network.zone)}".encode()
        self.object_bytes_max = edge.max_object_mb * MB
        self.slice_bytes = min(SLICE_BYTES, self.object_bytes_max)
        self.connections_max = edge.max_connections
        # A client of HTTP/2 may have many requests: as many as other clients might have connections.
        self.waiting.site_max = int(edge.max_connections * limits.WAITING_SHARE)
        self.waiting.total_max = self.tunnels.total_max = edge.max_connections
        self.visitors.configure(config.network.trusted, (p.address for p in config.of_role("edge")))
        self.sites, self.secure_sites = self._compiler.sites(config, read)
        sites = {site.serial: site for site in self.sites.values()}
        for serial, site in sites.items():
            if self.shapes.get(serial, "") != site.shape:
                self.shapes[serial] = site.shape
                self._mark(EVERYTHING + object_key(serial, b""), None)
        weights = {named.serial: named.document.cache.share for named in config.sites}
        self.store.weigh(weights)
        self._filling.weigh(weights)
        self.origins.watch(peer for site in sites.values() for peer in site.origin.peers)
        self.limiter.keep_sites(set(sites))

    def site(self, host: bytes, secure: bool) -> Site | None:
        """The site of that name, as it is by http or by https."""
        sites = self.secure_sites if secure else self.sites
        return sites.get(host) or sites.of(host)

    def site_of_trusted(self, secure: bool, fields: Fields) -> Site | None:
        """The site that the client of a trusted peer asks for."""
        return self.site(fields.host, self.visitors.secure(True, secure, fields.pairs))

    def allows(self, site: Site, peer: str, trusted: bool, pairs: Pairs, target: bytes, now_s: float) -> bool:
        """Whether what is stored under that target may answer a client's GET: for sites that are guarded.

        Where not, the request goes the long way, which tells why. It is counted once: who is refused pays nothing.
        """
        client = self.visitors.client(trusted, peer, pairs)
        asked = Asked(b"GET", target, None, client, self.visitors.country)
        found = site.rules.check(asked, now_s, self.limiter)
        return isinstance(found, Allow) and found.target == target

    def take_map(self, map_: Map) -> None:
        """A new map: who lives where."""
        self._regions = {region.name: region.servers for region in map_.regions}

    def servers_before(self, site: Site, key: bytes, hop: Hop) -> Iterator[tuple[Origin, Hop]]:
        """Whom to ask for an object before its origin, and as what: its owner here, then the site's parent.

        The parent is the owner in the first of the site's parent regions that has live servers; a server of such a
        region asks only those before its own. ``hop`` is who asks this server.
        """
        if not self.visitors.is_server(self.me.address):
            return  # the configuration has this server no more: others would take it for a client
        near = self._owner_in(self.me.region, key)
        if hop is Hop.CLIENT and near is not None and near.name != self.me.name:
            yield self._server(site, near, limits.OWNER_CONNECT_TIMEOUT_S, 2 * limits.PATIENCE_S), Hop.NEIGHBOUR
        if hop is not Hop.CHILD:
            for region in takewhile(lambda region: region != self.me.region, site.parents):
                if (parent := self._owner_in(region, key)) is not None:
                    yield self._server(site, parent, limits.PARENT_CONNECT_TIMEOUT_S, limits.PATIENCE_S), Hop.CHILD
                    return

    def _owner_in(self, region: str, key: bytes) -> Server | None:
        servers = self._regions.get(region)
        return owner(key, servers) if servers else None

    def _server(self, site: Site, server: Server, connect_timeout_s: float, patience_s: float) -> Origin:
        peers = site.origin.peers
        silence_s = sum(peer.connect_timeout_s + peer.first_byte_timeout_s for peer in peers)
        peer = Peer(
            host=server.address,
            port=server.port,
            site=site.name,
            local=self.me.address,
            connect_timeout_s=connect_timeout_s,
            first_byte_timeout_s=silence_s + patience_s,
            between_bytes_timeout_s=max(peer.between_bytes_timeout_s for peer in peers) + patience_s,
        )
        return Origin((peer,), last_resort=False)

    def purge(self, order: Order, position: Position) -> int:
        """Carries out the order at that position; returns how many responses of single objects it concerned."""
        soft_at_s = self.now_s() if order.soft else None
        self.position = position
        purged = sum(self._mark(mark, soft_at_s) for mark in marks_of(order))
        self.store.reached(position)
        return purged

    def purge_all(self, position: Position) -> None:
        """Forgets everything: orders up to that position are not known."""
        self.position = position
        self._mark(EVERYTHING, None)
        self.store.reached(position)

    def purge_key(self, key: bytes) -> int:
        """Forgets an object, in this server alone; returns how many responses went."""
        return self._mark(key_mark(key), None)

    def _mark(self, mark: bytes, soft_at_s: float | None) -> int:
        """Marks the store, and lets nobody join a fill that has begun, and that this may concern."""
        for fill_key in [fill_key for fill_key in self.fills if may_concern(mark, fill_key[0])]:
            del self.fills[fill_key]
        return self.store.mark(mark, soft_at_s)

    def fill_key(self, key: bytes, pairs: Pairs, ranged: bool) -> FillKey:
        """Under which name others may wait for the same fill; ``ranged``: of no more than they all ask for."""
        # Whatever coding they like best: what comes of the fill serves all of them.
        names = self.store.vary(key)
        if not names and not ranged:
            return key, b""
        names = tuple(name for name in names if name != CODING)
        names = (*names, b"range", b"if-range") if ranged else names
        return key, variant_key(names, pairs) if names else b""

    def fill_more(self, site: int, body_bytes: int) -> None:
        """So much more, or less, of that site's bodies is kept on its way to the store."""
        self.filling_bytes += body_bytes
        self._filling.use(site, body_bytes)

    def may_store(self, site: int, body_bytes: int) -> bool:
        """Whether a body of that site may (still) be kept on its way: where all is in use, within its part."""
        return body_bytes <= self.object_bytes_max and (
            self.filling_bytes <= self.store.capacity_bytes * limits.FILLING_SHARE or self._filling.within(site)
        )
