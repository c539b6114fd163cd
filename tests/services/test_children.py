import asyncio
import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from edge_world import config
from nearmile.services import children
from waiting import PATIENCE_S

SLEEPER = [sys.executable, "-c", "import time; print('here', flush=True); time.sleep(60)"]
STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('here', flush=True); time.sleep(60)"
)


def test_a_child_says_why_it_ended(tmp_path: Path) -> None:
    async def run() -> tuple[int, int]:
        child = await children.start([sys.executable, "-c", "raise SystemExit(3)"], tmp_path / "a.log")
        killed = await children.start(SLEEPER, tmp_path / "b.log")
        killed.signal(signal.SIGKILL)
        return await child.wait(), await killed.wait()

    assert asyncio.run(run()) == (3, -signal.SIGKILL)


def test_stop_ends_also_what_does_not_want_to(tmp_path: Path) -> None:
    async def run() -> int:
        log = tmp_path / "a.log"
        child = await children.start([sys.executable, "-c", STUBBORN], log)
        while not log.read_text():
            await asyncio.sleep(0.01)
        await child.stop(patience_s=0.2)
        return await child.wait()

    assert asyncio.run(run()) == -signal.SIGKILL


def test_a_child_does_not_outlive_its_agent(tmp_path: Path) -> None:
    """The parent is killed where it cannot tidy up; the kernel tells the child."""
    program = (
        "import asyncio, os, signal, sys\nfrom pathlib import Path\nfrom nearmile.services import children\n"
        "async def run():\n"
        "    sleeper = [sys.executable, '-c', 'import time; time.sleep(60)']\n"
        "    child = await children.start(sleeper, Path(sys.argv[1]))\n"
        "    print(child.pid, flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "asyncio.run(run())\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path / "a.log")], capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    pid = int(done.stdout)

    async def gone() -> None:
        async with asyncio.timeout(PATIENCE_S):
            while Path(f"/proc/{pid}/cmdline").exists() and Path(f"/proc/{pid}/cmdline").read_bytes():
                await asyncio.sleep(0.01)

    asyncio.run(gone())


def test_what_a_killed_agent_has_left_is_ended(tmp_path: Path) -> None:
    """One stops as it was told; one hangs; and others' processes are nobody's business of ours."""
    mine, other, made = tmp_path / "mine", tmp_path / "other", config()
    processes = []
    for root, name in ((mine, "controller-1"), (mine, "here-1"), (other, "controller-1")):
        root.mkdir(exist_ok=True)
        (root / "config.json").write_bytes(msgspec.json.encode(made))
        words = children.command(Path(root.name), made.process(name))
        processes.append(subprocess.Popen(words, cwd=tmp_path, stderr=subprocess.DEVNULL))
    ends, hangs, others = processes
    try:
        hangs.send_signal(signal.SIGSTOP)
        ends.terminate()
        assert ends.wait(PATIENCE_S) in (0, -signal.SIGTERM)
        children.end_left(mine, 0)  # also where who ends them was stopped for as long as they may take
        assert hangs.wait(PATIENCE_S) == -signal.SIGKILL
        assert others.poll() is None and children.left(other) == [others.pid]
    finally:
        for one in processes:
            one.kill()
            one.wait()


def test_a_log_that_grew_too_large_is_moved_aside(tmp_path: Path) -> None:
    log = tmp_path / "log" / "a.log"
    with children.open_log(log) as out:
        os.truncate(out.fileno(), children.LOG_BYTES_MAX + 1)
    with children.open_log(log) as out:
        assert out.tell() == 0
    assert log.with_suffix(".log.1").stat().st_size > children.LOG_BYTES_MAX


def test_a_log_is_bounded_while_it_is_written(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    with children.open_log(log) as out:
        out.write(b"x" * children.LOG_BYTES_MAX + b"said")
        out.flush()
        children.bound_log(log)
        out.write(b"on")
    children.bound_log(log)
    assert log.read_bytes() == b"on"
    assert log.with_suffix(".log.1").read_bytes().endswith(b"xsaid")


def test_a_full_disk_keeps_no_log_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("shutil.copyfile", full)
    with children.open_log(log := tmp_path / "a.log") as out:
        os.truncate(out.fileno(), children.LOG_BYTES_MAX + 1)
    children.bound_log(log)
    assert log.stat().st_size == 0


def test_a_disk_that_takes_no_log_keeps_nothing_from_starting(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    async def run() -> int:
        child = await children.start([sys.executable, "-c", "print('here')"], tmp_path / "file" / "a.log")
        return await child.wait()

    (tmp_path / "file").write_text("")
    assert asyncio.run(run()) == 0
    assert capfd.readouterr().out == "here\n"
