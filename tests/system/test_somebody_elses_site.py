"""A real site that we did not make: Debian's python3-doc, byte for byte, and in a real browser."""

import asyncio
import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from live_network import EXAMPLES, LiveNetwork
from load import Client, Tally
from origin_folder import digests_of

FOLDER = Path("/usr/share/doc/python3/html")
HOST = "www.python.test"
pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="Debian's python3-doc is not installed")


@pytest.fixture(scope="module")
def docs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveNetwork]:
    with LiveNetwork(EXAMPLES / "python-docs", tmp_path_factory.mktemp("docs")) as network:
        yield network


def test_every_file_is_identical_through_three_regions(docs: LiveNetwork) -> None:
    expected = digests_of(FOLDER)
    assert len(expected) > 400

    async def through(city: str) -> Tally:
        tally = Tally()
        client = Client(docs.config, HOST, city, expected, tally)
        for path in expected:
            await client.fetch(path)
        await client.close()
        return tally

    async def all_regions() -> list[Tally]:
        return await asyncio.gather(*(through(city) for city in ("Tokyo", "Frankfurt", "Chicago")))

    for tally in asyncio.run(all_regions()):
        assert tally.wrong == []
        assert tally.failures == []
        assert tally.received.total() == len(expected)


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
def test_a_page_in_chromium_has_every_part_and_no_error(docs: LiveNetwork, tmp_path: Path) -> None:
    """Chromium's resolver rules send the site's name where the network's own name servers say."""
    found = docs.json("fetch", f"http://{HOST}/library/asyncio.html", "--from", "Paris")
    address = found["dns"][-1]["answers"][0].split()[-1]
    port = docs.config.network.edge.http_port
    log = tmp_path / "net.json"
    assert CHROMIUM is not None
    done = subprocess.run(
        [
            CHROMIUM,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            f"--user-data-dir={tmp_path / 'profile'}",
            f"--host-resolver-rules=MAP {HOST} {address}, MAP * ~NOTFOUND",
            f"--log-net-log={log}",
            "--enable-logging=stderr",
            "--v=0",
            "--virtual-time-budget=10000",
            "--dump-dom",
            f"http://{HOST}:{port}/library/asyncio.html",
        ],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert "asyncio" in done.stdout and "</html>" in done.stdout
    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    assert [line for line in console if "rror" in line] == []
    statuses = _statuses(log, HOST)
    assert len(statuses) >= 5, "the page's styles, scripts and pictures were asked for"
    assert {status for status in statuses.values() if status >= 400} == set(), statuses


def _statuses(log: Path, host: str) -> dict[str, int]:
    """Status by URL from Chromium's network log."""
    text = log.read_text()
    data = json.loads(text if text.rstrip().endswith("}") else text.rstrip().rstrip(",") + "]}")
    urls: dict[int, str] = {}
    statuses: dict[str, int] = {}
    for event in data["events"]:
        source, parameters = event["source"]["id"], event.get("params", {})
        if isinstance(parameters.get("url"), str) and host in parameters["url"]:
            urls[source] = parameters["url"]
        headers = parameters.get("headers")
        if source in urls and isinstance(headers, list) and headers and headers[0].startswith("HTTP/"):
            statuses[urls[source]] = int(headers[0].split()[1])
    return statuses
