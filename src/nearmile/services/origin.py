"""The origin role: serves a site's folder, for sites that have no server of their own.

Files carry ETag and Last-Modified and are revalidated by them. Pages may be kept for a minute, so that a change
shows soon; what pages are made of, for an hour.
"""

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import uvicorn
from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from nearmile.base.errors import NearmileError
from nearmile.config.layout import Config, Process
from nearmile.services.runtime import Runtime

PAGE_CACHE_CONTROL = "public, max-age=60"
ASSET_CACHE_CONTROL = "public, max-age=3600"
# Every edge server may come with a pool of connections; beyond this it gets 503 and waits.
CONNECTIONS_MAX = 4096
BACKLOG = 1024
KEEP_ALIVE_S = 120
# Responses under way get this long when the process stops, then they are cut off.
STOP_TIMEOUT_S = 2


async def run(runtime: Runtime) -> None:
    """Serves the folder until the runtime stops; NearmileError where folder or address is not to be had."""
    server = _Server(runtime, _Folder(runtime))
    listener = _listen(runtime.me)
    serving = asyncio.create_task(server.serve([listener]))
    stopping = asyncio.create_task(runtime.stopping.wait())
    try:
        await asyncio.wait((serving, stopping), return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopping.cancel()
        server.should_exit = True
        await serving


def site(folder: str) -> ASGIApp:
    """The folder as a web site: index pages, a 404.html if there is one, validators, freshness."""
    if not Path(folder).is_dir():
        raise NearmileError(f"there is no folder {folder}")
    # The folder is the operator's own, so links may lead out of it (those of Debian's documentation do).
    files = StaticFiles(directory=folder, html=True, follow_symlink=True)

    async def fresh(scope: Scope, receive: Receive, send: Send) -> None:
        async def send_fresh(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] in (200, 206, 304):
                headers = MutableHeaders(scope=message)
                # A 304 names no type, and must say the same as its 200.
                is_page = headers.get("content-type", "").startswith("text/html") or _names_page(scope["path"])
                headers["cache-control"] = PAGE_CACHE_CONTROL if is_page else ASSET_CACHE_CONTROL
            elif message["type"] == "http.response.start" and message["status"] == 307:  # to a folder's "/"
                headers = MutableHeaders(scope=message)
                headers["location"] = _on_same_host(headers["location"])
            await send(message)

        await files(scope, receive, send_fresh)

    return Starlette(routes=[Mount("/", fresh)])


def _on_same_host(location: str) -> str:
    """Without scheme and host: clients come by https, and to another port, where edges come by http."""
    parts = urlsplit(location)
    # What begins with "//" would name a host.
    return urlunsplit(("", "", "/" + parts.path.lstrip("/"), parts.query, ""))


def _names_page(path: str) -> bool:
    return path.endswith(("/", ".html", ".htm"))


class _Folder:
    """The folder that the configuration names; requests are counted."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._app: ASGIApp
        runtime.on_config(self._take_config)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._runtime.requests += 1
        await self._app(scope, receive, send)

    def _take_config(self, config: Config) -> None:
        for process in config.processes:  # in which one that is to end is not any more
            if process.name == self._runtime.me.name:
                self._app = site(process.folder)


def _listen(me: Process) -> socket.socket:
    """The listening socket: bound by us, for uvicorn ends the process when it cannot."""
    listener = socket.socket(socket.AF_INET6 if ":" in me.address else socket.AF_INET)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((me.address, me.port))
    except OSError as error:
        listener.close()
        raise NearmileError(f"{me.name}: cannot listen on {me.address} port {me.port}: {error.strerror}") from None
    return listener


class _Server(uvicorn.Server):
    """uvicorn inside a process of ours: the runtime has the signals, and hears when the server listens."""

    def __init__(self, runtime: Runtime, app: ASGIApp) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http="httptools",
                ws="none",
                lifespan="off",
                log_level="warning",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                backlog=BACKLOG,
                limit_concurrency=CONNECTIONS_MAX,
                timeout_keep_alive=KEEP_ALIVE_S,
                timeout_graceful_shutdown=STOP_TIMEOUT_S,
            )
        )
        self._runtime = runtime

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leaves them to the runtime."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listens, and says so."""
        await super().startup(sockets)
        self._runtime.ready = True
