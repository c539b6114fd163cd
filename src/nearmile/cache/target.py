"""The form of a target (path and query) that a site's objects are named by, where the site asks for one.

The origin is asked for that form too, never for what the client wrote: so no two requests share a stored response
whose origin could have told them apart, which is how caches are poisoned.
"""

import re
import string
from collections.abc import Iterable

from msgspec import Struct

from nearmile.config.key import Key

_UNRESERVED = frozenset((string.ascii_letters + string.digits + "-._~").encode())  # RFC 3986 section 2.3
_ESCAPE = re.compile(rb"%([0-9A-Fa-f]{2})")
_BROKEN_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
# What some servers take for a slash, and what follows a ";" of a segment some leave out.
_OTHER_SLASHES = re.compile(rb"%2F|%5C|\\")
_DOTS = frozenset((b".", b".."))
# Where some servers end a path, or read it another time.
_MISREAD = re.compile(rb";|\\|%(?:[01][0-9A-F]|23|25|2F|3B|3F|5C|7F)")


class Form(Struct, frozen=True):
    """How a site's targets are written; made by ``form_of``."""

    normalise: bool
    query: str
    names: frozenset[bytes]
    beginnings: tuple[bytes, ...]
    sort: bool

    def of(self, target: bytes) -> bytes:
        """The target in this form. Applied again it changes nothing; it never raises."""
        if self.normalise:
            target = normal(target)
        path, mark, query = target.partition(b"?")
        if not mark or (self.query == "keep" and not self.sort):
            return target
        parts = [part for part in query.split(b"&") if part and self._keeps(part.partition(b"=")[0])]
        if self.sort:
            # Several of one name keep their order, which may mean something.
            parts.sort(key=lambda part: part.partition(b"=")[0])
        return path + b"?" + b"&".join(parts) if parts else path

    def _keeps(self, name: bytes) -> bool:
        if self.query in ("keep", "ignore"):
            return self.query == "keep"
        return (name in self.names or name.startswith(self.beginnings)) is (self.query == "only")


def form_of(key: Key) -> Form | None:
    """The form that a site's document asks for; None where targets stay as clients write them."""
    if not (key.normalise or key.sort or key.query != "keep"):
        return None
    names = [name.encode() for name in key.parameters]
    beginnings = tuple(name[:-1] for name in names if name.endswith(b"*"))
    exact = frozenset(name for name in names if not name.endswith(b"*"))
    return Form(key.normalise, key.query, exact, beginnings, key.sort)


def normal(target: bytes) -> bytes:
    """Escapes resolved where they need not be, with capital digits where they must, and no dot segments.

    RFC 3986 section 6.2.2. A path, or a parameter of the query, with a ``%`` that begins no escape stays as it is:
    it has no meaning to keep. Each is judged alone, so that leaving one out does not change how others are read.
    """
    if not target.startswith(b"/"):
        return target
    path, mark, query = target.partition(b"?")
    if not _BROKEN_ESCAPE.search(path):
        path = _without_dots(_resolved(path))
    return path + mark + b"&".join(map(_resolved, query.split(b"&")))


def ambiguous(target: bytes) -> bool:
    """Whether servers may read a ``normal`` target's path in two ways: who guards paths should refuse it."""
    path = target.partition(b"?")[0]
    if _BROKEN_ESCAPE.search(target) or b"%00" in path:
        return True
    return any(part.partition(b";")[0] in _DOTS for part in _OTHER_SLASHES.sub(b"/", path).split(b"/"))


def clear(target: bytes) -> bool:
    """Whether servers read a target's path in one way, as far as can be told.

    For rules by path that share answers: who can make `/account` look like `/account;.css` to the edge alone has
    others' answers stored (web cache deception).
    """
    path = target.partition(b"?")[0]
    return normal(path) == path and not ambiguous(path) and not _MISREAD.search(path)


def cookie_values(lines: Iterable[bytes], names: tuple[bytes, ...]) -> bytes:
    """Those cookies as they were sent, in one that is equal only if all are. Of several of a name, all count."""
    parts = (part.strip(b" \t") for line in lines for part in line.split(b";"))
    # Neither name nor value can have a ";", since it separates. Some origins leave out white space behind a name.
    return b";".join(part for part in parts if part.partition(b"=")[0].rstrip(b" \t") in names)


def _resolved(part: bytes) -> bytes:
    if b"%" not in part or _BROKEN_ESCAPE.search(part):
        return part
    return _ESCAPE.sub(_resolve, part)


def _resolve(found: re.Match[bytes]) -> bytes:
    code = int(found[1], 16)
    return bytes((code,)) if code in _UNRESERVED else found[0].upper()


def _without_dots(path: bytes) -> bytes:
    if b"/." not in path:
        return path
    kept: list[bytes] = []
    parts = path.split(b"/")[1:]
    for part in parts:
        if part == b"..":
            del kept[-1:]
        elif part != b".":
            kept.append(part)
    if parts[-1] in _DOTS:
        kept.append(b"")
    return b"/" + b"/".join(kept)
