"""The edge's side of ACME: takes up what the leader got, and answers who asks for proof."""

import logging
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import msgspec

from nearmile.config.certificate import certificate_problems
from nearmile.config.layout import Config, NamedSite
from nearmile.services import state
from nearmile.services.acme.issuer import TOKEN, Pair
from nearmile.services.bus import KV_CERTIFICATES, KV_CHALLENGES, Bus, BusDown

log = logging.getLogger("nearmile.acme")
# Questions to the bus at a time: whoever asks for tokens that nobody has made gets no more of it.
ASKING_MAX = 16


class Issued:
    """Certificates that come over the bus, kept in ``folder``, so that a start needs no bus.

    ``changed`` is told of each.
    """

    def __init__(self, bus: Bus, folder: Path, changed: Callable[[], None]) -> None:
        self._bus, self._folder, self._changed = bus, folder, changed
        self._sites: dict[str, NamedSite] = {}
        self._unclaimed: dict[str, bytes] = {}
        """What came for sites that are not known (yet); the bus bounds it."""
        self._watching = False
        self._asking = 0

    def take_config(self, config: Config) -> None:
        """The sites from now on."""
        asked = (site for site in config.sites if site.document.tls is not None and site.document.tls.acme)
        self._sites = {site.name: site for site in asked}
        if self._sites and not self._watching:
            self._watching = True
            self._bus.watch_all(KV_CERTIFICATES, self._take)
        for name in self._sites.keys() & self._unclaimed.keys():
            self._take(name, self._unclaimed.pop(name))

    async def challenge(self, token: bytes) -> bytes | None:
        """The answer to that token; None where nobody has made it, or nobody can say."""
        if TOKEN.fullmatch(token.decode("latin-1")) is None or self._asking >= ASKING_MAX:
            return None
        self._asking += 1
        try:
            found = await self._bus.get(KV_CHALLENGES, token.decode())
        except BusDown:
            return None
        finally:
            self._asking -= 1
        return None if found is None else found[1]

    def _take(self, name: str, value: bytes) -> None:
        if (site := self._sites.get(name)) is None:
            self._unclaimed[name] = value
            return
        if not value:
            return
        try:
            pair = msgspec.json.decode(value, type=Pair)
        except msgspec.MsgspecError as error:
            log.error("site %s: its certificate cannot be read: %s", name, error)
            return
        certificate, key = pair.certificate.encode(), pair.key.encode()
        files = state.issued_files(self._folder, name)
        with suppress(OSError):
            if (certificate, key) == tuple(file.read_bytes() for file in files):
                return  # as all are after each reconnection, and to check one takes a millisecond
        faults = [what for _, what in certificate_problems(certificate, key, site.document.hostnames)]
        if faults:
            log.error("site %s: its certificate stays as it was: %s", name, faults[0])
            return
        try:
            files[0].parent.mkdir(parents=True, exist_ok=True)
            state.write_atomically(files[1], key, mode=0o600)
            state.write_atomically(files[0], certificate)
        except OSError as error:
            log.error("site %s: its certificate cannot be kept: %s", name, error)
            return
        self._changed()
