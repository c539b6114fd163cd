"""What is told of something that goes wrong again and again."""

import logging

import pytest

from nearmile.fleet.health import HELD_BACK_S
from nearmile.services.trouble import START_S, Trouble


def test_it_is_told_once_and_once_that_it_is_over(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    trouble = Trouble(logging.getLogger("test"), "hits wait", "hits wait no more")
    for why in ("", "the disk is full", "the disk is full", "no bus", "", "", "no bus"):
        trouble.tell(why)
    assert [(one.levelname, one.getMessage()) for one in caplog.records] == [
        ("ERROR", "hits wait: the disk is full"),
        ("INFO", "hits wait no more"),
        ("ERROR", "hits wait: no bus"),
    ]


def test_what_may_be_of_a_start_is_an_error_once_it_lasts(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    told = [(0, "early"), (1, "early"), (7.9, ""), (8, "anew"), (15.9, "anew"), (16, "anew"), (99, "x"), (99, "")]
    at_s = [0.0]
    trouble = Trouble(logging.getLogger("test"), "no stream", "there it is", 8.0, lambda: at_s[0])
    for at_s[0], why in told:
        trouble.tell(why)
    assert [(one.levelname, one.getMessage()) for one in caplog.records] == [
        ("INFO", "no stream: early"),
        ("INFO", "there it is"),
        ("INFO", "no stream: anew"),
        ("ERROR", "no stream: anew"),
        ("INFO", "there it is"),
    ]


def test_a_map_that_is_held_back_to_the_end_is_told_as_an_error() -> None:
    assert START_S < HELD_BACK_S - 1, "and a leader tells at least each half second"
