"""What is told of something that goes wrong again and again."""

import logging

import pytest

from nearmile.services.trouble import Trouble


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
