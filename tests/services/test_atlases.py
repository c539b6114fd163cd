"""When the controller makes an atlas, and when not."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest
from msgspec import structs

from edge_world import config
from nearmile.mapping.atlas import Atlas
from nearmile.mapping.survey import make_atlas
from nearmile.services import atlases
from nearmile.services.atlases import Atlases
from nearmile.services.runtime import Runtime


def test_another_basis_is_made_an_atlas_of_once_though_the_same_comes_out(monkeypatch: pytest.MonkeyPatch) -> None:
    made, told = list[Atlas](), list[Atlas]()

    def make(*what: Any) -> Atlas:
        made.append(make_atlas(*what))
        return made[-1]

    monkeypatch.setattr(atlases, "make_atlas", make)
    first = config()
    second = structs.replace(first, network=structs.replace(first.network, units=first.network.units + 1))
    here = Atlases(cast(Runtime, SimpleNamespace()), lambda: True, told.append)

    async def scene() -> None:
        for each in (first, first, second, second, second):
            await here._make(each)

    asyncio.run(scene())
    assert len(made) == 2 and made[0].digest == made[1].digest and made[0].basis != made[1].basis
    assert len(told) == 1
