"""What servers of a region tell each other of what they store."""

import pytest

from edge_world import HOST, Asked, response, run, world
from nearmile.edge.visitors import Hop


def test_a_304_of_the_origin_changes_fields_at_all_servers() -> None:
    policies = ["one"]

    async def handler(asked: Asked) -> bytes:
        lines = "Cache-Control: max-age=60", 'ETag: "1"', f"Content-Security-Policy: {policies[-1]}"
        known = "if-none-match" in asked.fields
        return response(b"", *lines, status="304 Not Modified") if known else response(b"hello", *lines)

    async def test() -> None:
        async with world(handler, servers=2) as here:
            here.tell_map()
            clients = [await here.client(0), await here.client(1)]
            for policy in ("one", "two"):
                policies.append(policy)
                for client in clients:
                    found = await client.get("/a")
                    assert (found.body, found.fields["content-security-policy"]) == (b"hello", policy)
                here.skew_s += 61
            assert ["if-none-match" in asked.fields for asked in here.origin.asked] == [False, True]

    run(test())


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_a_change_that_passes_by_a_server_is_seen_there_at_once(method: str) -> None:
    versions = [0]

    async def handler(asked: Asked) -> bytes:
        if asked.line.startswith(method):
            versions[0] += 1
            return response(b"done")
        return response(b"%d" % versions[0], "Cache-Control: max-age=60", f'ETag: "{versions[0]}"')

    async def test() -> None:
        async with world(handler, servers=2) as here:
            here.tell_map()
            node = here.node
            prefix = node.sites[HOST.encode()].prefix
            site = node.sites[HOST.encode()]
            theirs = next(
                target
                for target in (f"/{number}" for number in range(99))
                if list(node.servers_before(site, prefix + target.encode(), Hop.CLIENT))
            )
            client, other = await here.client(0), await here.client(1)
            for version in range(3):
                assert (await client.get(theirs)).body == b"%d" % version
                assert (await other.get(theirs)).body == b"%d" % version, "the owner knows by then"
                await client.get(theirs, "Content-Length: 0", method=method)

    run(test())
