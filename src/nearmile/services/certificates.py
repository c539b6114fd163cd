"""Which certificate a client is shown: by the name it asks for (SNI), from files that may change at any time.

A name that no site has is refused (``unrecognized_name``, RFC 6066 section 3): any certificate shown in its place
could only make the client fail later, with less to go by. A client that names nobody (a probe by address) is shown
the first site's.
"""

import asyncio
import contextlib
import logging
import ssl
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from nearmile.config.layout import Config, NamedSite
from nearmile.http import quic
from nearmile.services import state

log = logging.getLogger("nearmile.certificates")

# How often the files are looked at.
LOOK_S = 2.0
ALPN = ("h2", "http/1.1")
# For TLS 1.2: forward secrecy and AEAD, all that HTTP/2 allows (RFC 9113 section 9.2.2). TLS 1.3 has no others.
CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
Stamp = tuple[int, ...]


class Shown(NamedTuple):
    """A site's certificate with its key, for TLS over TCP and in QUIC; None where they cannot be used."""

    stamp: Stamp
    context: ssl.SSLContext | None
    identity: quic.Identity | None


class Certificates:
    """From the state folder ``root``, and the process's own.

    ``context`` is what to listen with; it stays the same, so that sessions outlive changes of certificates.
    """

    def __init__(self, root: Path, folder: Path | None = None) -> None:
        self.root, self.folder = root, folder
        self.context = _new_context()
        self.context.sni_callback = self._choose
        self.changed = asyncio.Event()
        """To be set where files may have changed: then they are looked at soon."""
        self._sites: tuple[NamedSite, ...] = ()
        self._shown_sites: tuple[NamedSite, ...] | None = None
        self._shown: dict[str, Shown] = {}
        self._by_host: dict[str, Shown] = {}
        self._first = NOTHING

    @property
    def settled(self) -> bool:
        """Whether what is shown is for the sites that there are now."""
        return self._shown_sites is self._sites

    def take_config(self, config: Config) -> None:
        """The sites from now on, once their certificates are read; connections that are open stay."""
        self._sites = config.sites
        self.changed.set()

    def refresh(self) -> None:
        """Reads what has changed, before anybody is served. What cannot be used replaces nothing."""
        sites = self._sites
        self._show(sites, self._read(sites, self._shown))

    async def run(self) -> None:
        """Shows what is there, whatever changes, until it is cancelled.

        Reading takes a millisecond a site, looking at its files a hundredth, and to free what goes a fiftieth: so
        all that is done in a thread, which lets go of the interpreter meanwhile.
        """
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.changed.wait(), LOOK_S)
            self.changed.clear()
            sites, before = self._sites, self._shown
            self._show(sites, await asyncio.to_thread(self._read, sites, before))
            await asyncio.to_thread(_free, before, self._shown)

    def _read(self, sites: tuple[NamedSite, ...], shown: Mapping[str, Shown]) -> dict[str, Shown]:
        """In a thread: touches nothing that others do."""
        return {site.name: self._load(site, shown.get(site.name, NOTHING)) for site in sites}

    def _show(self, sites: tuple[NamedSite, ...], shown: dict[str, Shown]) -> None:
        self._shown_sites, self._shown = sites, shown
        self._by_host = {host: shown[site.name] for site in sites for host in site.document.hostnames}
        self._first = next((one for one in shown.values() if one.context is not None), NOTHING)

    def _load(self, site: NamedSite, old: Shown) -> Shown:
        files = self._files(site)
        try:
            stamp = tuple(part for file in files for part in _stamp(file))
            if stamp == old.stamp:
                return old
            context = _new_context()
            context.load_cert_chain(*files)
            return Shown(stamp, context, quic.identity(*(file.read_bytes() for file in files)))
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            if old.stamp != _BROKEN:
                log.error("site %s: %s or its key cannot be used: %s", site.name, files[0], error)
            return old._replace(stamp=_BROKEN)

    def identity(self, name: str | None) -> quic.Identity | None:
        """What to show in QUIC to a client that asks for that name, or for none."""
        return self._named(name).identity

    def _named(self, name: str | None) -> Shown:
        if name is None:
            return self._first
        host = name.lower().removesuffix(".")
        return self._by_host.get(host) or self._by_host.get(f"*.{host.partition('.')[2]}", NOTHING)

    def _files(self, site: NamedSite) -> tuple[Path, Path]:
        """The site's own, those of an authority once there are some, else those of the local authority."""
        tls = site.document.tls
        if tls is not None and tls.certificate is not None and tls.key is not None:
            return Path(tls.certificate), Path(tls.key)
        issued = state.issued_files(self.folder, site.name) if self.folder is not None else None
        if tls is not None and tls.acme and issued is not None and issued[0].exists():
            return issued
        return state.site_files(self.root, site.name)

    def _choose(self, tls: ssl.SSLObject, name: str | None, _context: ssl.SSLContext) -> int | None:
        """Of ssl: called with the name from a client's hello."""
        context = self._named(name).context
        if context is None:
            return int(ssl.AlertDescription.ALERT_DESCRIPTION_UNRECOGNIZED_NAME)
        tls.context = context
        return None


_BROKEN: Stamp = (-1,)
NOTHING = Shown((), None, None)


def _stamp(file: Path) -> Stamp:
    found = file.stat()
    return found.st_mtime_ns, found.st_size, found.st_ino


def _free(before: dict[str, Shown], now: Mapping[str, Shown]) -> None:
    """Forgets what was shown before, one after the other."""
    for name in list(before):
        if before.pop(name) is not now.get(name):
            time.sleep(0)  # lets others have the interpreter, which would be held for 5 ms at a time


def _new_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    context.set_ciphers(CIPHERS)
    context.set_alpn_protocols(list(ALPN))
    return context
