"""Request smuggling over real sockets: the client's bytes, the edge, and what the origin makes of its bytes.

Behind each shape the same client sends a marker. The origin must see no more requests than RFC 9112 finds in what
the client sent, each as plain as can be; the client must get as many responses; and after what is no request the
connection ends, the marker unseen.
"""

import asyncio
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from edge_world import Client, Response, request, run, world
from nearmile.edge import limits
from plain_origin import PlainOrigin
from smuggling import SHAPES, Shape

ANSWER_S = 10.0


class Context(NamedTuple):
    """How a shape is sent."""

    method: str
    stored: bool = False
    """The response to a GET of that target is in the cache."""
    pieces: int = 1


CONTEXTS = {
    "cacheable": Context("GET"),
    "stored": Context("GET", stored=True),
    "stored-in-pieces": Context("GET", stored=True, pieces=50),
    "passed": Context("POST"),
    "passed-in-pieces": Context("POST", pieces=400),
}


@pytest.mark.parametrize("context", CONTEXTS.values(), ids=CONTEXTS)
def test_nothing_is_smuggled(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "LINGER_S", 10.0)  # where others use the processor, 400 pieces take their time
    assert len(SHAPES) > 500
    wrong: dict[str, list[str]] = {}

    async def test() -> None:
        origin = PlainOrigin()
        async with world(origin) as here:
            for number, shape in enumerate(SHAPES):
                target = f"/{number:06d}"
                if context.stored:
                    await (await here.client()).get(target)
                origin.forget()
                client = await here.client()
                try:
                    async with asyncio.timeout(ANSWER_S):
                        faults = [*await judge_answers(client, shape, context, target)]
                except TimeoutError:
                    faults = ["no answer"]
                faults += judge_origin(origin, shape, context, target)
                client.writer.close()
                if faults:
                    wrong[shape.id] = faults

    run(test())
    assert not wrong, "\n".join(f"{name}: {faults}" for name, faults in wrong.items())


async def judge_answers(client: Client, shape: Shape, context: Context, target: str) -> list[str]:
    """Sends a shape and the marker; what is wrong with the responses."""
    wire = shape.wire.replace(b"METHOD", context.method.encode()).replace(b"/TARGET", target.encode())
    wire += request(f"/marker{target}")
    step = -(-len(wire) // context.pieces)
    for at in range(0, len(wire), step):
        if client.writer.is_closing():
            break
        client.send(wire[at : at + step])
        await asyncio.sleep(0)
    answers = [await final(client) for _ in shape.statuses]
    faults = [f"answered {answer.status}, {answer.body!r}" for answer in answers]
    if tuple(answer.status for answer in answers) == shape.statuses:
        faults = []
    for answer, body in zip(answers, (target, "/hidden"), strict=False):
        if answer.status == 200 and answer.body != body.encode():
            faults.append(f"answered {answer.body!r}")
    if shape.open:
        if (marker := await final(client)).body != f"/marker{target}".encode():
            faults.append(f"the marker is answered {marker.status}, {marker.body!r}")
    elif answers[-1].fields.get("connection") != "close":
        faults.append("the client is not told of the end")
    elif rest := await client.ended():
        faults.append(f"more is answered: {rest!r}")
    return faults


async def final(client: Client) -> Response:
    """The next response that is not interim."""
    while (answer := await client.response()).status < 200:
        pass
    return answer


def judge_origin(origin: PlainOrigin, shape: Shape, context: Context, target: str) -> Iterator[str]:
    """What is wrong with what the origin got."""
    seen = [(one.target, one.body) for one in origin.seen]
    expected = [*zip((target, "/hidden"), shape.bodies, strict=False)]
    if shape.open:
        expected.append((f"/marker{target}", b""))
    if context.stored and seen != expected:
        expected = [one for one in expected if one != (target, b"")]
    if seen != expected:
        yield f"the origin saw {seen}"
    # In what the origin got and could not take for a request, too, nothing may look like one.
    for hidden, wanted in (
        (b" /hidden ", sum(one[1].count(b" /hidden ") + (one[0] == "/hidden") for one in expected)),
        (b" /marker", int(shape.open)),
    ):
        if context.pieces == 1 and "one-byte-each" not in shape.id and origin.raw.count(hidden) != wanted:
            yield f"the origin got {origin.raw!r}"
    yield from (f"the origin could read it otherwise: {fault}" for fault in origin.faults)
