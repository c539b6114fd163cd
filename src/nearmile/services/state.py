"""The state folder: what a network keeps on a machine's disk, and where.

``config.json`` the configuration as checked at `up` (0600, since documents may name passwords); ``token`` the
bus's credential (0600); ``cookies`` what cookies of DNS are made of (0600); ``dnssec`` what the keys of zones are
made of (0600), ``dnssec-zones/ZONE`` where one has others; ``status.json`` what the agent sees; ``authority/``
certificates for development and their keys (0600); ``acme/`` the key of the account at an authority (0600);
``nats/`` the bus's own data; ``processes/NAME/`` each process's; ``log/NAME.log`` its words.
"""

import contextlib
import logging
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import msgspec

from nearmile.base import packing
from nearmile.base.errors import NearmileError, naming
from nearmile.config import layout
from nearmile.config.layout import Config

log = logging.getLogger("nearmile")

SECRET_BYTES = 32
DNSSEC_ZONES = "dnssec-zones"
# How often name servers look whether there are other keys.
KEYS_LOOK_S = 10.0
# In the folder of each process.
MAP_FILE, ATLAS_FILE = "map.bin", "atlas.bin"


def process_folder(root: Path, name: str) -> Path:
    """A process's own folder, made if need be."""
    folder = root / "processes" / name
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def write_atomically(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Replaces the file whole: a reader, or a restart, sees the old bytes or the new ones."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with naming(path), os.fdopen(handle, "wb") as file:
            file.write(data)
            os.fchmod(file.fileno(), mode)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def read_config(root: Path, decode: Callable[[bytes], Config] = layout.decode) -> Config:
    """The configuration that `up` checked; NearmileError where the folder holds no network."""
    path = root / "config.json"
    try:
        return decode(path.read_bytes())
    except FileNotFoundError:
        raise NearmileError(f"{root} holds no network; start one with `nearmile up DIR`") from None
    except msgspec.DecodeError as error:
        raise NearmileError(f"{path} cannot be read ({error}); `nearmile up DIR` writes it anew") from None


class _Numbered(msgspec.Struct):
    """What is needed of a configuration or a status that cannot be read whole."""

    version: int = 0
    config_version: int = 0


def newest_version(root: Path) -> int:
    """The number of the newest configuration that ran here, as far as anything tells; 0 where none did.

    Whoever starts with another must number it higher, or processes go on with what the bus has.
    """
    newest = 0
    # A controller may have taken up what the agent was about to.
    for path in (root / "config.json", root / "status.json", *root.glob("processes/controller-*/config.json")):
        with contextlib.suppress(OSError):
            newest = max(newest, version_of(path.read_bytes()))
    return newest


def version_of(data: bytes) -> int:
    """The number of a configuration, or of that of a status, of any release; 0 where it has none."""
    try:
        found = msgspec.json.decode(packing.plain(data), type=_Numbered)
    except msgspec.DecodeError:
        return 0
    return max(found.version, found.config_version)


def bus_url(config: Config) -> str:
    """Where the bus is: the document's cluster, or the server that the agent starts."""
    if config.network.nats is not None:
        return config.network.nats
    bus = config.process("nats")
    return f"nats://{bus.address}:{bus.port}"


def read_token(root: Path) -> str:
    """The credential that only this network's processes know."""
    path = root / "token"
    try:
        return path.read_text("ascii").strip() if path.exists() else ""
    except UnicodeDecodeError:
        raise NearmileError(f"{path} is damaged; remove it, and `nearmile up` makes another") from None


def secret(path: Path) -> bytes:
    """32 random bytes, which stay the same once they are there; others at each start where the disk has none."""
    try:
        if not path.exists() or path.stat().st_size != SECRET_BYTES:
            write_atomically(path, os.urandom(SECRET_BYTES), mode=0o600)
        return path.read_bytes()
    except OSError as error:
        log.error("%s cannot be had, another secret is used until the process ends: %s", path, error)
        return os.urandom(SECRET_BYTES)


def cookie_secret(root: Path) -> bytes:
    """What the name servers' cookies are made of: the same for all of them (RFC 9018). The agent makes it."""
    return secret(root / "cookies")


def dnssec_file(root: Path, zone: str = "") -> Path:
    """What the keys of all zones, or of one with others, are made of: 32 bytes for each generation, the
    first in use."""
    return root / DNSSEC_ZONES / zone if zone else root / "dnssec"


def dnssec_file_used(root: Path, zone: str) -> Path:
    """A zone's own such file where it has one, else that of all."""
    path = dnssec_file(root, zone)
    return path if path.exists() else dnssec_file(root)


def make_dnssec_secret(root: Path) -> None:
    """Makes the first generation, where there is none. Only the agent does: other keys than those that parents
    know of would be worse than none."""
    if not dnssec_file(root).exists():
        write_atomically(dnssec_file(root), os.urandom(SECRET_BYTES), mode=0o600)


def dnssec_secrets(root: Path, zone: str = "") -> tuple[bytes, ...]:
    """The generations of all zones, or of one, the same for all name servers; NearmileError where they cannot be
    had."""
    return _secrets(dnssec_file_used(root, zone))


def dnssec_own_secrets(root: Path) -> dict[str, tuple[bytes, ...]]:
    """The generations of the zones that have others than all; NearmileError as above."""
    return {path.name: _secrets(path) for path in (root / DNSSEC_ZONES).glob("[!.]*")}


def _secrets(path: Path) -> tuple[bytes, ...]:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise NearmileError(
            f"{path} cannot be read ({error.strerror}); bring it back: `nearmile up` makes another, but then the "
            "parents of zones need other DS records"
        ) from None
    if not data or len(data) % SECRET_BYTES:
        raise NearmileError(f"{path} is damaged ({len(data)} bytes); bring back the one that was there")
    return tuple(data[at : at + SECRET_BYTES] for at in range(0, len(data), SECRET_BYTES))


def authority_files(root: Path) -> tuple[Path, Path]:
    """Certificate and key of the local authority."""
    return root / "authority" / "ca.pem", root / "authority" / "ca.key"


def account_key(root: Path) -> Path:
    """The key of the account at the authority that makes certificates."""
    return root / "acme" / "account.key"


def issued_files(folder: Path, site: str) -> tuple[Path, Path]:
    """The certificate that an authority made for a site, and its key, in a process's own folder."""
    folder = folder / "certificates"
    return folder / f"{site}.pem", folder / f"{site}.key"


def site_files(root: Path, site: str) -> tuple[Path, Path]:
    """The certificate that the local authority made for a site, and its key."""
    folder = root / "authority"
    return folder / f"{site}.pem", folder / f"{site}.key"
