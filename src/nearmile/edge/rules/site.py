"""A site's rules for its clients, compiled from its document: pure, and the same for every protocol.

    by https only? -> who may come in? -> not too often? -> by which method? -> is it elsewhere now? -> signed?
    -> not too large?

``Rules.guarded`` tells whether an answer from memory, too, depends on who asks: else the hit path does not check.
A site without rules has ``NO_RULES``.
"""

from collections.abc import Callable, Mapping

from msgspec import Struct
from msgspec.structs import replace

from nearmile.cache.key import host_space
from nearmile.cache.policy import Storable
from nearmile.cache.target import Form, ambiguous, cookie_values, form_of, normal
from nearmile.config.layout import NamedSite
from nearmile.config.network import Access, Limits, Site
from nearmile.edge.limits import REQUEST_BODY_BYTES_MAX
from nearmile.edge.rules.access import AccessRules, client_address, client_key
from nearmile.edge.rules.caching import Reading, Word, reading, words_of
from nearmile.edge.rules.fields import NO_EDIT, Edit, edit_of
from nearmile.edge.rules.rates import Limiter, Rate
from nearmile.edge.rules.redirects import Redirects, To, by_https
from nearmile.edge.rules.signatures import Keys, split
from nearmile.http.fields import Pairs
from nearmile.http.head import Request, write_fields

COOKIES = b":cookies"
"""Stands for a site's chosen cookies among a request's fields. No client can send a field of that name."""


class Page(Struct, frozen=True):
    """A page of the site's own, in place of one of ours."""

    kind: bytes
    """Its media type."""
    body: bytes


class Files(Struct, frozen=True):
    """What a site's document only names, read by who may read files."""

    secrets: Mapping[str, bytes] = {}
    """By id of the key."""
    pages: Mapping[int, Page] = {}
    """By status."""
    authorities: str = ""
    """Those that vouch for the origins' certificates, in PEM form."""
    whole: bool = True
    """Nothing is missing that could not be read."""


NO_FILES = Files()
HSTS = b"strict-transport-security"
CHALLENGES = b"/.well-known/acme-challenge/"
"""Below it an authority asks by http for proof that a name is ours (RFC 8555 section 8.3)."""


class Asked(Struct, frozen=True):
    """What of a request the rules look at; ``country`` tells an address's (empty: not known)."""

    method: bytes
    target: bytes
    body_bytes: int | None
    """As announced; None where it is not."""
    client: str
    """The client's address."""
    country: Callable[[str], str]
    host: bytes = b""


class Allow(Struct, frozen=True):
    """The request may go on, for that target."""

    target: bytes


class Refuse(Struct, frozen=True):
    """It gets a page instead; ``fields`` go with that."""

    status: int
    why: str
    fields: Pairs = ()


class Rules(Struct, frozen=True, kw_only=True):
    """One site's; made by ``rules_of``."""

    serial: int = 0
    plain: bool = True
    """There are none."""
    guarded: bool = False
    form: Form | None = None
    methods: frozenset[bytes] = frozenset()
    """Empty: all."""
    body_bytes_max: int = REQUEST_BODY_BYTES_MAX
    access: AccessRules | None = None
    client_rate: Rate | None = None
    site_rate: Rate | None = None
    redirects: Redirects | None = None
    keys: Keys | None = None
    open: tuple[bytes, ...] = ()
    https_port: int | None = None
    """Where a client by http is sent to; None where it is not."""
    words: tuple[Word, ...] = ()
    """On caching, in place of the origin's."""
    to_origin: Edit = NO_EDIT
    to_client: Edit = NO_EDIT
    page_lines: bytes = b""
    """What ``to_client`` adds to our own pages."""
    pages: Mapping[int, Page] = {}
    over_origin: frozenset[int] = frozenset()
    """Of errors with these, the origin's own page is not shown."""
    vary: tuple[bytes, ...] = ()
    cookies: tuple[bytes, ...] = ()

    def check(self, asked: Asked, now_s: float, limiter: Limiter) -> Allow | Refuse | To:
        """What becomes of a client's request."""
        target = asked.target
        if self.https_port is not None and not target.startswith(CHALLENGES):
            return by_https(asked.method, asked.host, self.https_port, target)
        if self.form is not None and self.form.normalise:
            target = normal(target)
            if ambiguous(target):
                return Refuse(400, "the path can be read in two ways")
        address = client_address(asked.client)
        if self.access is not None and not self.access.admits(address, asked.country(asked.client)):
            return Refuse(403, "this is not served to you")
        if self.client_rate is not None or self.site_rate is not None:
            wait_s = limiter.take(self.serial, client_key(address), self.client_rate, self.site_rate, now_s)
            if wait_s:
                return Refuse(
                    429, f"too many requests; come again in {wait_s} s", ((b"retry-after", b"%d" % wait_s),)
                )
        if self.methods and asked.method not in self.methods:
            return Refuse(405, "not by this method", ((b"allow", b", ".join(sorted(self.methods))),))
        if self.redirects is not None and (to := self.redirects.find(target)) is not None:
            return to
        if self.keys is not None:
            target, claims = split(target)
            target = self.target(target)
            if not (self.open and target.startswith(self.open)) and (
                why := self.keys.fault(target, claims, address, now_s)
            ):
                return Refuse(403, why)
        if asked.body_bytes is not None and asked.body_bytes > self.body_bytes_max:
            return Refuse(413, "the body is too large")
        return Allow(self.target(target))

    def target(self, target: bytes) -> bytes:
        """The form in which the site's objects are named, and asked for at the origin."""
        return target if self.form is None else self.form.of(target)

    def reading(self, target: bytes) -> Reading | None:
        """How to read the head of the origin's answer to that target; None: as it is."""
        return reading(self.words, target)

    def shaped(self, request: Request, target: bytes) -> Request:
        """The request for that target, with what tells the site's variants apart."""
        fields = request.fields
        if self.cookies:
            values = cookie_values((value for name, value in fields.pairs if name == b"cookie"), self.cookies)
            fields = replace(fields, pairs=(*fields.pairs, (COOKIES, values)))
        return replace(request, target=target, fields=fields)

    def keyed(self, kept: Storable | None) -> Storable | None:
        """The terms of a response, with what the site tells variants apart by."""
        if kept is None or not self.vary:
            return kept
        return replace(kept, vary=tuple(sorted({*kept.vary, *self.vary})))


NO_RULES = Rules()


def rules_of(named: NamedSite, files: Files, https_port: int | None = None) -> Rules:
    """The rules in a site's document: for http, if ``https_port`` says where it is by https, else for https."""
    site = named.document
    methods = frozenset(method.encode() for method in site.methods)
    methods |= {b"HEAD"} if b"GET" in methods else set()
    redirected_port = https_port if site.https == "redirect" else None
    access = AccessRules(site.access) if site.access != Access() else None
    client_rate, site_rate = _rates(site.limits)
    keys = None if site.signed is None else Keys(named.name, files.secrets)
    to_client = edit_of(site.response_headers)
    if https_port is not None and site.key.schemes == "apart":
        # RFC 6797 section 7.2: not by http.
        to_client = replace(to_client, added=tuple(pair for pair in to_client.added if pair[0] != HSTS))
    vary = tuple(name.lower().encode() for name in site.key.headers)
    made = Rules(
        serial=named.serial,
        plain=False,
        guarded=bool(access or client_rate or site_rate or keys or site.key.cookies or redirected_port)
        or (bool(methods) and b"GET" not in methods),
        form=form_of(site.key),
        methods=methods,
        body_bytes_max=REQUEST_BODY_BYTES_MAX if site.max_body_kb is None else site.max_body_kb << 10,
        access=access,
        client_rate=client_rate,
        site_rate=site_rate,
        redirects=Redirects(site.redirects) if site.redirects else None,
        keys=keys,
        open=() if site.signed is None else tuple(path.encode() for path in site.signed.open),
        https_port=redirected_port,
        words=words_of(site.cache.rules),
        to_origin=edit_of(site.request_headers),
        to_client=to_client,
        page_lines=write_fields(tuple(pair for pair in to_client.added if pair[0] != b"content-type")),
        pages=files.pages,
        over_origin=frozenset(files.pages) if site.error_pages_over_origin else frozenset(),
        vary=(*vary, COOKIES) if site.key.cookies else vary,
        cookies=tuple(name.encode() for name in site.key.cookies),
    )
    return NO_RULES if replace(made, serial=0, plain=True) == NO_RULES else made


def several(document: Site) -> bool:
    """Whether a site has more than one hostname."""
    return len(document.hostnames) > 1 or document.hostnames[0].startswith("*")


def apart(document: Site) -> bool:
    """Whether something else is stored for each."""
    return several(document) and document.key.hosts == "apart"


def space_of(document: Site, host: bytes) -> bytes:
    """What stands before the targets of that hostname."""
    return host_space(host) if apart(document) else b""


def stored_target(document: Site, target: bytes) -> bytes:
    """Under which target a site stores the answer to a request for that one, signed or not."""
    if document.signed is not None:
        target = split(target)[0]
    form = form_of(document.key)
    return target if form is None else form.of(target)


def _rates(limits: Limits) -> tuple[Rate | None, Rate | None]:
    client = None if limits.client_per_s is None else Rate(limits.client_per_s, limits.client_burst)
    return client, None if limits.site_per_s is None else Rate(limits.site_per_s, limits.site_burst)
