"""A real site that we did not make, through every protocol: byte for byte, and in a real browser."""

import asyncio
import hashlib
import http.client
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from chromium import CHROMIUM, Browser, key_of
from h2_client import H2Client, trusting
from h3_client import H3Client
from live_network import EXAMPLES, LiveNetwork
from nearmile.services import state
from origin_folder import digests_of

FOLDER = Path("/usr/share/doc/python3/html")
HOST, SITE = "www.python.test", "python"
AT_A_TIME = 16
pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="Debian's python3-doc is not installed")
Digests = dict[str, str]


@pytest.fixture(scope="module")
def docs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveNetwork]:
    with LiveNetwork(EXAMPLES / "python-docs", tmp_path_factory.mktemp("docs")) as network:
        yield network


def address(docs: LiveNetwork) -> str:
    """Of an edge server."""
    return docs.config.of_role("edge")[0].address


def authority(docs: LiveNetwork) -> Path:
    """Whom to trust."""
    return state.authority_files(docs.root)[0]


def over_http_1(docs: LiveNetwork, paths: list[str]) -> Digests:
    return _in_turn(http.client.HTTPConnection(address(docs), docs.config.network.edge.http_port), paths)


def over_tls(docs: LiveNetwork, paths: list[str]) -> Digests:
    trust = trusting(str(authority(docs)), "http/1.1")
    trust.check_hostname = False
    port = docs.config.network.edge.https_port
    return _in_turn(http.client.HTTPSConnection(address(docs), port, context=trust), paths)


def _in_turn(connection: http.client.HTTPConnection, paths: list[str]) -> Digests:
    found = {}
    for path in paths:
        connection.request("GET", path, headers={"Host": HOST})
        found[path] = hashlib.sha256(connection.getresponse().read()).hexdigest()
    connection.close()
    return found


def over_h2(docs: LiveNetwork, paths: list[str]) -> Digests:
    async def ask() -> Digests:
        trust: ssl.SSLContext = trusting(str(authority(docs)), "h2")
        reader, writer = await asyncio.open_connection(
            address(docs), docs.config.network.edge.https_port, ssl=trust, server_hostname=HOST
        )
        client = H2Client(reader, writer)
        found = await _many(client, paths)
        await client.close()
        return found

    return asyncio.run(ask())


def over_h3(docs: LiveNetwork, paths: list[str]) -> Digests:
    async def ask() -> Digests:
        port = docs.config.network.edge.https_port
        client = await H3Client(authority(docs), HOST, (address(docs), port)).connected()
        found = await _many(client, paths)
        client.close()
        return found

    return asyncio.run(ask())


async def _many(client: H2Client | H3Client, paths: list[str]) -> Digests:
    """Several at a time."""
    found = {}
    for start in range(0, len(paths), AT_A_TIME):
        streams = {path: client.ask(path, authority=HOST) for path in paths[start : start + AT_A_TIME]}
        for path, stream in streams.items():
            answer = await client.answer(stream)
            assert (answer.error, answer.status) == (None, 200), path
            found[path] = hashlib.sha256(answer.body).hexdigest()
    return found


@pytest.mark.parametrize(("ask", "part"), [(over_tls, 1), (over_h3, 3), (over_h2, 3), (over_http_1, 3)])
def test_files_are_identical(docs: LiveNetwork, ask: Callable[..., Digests], part: int) -> None:
    expected = dict(sorted(digests_of(FOLDER).items())[::part])
    assert len(expected) > 400 / part
    assert ask(docs, list(expected)) == expected


def flags(docs: LiveNetwork) -> tuple[str, ...]:
    """Chromium trusts the one key of the site's certificate: QUIC would else accept public authorities alone."""
    return (
        f"--ignore-certificate-errors-spki-list={key_of(state.site_files(docs.root, SITE)[0])}",
        f"--host-resolver-rules=MAP {HOST} {address(docs)}, MAP * ~NOTFOUND",
    )


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
@pytest.mark.parametrize("protocol", ["h2", "h3"])
def test_a_page_in_chromium_over(docs: LiveNetwork, tmp_path: Path, protocol: str) -> None:
    port = docs.config.network.edge.https_port
    how = "--disable-quic" if protocol == "h2" else f"--origin-to-force-quic-on={HOST}:{port}"
    with Browser(tmp_path / "profile", how, *flags(docs)) as browser:
        parts = browser.open(f"https://{HOST}:{port}/library/asyncio.html")
        assert "asyncio" in browser.value("document.title")
        assert browser.errors == []
    assert len(parts) >= 5, "the page's styles, scripts and pictures were asked for"
    assert {(used, status) for _, used, status in parts} == {(protocol, 200)}, parts


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
def test_chromium_finds_http_3_by_itself(docs: LiveNetwork, tmp_path: Path) -> None:
    """As Alt-Svc tells it (RFC 7838), after a first page over HTTP/2.

    Over QUIC it wants a public authority, except of names that it was told to speak it to: here, at another port.
    """
    with Browser(tmp_path / "profile", f"--origin-to-force-quic-on={HOST}:1", *flags(docs)) as browser:
        pages = []
        for page in ("asyncio", "ast", "array"):
            parts = browser.open(f"https://{HOST}:{docs.config.network.edge.https_port}/library/{page}.html")
            assert {status for _, _, status in parts} == {200}
            pages.append(parts[0][1])
        assert browser.errors == []
    assert (pages[0], pages[-1]) == ("h2", "h3"), "other parts may be of the browser's own cache"
