"""Who is out of the answers after `nearmile drain`."""

import pytest

from edge_world import config
from nearmile.base.errors import WrongInput
from nearmile.cli.drain import after

OUT = frozenset(("here", "gone"))


def names(*those: str) -> frozenset[str]:
    return frozenset(those)


def test_names_go_out_and_return() -> None:
    assert after(config(), names(), names("here", "here-1"), undo=False) == names("here", "here-1")
    assert after(config(), OUT, names(), undo=False) == after(config(), OUT, names(), undo=True) == OUT
    assert after(config(), OUT, names("here"), undo=True) == names("gone")


def test_who_was_taken_out_before_the_documents_lost_it_can_return() -> None:
    assert after(config(), OUT, names("gone"), undo=True) == names("here")


@pytest.mark.parametrize(("name", "undo"), [("gone", False), ("nobody", True)])
def test_strangers_are_named(name: str, undo: bool) -> None:
    with pytest.raises(WrongInput, match=f"no region or server is called {name}"):
        after(config(), OUT, names(name), undo)
