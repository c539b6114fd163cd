"""`nearmile apply` under load: documents change, processes come and go, and users notice nothing."""

import asyncio
import hashlib
import http.client
import os
import shutil
import signal
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dns.message
import dns.query
import dns.rdatatype
import pytest

from live_network import READY_S, LiveNetwork, alive, eventually
from load import Load
from nearmile.services import state
from waiting import until

HOST, PAGES = "shop.test", 20
NETWORK = """
name = "changes"
zone = "changes.test"
loopback = "127.47.0.0/16"
nameservers = [
  { tier = "top", city = "Frankfurt" },
  { tier = "low", city = "Frankfurt" },
  { tier = "low", city = "Tokyo" },
]
dns = { low_ttl_s = 1, top_ttl_s = 1 }
edge = { memory_mb = 16, disk_mb = 64 }
[regions]
here = { city = "Frankfurt", servers = 2 }
"""


@pytest.fixture
def network(tmp_path: Path) -> Iterator[LiveNetwork]:
    documents = tmp_path / "documents"
    (documents / "sites").mkdir(parents=True)
    for name in ("shop", "blog"):
        (documents / name).mkdir()
        for number in range(PAGES):
            (documents / name / f"{number}.css").write_text(f"{name} {number} " * 100)
    (tmp_path / "state").mkdir()
    (documents / "network.toml").write_text(NETWORK)
    site(documents, "shop")
    site(documents, "blog")
    with LiveNetwork(documents, tmp_path / "state") as running:
        yield running


def site(documents: Path, name: str, more: str = "") -> None:
    text = f'hostnames = ["{name}.test"]\norigin = "{name}"\n{more}\n'
    (documents / "sites" / f"{name}.toml").write_text(text)


def digests(network: LiveNetwork) -> dict[str, str]:
    files = (network.documents / "shop").iterdir()
    return {f"/{file.name}": hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def apply(network: LiveNetwork) -> Any:
    return network.json("apply", str(network.documents))


class Visitors:
    """One connection to each edge of the start, over which each page is asked for again and again."""

    def __init__(self, network: LiveNetwork) -> None:
        self.wrong: list[str] = []
        self.count = 0
        self._stopping = threading.Event()
        edges = network.config.of_role("edge")
        self._threads = [threading.Thread(target=self._visit, args=(one.address, one.port)) for one in edges]

    def __enter__(self) -> "Visitors":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def _visit(self, address: str, port: int) -> None:
        connection = http.client.HTTPConnection(address, port, timeout=READY_S)
        connection.connect()
        first, stored = connection.sock, False
        while not self._stopping.is_set():
            for number in range(PAGES):
                connection.request("GET", f"/{number}.css", headers={"Host": HOST})
                answer = connection.getresponse()
                body, cache = answer.read(), answer.getheader("Cache-Status") or ""
                self.count += 1
                if (
                    answer.status != 200
                    or body != f"shop {number} ".encode() * 100
                    or connection.sock is not first
                ):
                    self.wrong.append(f"{answer.status} {len(body)} bytes")
                if stored and not cache.endswith("hit"):
                    self.wrong.append(f"/{number}.css was stored: {cache}")
            stored = True
        connection.close()


def ask(network: LiveNetwork, name: str, path: str) -> list[http.client.HTTPResponse]:
    """Every edge."""
    found = []
    for edge in network.config.of_role("edge"):
        connection = http.client.HTTPConnection(edge.address, edge.port, timeout=READY_S)
        connection.request("GET", path, headers={"Host": f"{name}.test"})
        found.append(connection.getresponse())
        found[-1].read()
        connection.close()
    return found


def shakes_hands(network: LiveNetwork, name: str) -> None:
    trust = ssl.create_default_context(cafile=str(state.authority_files(network.root)[0]))
    for edge in network.config.of_role("edge"):
        with (
            socket.create_connection((edge.address, network.config.network.edge.https_port)) as plain,
            trust.wrap_socket(plain, server_hostname=f"{name}.test") as secured,
        ):
            assert secured.version() == "TLSv1.3"


def signed_servers(network: LiveNetwork, zone: str) -> set[str]:
    """The name servers of a zone, with the signature that a resolver would check."""
    query = dns.message.make_query(zone, "NS", want_dnssec=True)
    top = next(server for server in network.config.of_role("nameserver") if server.tier == "top")
    servers, signatures = dns.query.udp(query, top.address, timeout=READY_S, port=top.port).answer
    assert signatures.rdtype == dns.rdatatype.RRSIG
    return {server.to_text() for server in servers}


def test_sites_change_and_no_visitor_of_another_notices(network: LiveNetwork) -> None:
    documents = network.documents
    with Visitors(network) as visitors:
        eventually(lambda: visitors.count > 4 * PAGES, READY_S, "visitors")
        site(documents, "blog", 'response_headers.set = { x-new = "1" }')
        done = apply(network)
        assert (done["version"], done["sites"]["changed"], done["processes"]["changed"]) == (2, ["blog"], [])
        assert (done["running"], done["late"]) == (done["processes_total"], {})
        assert [each.getheader("x-new") for each in ask(network, "blog", "/1.css")] == ["1", "1"]

        shutil.copytree(documents / "blog", documents / "another")
        site(documents, "another", 'dns.zones = ["another.test"]')
        done = apply(network)
        assert (done["sites"]["added"], done["processes"]["added"]) == (["another"], ["origin-another"])
        assert [each.status for each in ask(network, "another", "/1.css")] == [200, 200]
        shakes_hands(network, "another")
        assert signed_servers(network, "another.test") == {"ns1.changes.test."}

        (documents / "sites" / "blog.toml").unlink()
        done = apply(network)
        assert (done["sites"]["removed"], done["leaving"]) == (["blog"], ["origin-blog"])
        assert [each.status for each in ask(network, "blog", "/1.css")] == [421, 421]
        assert [each.status for each in ask(network, "another", "/1.css")] == [200, 200]
        eventually(lambda: all(p["name"] != "origin-blog" for p in network.status()["processes"]), READY_S, "gone")

        done = apply(network)
        assert (done["version"], done["sites"]["changed"], done["running"]) == (4, [], done["processes_total"])
    assert visitors.wrong == []
    assert visitors.count > 20 * PAGES
    network.stop()
    network.start()
    assert network.config.version == 4, "what was applied is what starts"
    assert {p["config_version"] for p in network.status()["processes"]} <= {0, 4}


def test_processes_come_and_go_while_users_are_served(network: LiveNetwork) -> None:
    def documents(*changes: tuple[str, str]) -> None:
        text = NETWORK
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        (network.documents / "network.toml").write_text(text)

    def pids() -> dict[str, int]:
        return {one["name"]: one["pid"] for one in network.status()["processes"]}

    async def under_load() -> None:
        async with Load(network.config, HOST, digests(network), clients=8) as load:
            before = pids()
            await until(lambda: load.tally.received.total() > 100)
            documents(("[regions]", '[regions]\nfar = { city = "Tokyo", servers = 1 }'))
            done = await asyncio.to_thread(apply, network)
            assert (done["processes"]["added"], done["late"]) == (["far-1"], {})
            await asyncio.to_thread(
                eventually, lambda: load.tally.received["far-1"] > 0, READY_S, "visitors of the new region"
            )
            documents(("servers = 2", "servers = 1"), ('  { tier = "low", city = "Tokyo" },\n', ""))
            done = await asyncio.to_thread(apply, network)
            assert done["processes"]["removed"] == ["low-2", "far-1", "here-2"]
            await asyncio.to_thread(
                eventually, lambda: network.status()["leaving"] == [], READY_S, "nobody leaves any more"
            )
            assert [alive(before[name]) for name in ("here-1", "here-2", "low-1", "low-2")] == [1, 0, 1, 0]

            documents(("memory_mb = 16", "memory_mb = 17"))
            done = await asyncio.to_thread(apply, network)
            moved = done["processes"]
            assert (moved["added"], moved["changed"], done["late"]) == (["low-2", "here-2"], ["here-1"], {})
            now = pids()
            assert now["here-1"] != before["here-1"] and now["low-1"] == before["low-1"]
            await until(lambda: load.tally.received.total() > 500)
        assert (load.tally.failures, load.tally.wrong, set(load.tally.statuses)) == ([], [], {200})
        assert load.tally.second_tries == 0

    asyncio.run(under_load())


def test_an_agent_that_is_killed_before_it_has_taken_it_starts_with_it(network: LiveNetwork) -> None:
    """The bus and the processes know of a version then that the state folder does not have."""
    documents = network.documents
    hanging = network.kill("here-2", signal.SIGSTOP)
    site(documents, "blog", 'response_headers.set = { x-new = "1" }')
    done = network.json("apply", str(documents), check=False)
    assert (done["version"], done["late"]) == (2, {"here-2": "silent"})
    os.kill(hanging, signal.SIGCONT)
    eventually(lambda: network.one("here-2")["config_version"] == 2, READY_S, "it hears of it once it runs on")

    agent = network.status()["agent_pid"]
    os.kill(agent, signal.SIGSTOP)
    site(documents, "blog", 'response_headers.set = { x-new = "2" }')
    told = network.run("apply", str(documents), check=False)
    assert told.returncode == 1 and "here-1: the agent is at version 2" in told.stdout
    assert [each.getheader("x-new") for each in ask(network, "blog", "/1.css")] == ["2", "2"]
    site(documents, "blog", 'response_headers.set = { x-new = "3" }')
    os.kill(agent, signal.SIGKILL)
    network.stop()
    network.start()
    assert network.config.version == 4
    assert [each.getheader("x-new") for each in ask(network, "blog", "/1.css")] == ["3", "3"]
    assert apply(network)["version"] == 4
