import asyncio
import contextlib
import http.client
import socket
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable
from email.message import Message
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import uvloop

from nearmile.base.errors import NearmileError
from nearmile.config.layout import Process
from nearmile.services import origin
from nearmile.services.runtime import Runtime

ADDRESS, PORT, DEADLINE_S = "127.36.0.128", 8036, 30.0


def make_site(folder: Path) -> Path:
    site = folder / "site"
    (site / "about").mkdir(parents=True)
    (site / "index.html").write_text("<!doctype html><title>home</title>")
    (site / "about" / "index.html").write_text("<!doctype html><title>about</title>")
    (site / "404.html").write_text("<!doctype html><title>lost</title>")
    (site / "style.css").write_text("body {}")
    (folder / "outside.js").write_text("1")
    (site / "linked.js").symlink_to(folder / "outside.js")
    return site


def fake_runtime(folder: Path) -> Any:
    me = Process(name="origin-a", role="origin", address=ADDRESS, port=PORT, folder=str(folder))
    config = SimpleNamespace(processes=(me,))
    taking = []

    def on_config(take: Callable[[Any], None]) -> None:
        taking.append(take)
        take(config)

    return SimpleNamespace(
        me=me, config=config, stopping=asyncio.Event(), ready=False, requests=0, on_config=on_config, taking=taking
    )


@contextlib.asynccontextmanager
async def serving(folder: Path) -> AsyncIterator[Any]:
    """A running origin; at the end it must stop by itself."""
    runtime = fake_runtime(folder)
    task = asyncio.create_task(origin.run(cast(Runtime, runtime)))
    async with asyncio.timeout(DEADLINE_S):
        while not runtime.ready:
            await asyncio.sleep(0.01)
        try:
            yield runtime
        finally:
            runtime.stopping.set()
            await task


def get(path: str, method: str = "GET", **headers: str) -> tuple[int, "Message[str, str]", bytes]:
    request = urllib.request.Request(
        f"http://{ADDRESS}:{PORT}{path}",
        method=method,
        headers={k.replace("_", "-"): v for k, v in headers.items()},
    )
    try:
        with urllib.request.urlopen(request, timeout=DEADLINE_S) as response:
            return response.status, response.headers, response.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers, error.read()


def with_site(tmp_path: Path, check: Callable[[], None]) -> Any:
    """Runs a blocking check against a running origin; returns its runtime."""

    async def main() -> Any:
        async with serving(make_site(tmp_path)) as runtime:
            await asyncio.to_thread(check)
            return runtime

    return uvloop.run(main())


def test_pages_and_assets_are_served_with_freshness_and_validators(tmp_path: Path) -> None:
    def check() -> None:
        for path, title in (("/", b"home"), ("/index.html", b"home"), ("/about/", b"about")):
            status, headers, body = get(path)
            assert (status, headers["cache-control"]) == (200, "public, max-age=60")
            assert title in body and headers["etag"] and headers["last-modified"] and headers["date"]
        status, headers, body = get("/style.css")
        assert (status, headers["cache-control"], body) == (200, "public, max-age=3600", b"body {}")
        assert "server" not in headers
        status, again, body = get("/style.css", If_None_Match=headers["etag"])
        assert (status, body, again["cache-control"]) == (304, b"", "public, max-age=3600")
        status, again, body = get("/about/", If_Modified_Since=get("/about/")[1]["last-modified"])
        assert (status, body, again["cache-control"]) == (304, b"", "public, max-age=60")
        assert get("/style.css", Range="bytes=0-3")[2] == b"body"
        assert get("/style.css", method="HEAD")[2] == b""
        assert get("/linked.js")[2] == b"1"

    runtime = with_site(tmp_path, check)
    assert runtime.requests == 10


def test_what_is_not_there_is_not_fresh(tmp_path: Path) -> None:
    def check() -> None:
        for path in ("/gone", "/../outside.js", "/%2e%2e/outside.js"):
            status, headers, body = get(path)
            assert (status, "cache-control" in headers) == (404, False)
            assert b"lost" in body
        assert get("/", method="POST")[0] == 405

    with_site(tmp_path, check)


def test_an_idle_connection_does_not_hold_up_the_end(tmp_path: Path) -> None:
    connections = []

    def check() -> None:
        connection = socket.create_connection((ADDRESS, PORT), timeout=DEADLINE_S)
        connection.sendall(b"GET /style.css HTTP/1.1\r\nHost: a\r\n\r\n")
        assert connection.recv(12) == b"HTTP/1.1 200"
        connections.append(connection)

    with_site(tmp_path, check)
    connections[0].close()


async def test_a_missing_folder_and_a_taken_port_are_named(tmp_path: Path) -> None:
    with pytest.raises(NearmileError, match="there is no folder"):
        await origin.run(cast(Runtime, fake_runtime(tmp_path / "gone")))
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind((ADDRESS, PORT))
        taken.listen()
        with pytest.raises(
            NearmileError, match=r"cannot listen on 127.36.0.128 port 8036: Address already in use"
        ):
            await origin.run(cast(Runtime, fake_runtime(tmp_path)))


async def test_another_folder_is_taken_up_as_it_runs(tmp_path: Path) -> None:
    new = tmp_path / "new"
    new.mkdir()
    (new / "style.css").write_text("p {}")
    async with serving(make_site(tmp_path)) as runtime:
        (take,) = runtime.taking
        for folder, body in ((new, b"p {}"), (tmp_path / "gone", b"p {}"), (tmp_path / "site", b"body {}")):
            me = Process(name="origin-a", role="origin", address=ADDRESS, port=PORT, folder=str(folder))
            with contextlib.suppress(NearmileError):
                take(SimpleNamespace(processes=(me,)))
            assert (await asyncio.to_thread(get, "/style.css"))[2] == body
        take(SimpleNamespace(processes=()))
        assert (await asyncio.to_thread(get, "/style.css"))[2] == b"body {}", "until it is ended"


@pytest.mark.parametrize(
    ("path", "location"),
    [
        ("/about", "/about/"),
        ("/about?a=b%20c", "/about/?a=b%20c"),
        ("//evil.test/../about", "/evil.test/../about/"),
    ],
)
def test_a_folder_is_sent_to_its_slash_by_whatever_name_and_scheme_clients_use(
    tmp_path: Path, path: str, location: str
) -> None:
    def check() -> None:
        connection = http.client.HTTPConnection(ADDRESS, PORT, timeout=DEADLINE_S)
        connection.request("GET", path, headers={"X-Forwarded-Proto": "https"})
        response = connection.getresponse()
        assert (response.status, response.headers["location"]) == (307, location)
        connection.close()

    with_site(tmp_path, check)
