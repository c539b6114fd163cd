"""What sites' documents only name: keys of signed URLs, error pages, authorities. Read where they are used."""

import logging
import os
from pathlib import Path

from nearmile.config.clients import PAGE_BYTES_MAX, SECRET_BYTES_MAX, SECRET_BYTES_MIN
from nearmile.config.layout import NamedSite
from nearmile.config.network import SigningKey
from nearmile.edge.rules.site import Files, Page

log = logging.getLogger("nearmile.edge")

KINDS = {".json": b"application/json", ".txt": b"text/plain; charset=utf-8"}
# The system's file of all the web's authorities has 220 KB.
AUTHORITY_BYTES_MAX = 1 << 20
HTML = b"text/html; charset=utf-8"


def read_files(named: NamedSite) -> Files:
    """A site's. What cannot be read is missing, and logged: no URL is good by that key, and pages are ours."""
    secrets, pages = {}, {}
    keys = {} if named.document.signed is None else named.document.signed.keys
    for key_id, key in keys.items():
        try:
            secrets[key_id] = read_secret(key)
        except (OSError, ValueError) as error:
            log.error("site %s: the signing key %s is missing: %s", named.name, key_id, error)
    for status, name in named.document.error_pages.items():
        try:
            body = _read(Path(name), PAGE_BYTES_MAX)
            pages[int(status)] = Page(KINDS.get(Path(name).suffix, HTML), body)
        except (OSError, ValueError) as error:
            log.error("site %s: the page for %s is missing: %s", named.name, status, error)
    authorities = _read_authorities(named)
    known = len(secrets), len(pages), bool(authorities)
    whole = known == (len(keys), len(named.document.error_pages), named.document.upstream.authority is not None)
    return Files(secrets, pages, authorities, whole)


def _read_authorities(named: NamedSite) -> str:
    file = named.document.upstream.authority
    if file is None:
        return ""
    from nearmile.config.certificate import authority_problem  # with a library that `nearmile sign` does not need

    try:
        pem = _read(Path(file), AUTHORITY_BYTES_MAX)
        if what := authority_problem(pem):
            raise ValueError(f"{file} {what}")
    except (OSError, ValueError) as error:
        log.error("site %s: no https origin is trusted: upstream.authority: %s", named.name, error)
        return ""
    return pem.decode("latin-1")


def read_secret(key: SigningKey) -> bytes:
    """The key itself, without white space around it; raises OSError or ValueError, which say nothing of it."""
    if key.file is not None:
        secret = _read(Path(key.file), SECRET_BYTES_MAX)
    else:
        secret = os.environb.get((key.environment or "").encode(), b"")
    secret = secret.strip()
    if not SECRET_BYTES_MIN <= len(secret) <= SECRET_BYTES_MAX:
        where = key.file or f"${key.environment}"
        raise ValueError(f"{where} must have {SECRET_BYTES_MIN} to {SECRET_BYTES_MAX} bytes")
    return secret


def _read(path: Path, bytes_max: int) -> bytes:
    with path.open("rb") as file:
        data = file.read(bytes_max + 1)
    if len(data) > bytes_max:
        raise ValueError(f"{path} is longer than {bytes_max} bytes")
    return data
