"""When a site needs a certificate, and the leader's loop that sees to it.

A certificate is renewed after two thirds of its life, at a moment of its own; after a failure, later and later.
That is remembered with the certificates, so that neither a restart nor another leader asks an authority too often.
What is valid stays until something valid takes its place.
"""

import asyncio
import contextlib
import logging
import urllib.error
import urllib.request
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from http.client import HTTPException
from random import Random
from typing import TypeVar

import msgspec
from cryptography import x509
from msgspec import Struct

from nearmile.base.addresses import bracketed
from nearmile.config.certificate import certificate_problems, names_of
from nearmile.config.layout import NamedSite
from nearmile.edge.rules.site import CHALLENGES
from nearmile.services.acme.issuer import Issuer, NotIssued, Pair
from nearmile.services.bus import KV_CERTIFICATES, KV_CHALLENGES, BusDown, Conflict
from nearmile.services.runtime import Runtime
from nearmile.services.trouble import START_S, Trouble

log = logging.getLogger("nearmile.acme")

LOOK_S = 1.0
RENEW_AT = 2 / 3
# Of the life: so much later at most, so that sites that began together do not come together for ever.
SPREAD = 1 / 30
# 1, 4, 16 minutes and so on: four failures in the first hour, where Let's Encrypt allows five for a name.
RETRY_S, RETRY_FACTOR, RETRY_S_MAX = 60.0, 4, 6 * 3600.0
# No authority's limit is longer than a week. What is put off for longer was put off by a clock that was ahead.
LATER_S_MAX = 7 * 86_400.0
# When nothing is due it is looked again after so long by a clock that nobody sets.
AGAIN_S = 3600.0
# Until the network itself answers a challenge, the authority is not asked to look.
OFFER_TRIES, OFFER_PAUSE_S, OFFER_TIMEOUT_S = 20, 0.5, 2.0
T = TypeVar("T")


class Attempt(Struct, frozen=True):
    """What became of the last order of a site: how many have failed in a row, and when to come again."""

    failed: int = 0
    again_at_s: float = 0.0

    def failure(self, now_s: float, later_s: float, random: Random) -> "Attempt":
        """One more."""
        pause_s = min(RETRY_S * RETRY_FACTOR**self.failed, RETRY_S_MAX) * random.uniform(1.0, 1.2)
        return Attempt(min(self.failed + 1, 16), now_s + min(max(pause_s, later_s), LATER_S_MAX))


def due_at_s(pair: Pair | None, hostnames: tuple[str, ...], random: Random) -> float:
    """When a site's certificate is to be renewed; 0 where there is none that is good for these names."""
    if pair is None or list(certificate_problems(pair.certificate.encode(), pair.key.encode(), hostnames)):
        return 0.0
    leaf = x509.load_pem_x509_certificates(pair.certificate.encode())[0]
    if set(names_of(leaf)) != set(hostnames):
        return 0.0
    begin_s, end_s = leaf.not_valid_before_utc.timestamp(), leaf.not_valid_after_utc.timestamp()
    return begin_s + (end_s - begin_s) * (RENEW_AT + random.uniform(0, SPREAD))


class Renewals:
    """The sites whose documents ask for it have certificates, as long as this controller leads."""

    def __init__(self, runtime: Runtime, leading: Callable[[], bool], issuer: Callable[[], Issuer]) -> None:
        self._runtime, self._bus = runtime, runtime.bus
        self._leading, self._issuer = leading, issuer
        self._random = Random(runtime.epoch)
        self._next_s: dict[str, float] = {}
        self._hindered = Trouble(
            log, "certificates that are due wait for the bus", "certificates wait for the bus no more", START_S
        )

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(LOOK_S)
            if not self._leading():
                self._next_s.clear()
                continue
            hindered = ""
            for site in self._runtime.config.sites:
                if site.document.tls is not None and site.document.tls.acme:
                    try:
                        await self._mind(site)
                    except (BusDown, Conflict) as error:
                        hindered = str(error)
                    except Exception:  # what an authority may make us trip over; the attempt is on record
                        log.exception("site %s: no certificate", site.name)
            self._hindered.tell(hindered)

    async def _mind(self, site: NamedSite) -> None:
        """One site; asks the bus only where something may be due."""
        now_s, clock_s = datetime.now(UTC).timestamp(), asyncio.get_running_loop().time()
        key = f"{site.name} {site.document.hostnames}"
        if clock_s < self._next_s.get(key, 0.0):
            return
        revision, pair = await self._read(site.name, Pair)
        tried, attempt = await self._read(f"{site.name}.attempt", Attempt)
        attempt = attempt or Attempt()
        again_at_s = attempt.again_at_s if attempt.again_at_s <= now_s + LATER_S_MAX else 0.0
        due_s = max(due_at_s(pair, site.document.hostnames, self._random), again_at_s)
        if now_s < due_s:
            self._next_s[key] = clock_s + min(due_s - now_s, AGAIN_S)
            return
        # Should this process end in the middle, it has failed.
        failure = attempt.failure(now_s, 0.0, self._random)
        tried = await self._bus.put(KV_CERTIFICATES, f"{site.name}.attempt", msgspec.json.encode(failure), tried)
        try:
            new = await self._issue(site)
        except NotIssued as error:
            failure = attempt.failure(now_s, error.later_s, self._random)
            pause_s = failure.again_at_s - now_s
            log.error("site %s: no certificate: %s; next try in %.0f s", site.name, error, pause_s)
        else:
            await self._bus.put(KV_CERTIFICATES, site.name, msgspec.json.encode(new), revision)
            failure = Attempt()
            log.info("site %s has a new certificate", site.name)
        await self._bus.put(KV_CERTIFICATES, f"{site.name}.attempt", msgspec.json.encode(failure), tried)

    async def _issue(self, site: NamedSite) -> Pair:
        hostnames = site.document.hostnames
        pair = await self._issuer().issue(hostnames, partial(self._offer, hostnames[0]))
        certificate, private = pair.certificate.encode(), pair.key.encode()
        faults = [what for _, what in certificate_problems(certificate, private, hostnames)]
        if faults:
            raise NotIssued(f"the authority's certificate cannot be used: {faults[0]}")
        return pair

    async def _offer(self, hostname: str, token: str, answer: bytes) -> None:
        """Tells every edge, and sees for itself that one answers."""
        with contextlib.suppress(Conflict):  # the authority asks again for what it asked for before
            await self._bus.put(KV_CHALLENGES, token, answer, 0)
        for _ in range(OFFER_TRIES):
            regions = self._runtime.map.regions if self._runtime.map is not None else ()
            for server in [server for region in regions for server in region.servers][:1]:
                if await asyncio.to_thread(_fetch, server.address, server.port, hostname, token) == answer:
                    return
            await asyncio.sleep(OFFER_PAUSE_S)
        raise NotIssued("no server of the network answers challenges yet")

    async def _read(self, key: str, kind: type[T]) -> tuple[int, T | None]:
        revision, value = await self._bus.get(KV_CERTIFICATES, key) or (0, b"")
        try:
            return revision, msgspec.json.decode(value, type=kind) if value else None
        except msgspec.MsgspecError as error:
            log.error("what the bus has of %s cannot be read: %s", key, error)
            return revision, None


def _fetch(address: str, port: int, hostname: str, token: str) -> bytes:
    """What a server answers to an authority; nothing where it does not."""
    url = f"http://{bracketed(address)}:{port}{CHALLENGES.decode()}{token}"
    request = urllib.request.Request(url, headers={"host": hostname})
    straight = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with contextlib.suppress(OSError, HTTPException), straight.open(request, timeout=OFFER_TIMEOUT_S) as reply:
        return bytes(reply.read(1024))
    return b""
