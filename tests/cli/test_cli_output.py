"""What is said to somebody who does not read."""

import os
import re
import sys
import threading
from pathlib import Path

import pytest

from nearmile.cli import output
from nearmile.cli.output import Output

LINES = 100_000


def test_who_reads_gets_all_of_it(tmp_path: Path) -> None:
    with (tmp_path / "said").open("w") as stream:
        out = Output(stream)
        print("first", file=out)
        print("seconde \u00e9", file=out, flush=True)
        out.close()
        assert (tmp_path / "said").read_text() == "first\nseconde \u00e9\n"
        assert not out.isatty()


def test_who_does_not_read_holds_up_nobody_and_is_told_how_much_was_missed() -> None:
    reader, writer = os.pipe()
    with os.fdopen(writer, "w") as stream, os.fdopen(reader, "rb") as said:
        out = Output(stream)
        for number in range(LINES):  # a pipe holds 64 KB
            out.write(f"line {number:10}\n")
        seen = 0
        while not (dropped := re.match(rb"\((\d+) lines more were not shown", said.readline())):
            seen += 1
        print("after", file=out)
        assert said.readline() == b"after\n"
    assert seen + int(dropped[1]) == LINES and int(dropped[1]) > LINES / 2


def test_the_end_does_not_wait_for_who_does_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output, "CLOSE_PATIENCE_S", 0.05)
    reader, writer = os.pipe()
    with os.fdopen(writer, "w") as stream, os.fdopen(reader, "rb") as said:
        out = Output(stream)
        print("x" * 100_000, file=out)
        closing = threading.Thread(target=out.close)
        closing.start()
        closing.join(10)
        assert not closing.is_alive()
        assert len(said.readline()) == 100_001


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="of Linux")
def test_what_cannot_be_written_is_not_said() -> None:
    with open("/dev/full", "w") as stream:
        out = Output(stream)
        print("lost", file=out)
        out.close()
        assert out.fileno() == stream.fileno() != sys.stdout.fileno()
