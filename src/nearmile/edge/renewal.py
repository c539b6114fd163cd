"""The origin has confirmed what is stored (RFC 9111 section 4.3.4): it is kept on new terms, in every coding."""

from operator import itemgetter

from msgspec import Struct
from msgspec.structs import replace

from nearmile.cache.accept import CODINGS
from nearmile.cache.coding import coded, plain
from nearmile.cache.entry import Damaged, Entry, response_head
from nearmile.cache.key import CODING
from nearmile.cache.policy import Storable, decide_store, stored_fields
from nearmile.cache.reuse import hinted, no_fresher, updated_by_304
from nearmile.edge.node import Node
from nearmile.edge.sites import Site
from nearmile.http.fields import Pairs


class Confirmed(Struct, frozen=True):
    """A 304 with the fields ``new``, to a request with the fields ``asked``."""

    asked: Pairs
    new: Pairs
    links: tuple[bytes, ...]
    """Hinted at before it."""
    sent_at_s: float
    fresh_until_max_s: float
    """Later than that it is not fresh where the 304 comes from."""
    generation: int
    """The store's when the origin was asked."""


async def renewed(node: Node, site: Site, stale: Entry, said: Confirmed) -> Entry | None:
    """What is now stored in place of ``stale``; None if that cannot be served, or may no longer be kept."""
    if _terms(node, site, stale, said) is None:
        return None
    family = await _family(node, stale, said.asked)
    # As the origin sent it first: that takes the place of its codings.
    ordered = sorted(family.items(), key=itemgetter(0))
    made = {coding: await _put(node, site, entry, said) for coding, entry in ordered}
    return made[stale.kept.coding]


async def _family(node: Node, stale: Entry, asked: Pairs) -> dict[bytes, Entry]:
    """The response by coding, where it is at hand: what is large is coded anew when it is asked for."""
    family = {stale.kept.coding: stale}
    if CODING in stale.kept.vary:
        for coding in {b"", *CODINGS} - {stale.kept.coding}:
            entry = await node.store.find(stale.key, (*asked, (CODING, coding)))
            if entry is not None and entry.elsewhere is None and same_version(entry.kept, stale.kept):
                family[coding] = entry
    return family


def same_version(one: Storable, other: Storable) -> bool:
    """Whether what the origin says of two responses lets them be of the same version."""
    return plain(one).etag == plain(other).etag and one.last_modified == other.last_modified


def _terms(node: Node, site: Site, entry: Entry, said: Confirmed) -> tuple[Storable, Pairs] | None:
    """The new terms and fields as the origin means them."""
    now_s = node.now_s()
    fields = updated_by_304(plain(entry.kept), entry.fields(), said.new, now_s)
    if fields is None:
        return None
    part, status = entry.kept.part, entry.kept.status
    # The confirmation is of the whole, of which a part is stored; and it was not asked for as one.
    whole_status = status if part is None else 200
    kept = decide_store(b"GET", said.asked, whole_status, fields, site.default_ttl_s, said.sent_at_s, now_s)
    kept = replace(kept, status=status, part=part) if kept is not None and part is not None else kept
    kept = site.keyed(no_fresher(kept, said.fresh_until_max_s), fields)
    if kept is None or (entry.kept.coding and CODING not in kept.vary):
        return None
    return kept, stored_fields(fields, now_s)


async def _put(node: Node, site: Site, entry: Entry, said: Confirmed) -> Entry | None:
    found = _terms(node, site, entry, said)
    if found is None:
        return None
    kept, fields, slices = found[0], site.told(*found), entry.kept.slices
    if entry.kept.coding:
        kept, fields = coded(kept, fields, entry.kept.coding)
    try:
        body = entry.body if entry.elsewhere is None else await entry.whole()
    except Damaged:
        return None
    kept = hinted(replace(kept, slices=slices), said.links or entry.kept.links)
    head = response_head(kept.status, fields, len(body) if slices is None else slices.complete)
    return node.store.put(entry.key, said.asked, kept, head, body, said.generation)
