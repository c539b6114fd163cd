"""``nearmile purge``: a URL leaves every server's cache."""

import argparse
import time
import uuid
from urllib.parse import urlsplit

import msgspec
import uvloop

from nearmile.base.errors import NearmileError, WrongInput
from nearmile.cli import status
from nearmile.services import state
from nearmile.services.bus import Bus

CONNECT_PATIENCE_S = 3.0
ANSWER_PATIENCE_S = 3.0
# A server asks its region's owner of the object before it asks the origin. In the first round a server may refill
# from an owner that has not purged yet; in the second every owner has.
ROUNDS = 2


def purge(args: argparse.Namespace) -> int:
    """Prints how many servers confirmed; exit code 1 unless all did."""
    url = urlsplit(args.url)
    if url.scheme not in ("http", "https") or not url.hostname:
        raise WrongInput(f"{args.url!r} is not a URL such as http://www.example.test/page.html")
    path = (url.path or "/") + (f"?{url.query}" if url.query else "")
    edges = {one.name for one in status.read(args.state).processes if one.role == "edge"}
    started_s = time.perf_counter()
    confirmed, objects = uvloop.run(_purge(args, url.hostname, path, edges))
    missing = sorted(edges - confirmed)
    total_ms = (time.perf_counter() - started_s) * 1000
    result = {
        "confirmed": len(confirmed),
        "servers": len(edges),
        "missing": missing,
        "objects": objects,
        "total_ms": round(total_ms, 1),
    }
    if args.json:
        print(msgspec.json.encode(result).decode())
    else:
        print(
            f"{len(confirmed)} of {len(edges)} servers confirmed, {objects} stored copies removed, "
            f"{total_ms:.1f} ms" + "".join(f"\n  no answer: {name}" for name in missing)
        )
    return 0 if confirmed >= edges else 1


async def _purge(args: argparse.Namespace, host: str, path: str, edges: set[str]) -> tuple[set[str], int]:
    config = state.read_config(args.state)
    bus = Bus(state.bus_url(config), state.read_token(args.state), "purge")
    bus.start()
    try:
        if not await bus.connected(CONNECT_PATIENCE_S):
            raise NearmileError("the bus (NATS) does not answer; nothing was purged")
        confirmed, objects = set(edges), 0
        for _ in range(ROUNDS):
            question = msgspec.json.encode({"id": str(uuid.uuid4()), "host": host, "path": path})
            answers = await bus.request_many("purge", question, len(edges), ANSWER_PATIENCE_S)
            replies = [msgspec.json.decode(answer) for answer in answers]
            confirmed &= {reply["name"] for reply in replies}
            objects += sum(reply["purged"] for reply in replies)
        return confirmed, objects
    finally:
        await bus.close()
