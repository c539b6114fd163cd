"""A hit over HTTP/2 is the same whether it is known by the bytes of its request, by its fields, or not at all."""

import itertools
from pathlib import Path

import pytest

from h2_client import Answer, connect
from nearmile.edge.clients.h2server import H2Connection
from secure_world import secure
from waiting import until

REQUESTS: dict[str, tuple[tuple[str, str], ...]] = {
    "plain": (),
    "of a browser": (("user-agent", "Mozilla/5.0"), ("accept", "text/html,*/*;q=0.8"), ("accept-language", "en")),
    "unchanged": (("if-none-match", '"1"'),),
    "changed": (("if-none-match", '"2"'),),
    "a range": (("range", "bytes=3-9"),),
    "a range beyond": (("range", "bytes=900000-"),),
    "two ranges": (("range", "bytes=0-1,5-6"),),
    "cookies": (("cookie", "a=1"), ("cookie", "b=2")),
    "asks anew": (("cache-control", "no-cache"),),
}


@pytest.mark.parametrize("path", ["/a", "/long"])
@pytest.mark.parametrize("name", REQUESTS)
async def test_all_ways_to_a_hit_lead_to_the_same(
    folder: Path, name: str, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = itertools.count()
    serve = H2Connection._serve

    def counted(self: H2Connection, number: int, *more: object) -> None:
        before = self.node.counter.requests
        serve(self, number, *more)  # type: ignore[arg-type]
        if self.node.counter.requests > before:
            next(served)

    monkeypatch.setattr(H2Connection, "_serve", counted)
    async with secure(folder) as (here, trust):
        client = await connect(trust)
        await client.get(path, ("x-first", "1"))
        await client.close()
        answers: list[tuple[Answer, object]] = []
        for _ in range(2):
            # The first time by nothing, later by the fields, at last by the bytes, which the client repeats.
            client = await connect(trust)
            for _ in range(4):
                count = len(here.records)
                answer = await client.get(path, *REQUESTS[name])
                await until(lambda count=count: len(here.records) > count)  # type: ignore[misc]
                for moving in ("age", "date"):
                    answer.fields.pop(moving, None)
                answers.append((answer, here.records[-1]))
            await client.close()
        assert all(one == answers[0] for one in answers), answers
        taken = next(served)
        assert taken == (0 if name in ("a range beyond", "asks anew") else 7), taken
