"""An edge process of a real network is killed: what it had stored a second before are hits of the next one."""

import asyncio
import http.client
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from live_network import LiveNetwork
from waiting import at_rest

HOST, ORIGIN = "shop.test", ("127.46.200.1", 8100)
OBJECTS = 1000
NETWORK = """
name = "killed"
zone = "killed.test"
loopback = "127.46.0.0/16"
regions.here = { city = "Frankfurt", servers = 1 }
nameservers = [{ tier = "top", city = "Frankfurt" }, { tier = "low", city = "Frankfurt" }]
edge = { memory_mb = 16, disk_mb = 64 }
"""


def body_of(target: str) -> bytes:
    number = int(target[1:])
    return b"%d " % number * (3_000_000 // 5 if number % 500 == 0 else number)


class _Handler(BaseHTTPRequestHandler):
    protocol_version, disable_nagle_algorithm, wbufsize = "HTTP/1.1", True, -1

    def do_GET(self) -> None:
        body = body_of(self.path)
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "max-age=3600")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Not to the test's output."""


@contextmanager
def origin() -> Iterator[None]:
    with ThreadingHTTPServer(ORIGIN, _Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()


def hits(address: str, port: int, numbers: range) -> int:
    """Asks for all of them; returns how many were stored."""
    connection, count = http.client.HTTPConnection(address, port, timeout=60), 0
    for number in numbers:
        connection.request("GET", f"/{number}", headers={"Host": HOST})
        answer = connection.getresponse()
        assert answer.read() == body_of(f"/{number}"), number
        count += (answer.getheader("Cache-Status") or "").endswith("hit")
    connection.close()
    return count


def written_bytes(pid: int) -> int:
    """What a process's files hold: they only grow until all is written."""
    return sum(file.stat().st_size for file in Path(f"/proc/{pid}/fd").iterdir() if file.is_file())


def test_what_was_stored_a_second_before_is_a_hit(tmp_path: Path) -> None:
    documents = tmp_path / "documents"
    (documents / "sites").mkdir(parents=True)
    (tmp_path / "state").mkdir()
    (documents / "network.toml").write_text(NETWORK)
    (documents / "sites" / "shop.toml").write_text(
        f'hostnames = ["{HOST}"]\norigin = "http://{ORIGIN[0]}:{ORIGIN[1]}"\n'
    )
    with origin(), LiveNetwork(documents, tmp_path / "state") as network:
        edge = network.config.of_role("edge")[0]
        assert hits(edge.address, edge.port, range(OBJECTS)) == 0
        time.sleep(1.0)
        asyncio.run(at_rest(partial(written_bytes, network.one(edge.name)["pid"])))
        pid = network.kill(edge.name)
        network.until_replaced(edge.name, pid)
        assert hits(edge.address, edge.port, range(OBJECTS)) >= 0.99 * OBJECTS
        pid = network.kill(edge.name)
        network.until_replaced(edge.name, pid)
        assert hits(edge.address, edge.port, range(OBJECTS)) >= 0.99 * OBJECTS
