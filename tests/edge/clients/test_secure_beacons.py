"""Beacons by https, where a site's certificate is for their names; and the documentation's script in Chromium."""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import uvloop

from chromium import CHROMIUM, PATIENCE_S, Browser, key_of
from edge_world import ADDRESSES, HOST, Client, World, config, world
from h2_client import SECURE_PORT, trusting
from nearmile.mapping.beacons import Sighting
from nearmile.services import authority, state
from nearmile.services.certificates import Certificates
from secure_world import pages
from waiting import until

BELOW = "who.g.test.example"
RULES = {"hostnames": [HOST, f"*.{BELOW}"]}
DOCS = Path(__file__).parents[3] / "docs" / "mapping.md"


@contextlib.asynccontextmanager
async def secure(folder: Path) -> AsyncIterator[World]:
    """A world with https for a site and beacons."""
    document = config(rules=RULES)
    authority.ensure(folder, document, datetime.now(UTC))
    async with world(pages, rules=RULES) as here:
        certificates = Certificates(folder)
        certificates.take_config(document)
        certificates.refresh()
        await here.servers[0].listen_secure(ADDRESSES[0], SECURE_PORT, certificates.context)
        yield here


async def test_a_beacon_comes_by_https(tmp_path: Path) -> None:
    async with secure(tmp_path) as here:
        trust, name = (
            trusting(str(state.authority_files(tmp_path)[0]), "http/1.1"),
            f"0123456789abcdef.{BELOW}",
        )
        client = Client(*await asyncio.open_connection(ADDRESSES[0], SECURE_PORT, ssl=trust, server_hostname=name))
        client.send(f"GET / HTTP/1.1\r\nHost: {name}\r\n\r\n".encode())
        assert (await client.response()).status == 204
        assert here.node.beacons.take() == (Sighting("0123456789abcdef", 4, 0x7F0000),)
        assert not here.origin.asked
        client.writer.close()


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
def test_a_page_makes_beacons_as_documented(tmp_path: Path) -> None:
    (script,) = re.findall(r"```js\n(.*?)```", DOCS.read_text(), re.DOTALL)
    seen: list[Sighting] = []
    done = asyncio.Event()

    def browse(loop: asyncio.AbstractEventLoop) -> list[str]:
        address = ADDRESSES[0]
        site = state.site_files(tmp_path, "www")[0]
        flags = (
            f"--host-resolver-rules=MAP {HOST} {address}, MAP *.{BELOW} {address}:{SECURE_PORT}, MAP * ~NOTFOUND",
            f"--ignore-certificate-errors-spki-list={key_of(site)}",
        )
        with Browser(tmp_path / "profile", *flags) as browser:
            browser.open(f"https://{HOST}:{SECURE_PORT}/page")
            browser.value(f"{script.replace('ZONE', 'test.example')}; 1")
            asyncio.run_coroutine_threadsafe(asyncio.wait_for(done.wait(), PATIENCE_S), loop).result()
            browser.value("1")
            return browser.errors

    async def test() -> None:
        async with secure(tmp_path) as here:
            browsing = asyncio.create_task(asyncio.to_thread(browse, asyncio.get_running_loop()))

            def noted() -> bool:
                seen.extend(here.node.beacons.take())
                return bool(seen)

            await until(noted)
            done.set()
            assert await browsing == []
            ((nonce, family, _),) = seen
            assert len(nonce) == 20 and family == 4

    uvloop.run(asyncio.wait_for(test(), PATIENCE_S))
