"""URLs as people write them, in the form in which clients ask for them."""

from urllib.parse import SplitResult, quote, urlsplit

from nearmile.base.addresses import bracketed
from nearmile.base.errors import WrongInput

# A request line has no others than these: spaces and letters beyond ASCII are sent escaped, as browsers do.
_SENT_AS_THEY_ARE = "".join(map(chr, range(0x21, 0x7F)))


def split(text: str) -> SplitResult:
    """Its parts, with the host in lower case and without a user; WrongInput where it is no URL of the web.

    A query may be empty, which is another than none: then the mark before it is the end of the path.
    """
    try:
        url = urlsplit(text)
        port, host = url.port, (url.hostname or "").removesuffix(".")
    except ValueError as error:
        raise WrongInput(f"{text!r} is not a URL: {error}") from None
    if url.scheme not in ("http", "https") or not host:
        raise WrongInput(f"{text!r} is not a URL such as http://www.example.test/page.html")
    where = bracketed(host)
    mark = "?" if not url.query and "?" in text.partition("#")[0] else ""
    return url._replace(
        netloc=where if port is None else f"{where}:{port}",
        path=quote(url.path or "/", safe=_SENT_AS_THEY_ARE) + mark,
        query=quote(url.query, safe=_SENT_AS_THEY_ARE),
    )


def target(url: SplitResult) -> str:
    """What is asked for at the host: path and query."""
    return url.path + (f"?{url.query}" if url.query else "")
