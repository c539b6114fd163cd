"""Storing a part of an object: joined with the one that is stored, where both are of the same bytes."""

from contextlib import suppress

from msgspec.structs import replace

from nearmile.cache.coding import told
from nearmile.cache.entry import Damaged, response_head
from nearmile.cache.pages import Body
from nearmile.cache.parts import joined, strong
from nearmile.cache.policy import Storable
from nearmile.edge.node import Node
from nearmile.edge.race import Racer
from nearmile.edge.renewal import same_version
from nearmile.edge.sites import Site
from nearmile.http.fields import Pairs

OF_PART = frozenset((b"content-length", b"content-range"))


async def put_part(node: Node, site: Site, racer: Racer, kept: Storable, fields: Pairs, body: Body) -> None:
    """Stores a part that came, with that ``body`` and those ``fields``."""
    key, asked, of_stored = racer.object_key, racer.asked, False
    stored = await node.store.find(key, asked)
    if stored is not None:
        if stored.kept.part is None and same_version(stored.kept, kept):
            return  # The whole came meanwhile.
        kept = replace(kept, links=kept.links or stored.kept.links)
        of_stored = strong(kept.etag) and stored.kept.etag == kept.etag
        with suppress(Damaged):
            kept, body = _with_part(kept, bytes(body), stored.kept, await stored.whole(), node.object_bytes_max)
    length = b"content-length", b"%d" % len(body)
    fields = (*(pair for pair in fields if pair[0] not in OF_PART), length)
    # Now that it is the whole, it may be one that is coded.
    kept = site.keyed(kept, fields) or kept
    fields = told(kept, fields)
    # Of several parts of one version it does not matter which was asked for first.
    generation = racer.begun if of_stored else racer.generation
    node.store.put(key, asked, kept, response_head(kept.status, fields, len(body)), body, generation)


def _with_part(
    kept: Storable, body: bytes, stored: Storable, stored_body: bytes, body_bytes_max: int
) -> tuple[Storable, bytes]:
    """A part that came, joined with the stored one where both are of the same bytes (RFC 9111 section 3.4).

    When that makes the whole, it is kept as such.
    """
    part, both = kept.part, None
    if part is not None and stored.part is not None and strong(kept.etag) and stored.etag == kept.etag:
        both = joined(stored.part, stored_body, part, body)
    if both is None or len(both[1]) > body_bytes_max:
        return kept, body
    part, body = both
    whole = part.first == 0 and part.reaches_end
    return replace(kept, status=200 if whole else kept.status, part=None if whole else part), body
