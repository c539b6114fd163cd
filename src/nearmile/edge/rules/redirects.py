"""Redirects: the new address of a path, from a table of exact paths and of beginnings."""

from msgspec import Struct

from nearmile.config.network import Redirect

HTTPS_PORT = 443


class To(Struct, frozen=True):
    """Where a request is sent."""

    status: int
    location: bytes


def by_https(method: bytes, host: bytes, port: int, target: bytes) -> To:
    """The same by https. Old clients know 301 alone, and make a GET of any method but HEAD at it."""
    where = host if port == HTTPS_PORT else b"%b:%d" % (host, port)
    return To(301 if method in (b"GET", b"HEAD") else 308, b"https://" + where + target)


class Redirects:
    """A site's table: an exact path first, then the longest beginning."""

    def __init__(self, redirects: tuple[Redirect, ...]) -> None:
        self._exact: dict[bytes, To] = {}
        self._begins: dict[bytes, To] = {}
        for redirect in redirects:
            path, to = redirect.path.encode(), To(redirect.status, redirect.to.encode())
            if path.endswith(b"/*"):
                self._begins[path[:-1]] = to
            else:
                self._exact[path] = to
        self._lengths = sorted({len(path) for path in self._begins}, reverse=True)

    def find(self, target: bytes) -> To | None:
        """Where that target is now; its query goes with it, unless the new address has one."""
        path, mark, query = target.partition(b"?")
        to, rest = self._exact.get(path), b""
        if to is None:
            for length in self._lengths:
                to, rest = self._begins.get(path[:length]), path[length:]
                if to is not None:
                    break
        if to is None:
            return None
        location = to.location[:-1] + rest if to.location.endswith(b"/*") else to.location
        if location[:1] == b"/":
            # "//host" would be another site, and browsers take "\\" for "/".
            location = b"/" + location.lstrip(b"/\\")
        if mark and b"?" not in location:
            location += b"?" + query
        return To(to.status, location)
