"""The edge role as a process: it serves without a bus, and a restart keeps its cache and loses no hit."""

import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import msgspec
import pytest

from edge_world import config
from hits import seal
from live_network import eventually
from nearmile.config.layout import Config
from nearmile.reports.disk import Journal
from nearmile.reports.segment import Damaged, decode
from waiting import PATIENCE_S

ADDRESS, PORT, ORIGIN, HOST = "127.31.70.1", 8080, ("127.31.71.1", 8100), "www.test.example"


class Handler(BaseHTTPRequestHandler):
    asked = 0

    def do_GET(self) -> None:
        type(self).asked += 1
        self.send_response(200)
        self.send_header("Cache-Control", "max-age=600")
        self.send_header("Content-Length", "5")
        self.end_headers()
        self.wfile.write(b"hello")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the name is the library's)
        """Says nothing."""


def document(rules: dict[str, Any] | None = None) -> Config:
    made = config(rules=rules)
    processes = tuple(
        msgspec.structs.replace(p, address=ADDRESS) if p.name == "here-1" else p for p in made.processes
    )
    site = msgspec.structs.replace(made.sites[0], origins=(f"http://{ORIGIN[0]}:{ORIGIN[1]}",))
    return msgspec.structs.replace(made, processes=processes, sites=(site,))


@contextmanager
def running(root: Path) -> Iterator[None]:
    """A process that serves; it must stop cleanly."""
    command = [sys.executable, "-m", "nearmile.services.runtime", str(root), "here-1"]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        try:
            eventually(lambda: listens(process), PATIENCE_S, "it listens")
            yield
            os.kill(process.pid, signal.SIGTERM)
            assert process.wait(PATIENCE_S) == 0
        finally:
            process.kill()


def listens(process: "subprocess.Popen[bytes]") -> bool:
    assert process.poll() is None, "it ended by itself"
    try:
        socket.create_connection((ADDRESS, PORT), 1).close()
    except OSError:
        return False
    return True


@pytest.fixture
def origin() -> Iterator[None]:
    Handler.asked = 0
    with ThreadingHTTPServer(ORIGIN, Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield
        server.shutdown()
        thread.join()


def get() -> str:
    connection = http.client.HTTPConnection(ADDRESS, PORT, timeout=PATIENCE_S)
    connection.request("GET", "/a", headers={"Host": HOST})
    answer = connection.getresponse()
    assert answer.read() == b"hello"
    connection.close()
    return answer.headers["Cache-Status"]


@pytest.mark.parametrize(
    ("kind", "port", "key"),
    [
        (socket.SOCK_STREAM, PORT, "edge.http_port"),
        (socket.SOCK_STREAM, 8443, "edge.https_port"),
        (socket.SOCK_DGRAM, 8443, "edge.https_port"),
    ],
)
def test_a_taken_port_is_told_in_a_line(tmp_path: Path, kind: socket.SocketKind, port: int, key: str) -> None:
    (tmp_path / "config.json").write_bytes(msgspec.json.encode(document()))
    with socket.socket(socket.AF_INET, kind) as other:
        other.bind((ADDRESS, port))
        if kind == socket.SOCK_STREAM:
            other.listen()
        command = [sys.executable, "-m", "nearmile.services.runtime", str(tmp_path), "here-1"]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    told = f"cannot listen on {ADDRESS} port {port} (Address already in use); free it or change {key}"
    assert (ended.returncode, "Traceback" in ended.stderr) == (1, False), ended.stderr
    assert told in ended.stderr


@pytest.mark.usefixtures("origin")
def test_a_process_serves_stops_cleanly_and_comes_back_warm(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes(msgspec.json.encode(document()))
    with running(tmp_path):
        assert [get(), get()] == ["here-1; fwd=uri-miss; stored", "here-1; hit"]
    with running(tmp_path):
        assert get() == "here-1; hit"
        assert Handler.asked == 1
    journal = Journal(tmp_path / "processes" / "here-1" / "journal", "here-1", "here", 0)
    seal(journal)
    segments = [decode(journal.read(segment)) for segment in journal.pending(10)]
    assert sum(segment.header.hits for segment in segments if not isinstance(segment, Damaged)) == 3


@pytest.mark.usefixtures("origin")
def test_what_was_stored_under_other_rules_is_not_served_after_a_restart(tmp_path: Path) -> None:
    edited = {"response_headers": {"remove": ["server"]}}
    for rules, asked in (({}, 1), (edited, 2), (edited, 2)):
        (tmp_path / "config.json").write_bytes(msgspec.json.encode(document(rules)))
        with running(tmp_path):
            get()
            assert Handler.asked == asked
