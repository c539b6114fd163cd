"""What the store learns from a request that passes by it.

An unsafe method makes what is stored invalid (RFC 9111 section 4.4), the answer to a HEAD updates it (section
4.3.5), and the answer to a POST may be what later GETs get (RFC 9110 section 9.3.3).
"""

from math import inf

from nearmile.cache.entry import response_head
from nearmile.cache.key import object_keys, uncoded
from nearmile.cache.pages import Body
from nearmile.cache.policy import Storable, decide_store, stored_fields
from nearmile.cache.purge import tags_of
from nearmile.cache.reuse import answers_get, confirmed_by_head, invalidated
from nearmile.edge.node import Node
from nearmile.edge.race import overtake
from nearmile.edge.renewal import Confirmed, renewed
from nearmile.edge.sites import Site
from nearmile.http.fields import Pairs
from nearmile.http.head import Request, ResponseHead


class Lesson:
    """Of one exchange; made before the origin is asked, closed in the end."""

    def __init__(self, node: Node, site: Site, request: Request) -> None:
        self.node, self.site, self.request = node, site, request
        self.key = site.prefix + request.target
        self.asked_at_s = node.now_s()
        self.generation = node.store.generation
        self._kept: Storable | None = None
        self._fields: Pairs = ()
        self._pieces: list[bytes] = []
        self._body_bytes = 0

    async def answered(self, head: ResponseHead) -> None:
        """The response's head has come."""
        node, site, request, pairs = self.node, self.site, self.request, head.fields.pairs
        host = request.fields.get(b"host") or request.host
        purged = node.store.purged_since(self.key, self.generation, tags_of(pairs))
        for target in invalidated(request.method, head.status, pairs, host, request.target):
            for key in object_keys(site.serial, site.space + site.rules.target(target)):
                node.purge_key(key)
                node.outdated.add(key, node.now_s())
        if request.method == b"HEAD" and head.status == 200:
            await self._update(pairs)
        elif not purged and answers_get(request.method, head.status, pairs, host, request.target):
            self.generation = node.store.generation
            self._kept = self._decide(head.status, pairs)
            self._fields = stored_fields(pairs, node.now_s())

    def take(self, pieces: list[bytes]) -> None:
        """The next of the response's body."""
        if self._kept is None:
            return
        grown_bytes = sum(map(len, pieces))
        self._pieces += pieces
        self._body_bytes += grown_bytes
        self.node.fill_more(self.site.serial, grown_bytes)
        if not self.node.may_store(self.site.serial, self._body_bytes):
            self.close()

    def end(self) -> None:
        """The body is complete."""
        if self._kept is not None:
            self._put(self._kept, self._fields, b"".join(self._pieces))

    def close(self) -> None:
        """Nothing more is learnt."""
        self.node.fill_more(self.site.serial, -self._body_bytes)
        self._kept, self._pieces, self._body_bytes = None, [], 0

    async def _update(self, new: Pairs) -> None:
        """The answer to a HEAD: the terms of what is stored, or news that it is no longer right."""
        node, asked = self.node, self.request.fields.pairs
        entry = await node.store.find(self.key, uncoded(asked))
        if entry is None or entry.kept.part is not None or entry.kept.born_at_s > self.asked_at_s:
            return
        confirmed = confirmed_by_head(entry.kept, entry.fields(), new)
        if confirmed is False:
            node.store.delete(entry)
            overtake(node.races, self.key, asked, self.asked_at_s, entry.kept.vary)
            node.outdated.add(self.key, node.now_s())
        elif confirmed:
            said = Confirmed(asked, new, (), self.asked_at_s, inf, self.generation)
            await renewed(node, self.site, entry, said)

    def _decide(self, status: int, fields: Pairs) -> Storable | None:
        request, now_s, ttl_s = self.request, self.node.now_s(), self.site.default_ttl_s
        asked = request.fields.pairs
        kept = decide_store(request.method, asked, status, fields, ttl_s, self.asked_at_s, now_s)
        return self.site.keyed(kept, fields)

    def _put(self, kept: Storable, fields: Pairs, body: Body) -> None:
        if self.node.store.get(self.key, self.request.fields.pairs) is not None:
            return  # All that was stored went when the head came: this was asked for later.
        head = response_head(kept.status, self.site.told(kept, fields), len(body))
        self.node.store.put(self.key, self.request.fields.pairs, kept, head, body, self.generation)
