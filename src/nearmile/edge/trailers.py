"""Trailer fields of responses (RFC 9110 section 6.5): from the origin to clients, behind the body.

They stay apart from the header section, whatever they are called, and are not stored (RFC 9111 section 3.1): a hit
has none. Since some recipients merge them all the same, those go no further that could say anything there about
framing, routing, who somebody is, caching, the content's form, or what a browser is to obey.
"""

from nearmile.cache.directives import list_members, values_of
from nearmile.cache.policy import connection_fields
from nearmile.http.fields import Pairs

TE = (b"te", b"trailers")
_FORBIDDEN = frozenset(
    b"age alt-svc authorization cache-control cache-status clear-site-data cookie date expect expires forwarded "
    b"host last-modified link location max-forwards nel origin-agent-cluster permissions-policy pragma range "
    b"referrer-policy refresh report-to reporting-endpoints retry-after service-worker-allowed set-cookie "
    b"set-cookie2 sourcemap status strict-transport-security surrogate-control cache-tag surrogate-key vary via "
    b"warning www-authenticate x-content-type-options x-frame-options x-sendfile xkey".split()
)
_FORBIDDEN_STARTS = (
    b"accept", b"access-control-", b"cdn-", b"content-", b"cross-origin-", b"if-", b"nearmile-", b"proxy-",
    b"sec-", b"x-accel-", b"x-forwarded-",
)  # fmt: skip
_DIGESTS = frozenset((b"content-digest", b"content-md5"))


def wants_trailers(asked: Pairs) -> bool:
    """Whether a request says that trailers are welcome (RFC 9110 section 10.1.4)."""
    return any(member.strip().lower() == TE[1] for member in list_members(values_of(asked, TE[0])))


def passed_on(head: Pairs, trailers: Pairs, gone: frozenset[bytes]) -> Pairs:
    """What goes on of the trailers behind a response with those fields; ``gone`` is what its site removes."""
    if not trailers:
        return ()
    dropped = connection_fields(head) | _FORBIDDEN | gone
    return tuple(
        pair
        for pair in trailers
        if pair[0] not in dropped and (pair[0] in _DIGESTS or not pair[0].startswith(_FORBIDDEN_STARTS))
    )
