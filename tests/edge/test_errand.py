"""Errands: coroutines run to their end, cancelled where they wait, and told of as tasks are."""

import asyncio

import pytest

from nearmile.edge.errand import Errand
from nearmile.edge.wake import turn

pytestmark = pytest.mark.virtual


def begin(work: object, told: list[Exception | None]) -> Errand:
    return Errand(asyncio.get_running_loop(), work, told.append)  # type: ignore[arg-type]


async def test_it_begins_later_and_is_told_of_at_its_end() -> None:
    steps, told = [], list[Exception | None]()
    come = asyncio.get_running_loop().create_future()

    async def work() -> None:
        steps.append("begun")
        await turn()
        steps.append(await come)

    begin(work(), told)
    assert not steps
    await asyncio.sleep(0)
    assert steps == ["begun"]
    come.set_result("come")
    await asyncio.sleep(0.01)
    assert steps == ["begun", "come"] and told == [None]


async def test_what_it_raises_is_told() -> None:
    told = list[Exception | None]()

    async def work() -> None:
        raise ValueError("no")

    begin(work(), told)
    await asyncio.sleep(0.01)
    assert isinstance(told[0], ValueError)


@pytest.mark.parametrize("begun", [False, True])
@pytest.mark.parametrize("come", [False, True])
async def test_cancelled_it_tidies_up_and_ends_untold(begun: bool, come: bool) -> None:
    steps, told = [], list[Exception | None]()
    future = asyncio.get_running_loop().create_future()

    async def work() -> None:
        try:
            await future
            steps.append("on")
        finally:
            await turn()
            steps.append("tidied")

    errand = begin(work(), told)
    if begun:
        await asyncio.sleep(0)
    if come:
        future.set_result(None)  # and the errand is to go on
    errand.cancel()
    await asyncio.sleep(0.01)
    assert steps == (["tidied"] if begun else []) and not told
