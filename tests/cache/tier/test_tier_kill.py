"""A process that stores at full speed is killed: what it had stored some turns before is there."""

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path

from nearmile.cache.store import MemoryStore
from nearmile.cache.tier.store import DiskStore
from tier_world import HEAD, body_of, kept

MEMORY_BYTES, DISK_BYTES = 8 << 20, 256 << 20
STORED = 1000
# A turn stores as many. In so many turns, which take about a second, the thread that writes has its own: a machine
# that pauses pauses both.
TOLD_EVERY, TURNS = 20, 100


def body(number: int) -> bytes:
    return b"%d " % number * (1 + number % 400)


def key(number: int) -> bytes:
    return b"\x00\x00\x01/%d" % number


def store_for_ever(folder: Path) -> None:
    """The child: says how much it has stored."""
    memory = MemoryStore(MEMORY_BYTES)
    DiskStore(folder, DISK_BYTES, memory)
    number = 0
    while True:
        assert memory.put(key(number), (), kept(), HEAD, body(number), 0) is not None
        number += 1
        if number % TOLD_EVERY == 0:
            print(number, flush=True)
            # As a server, which waits for the next request now and then.
            time.sleep(0.001)


def test_what_was_stored_some_turns_before_a_kill_is_there(tmp_path: Path) -> None:
    child = subprocess.Popen(
        [sys.executable, __file__, str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert child.stdout is not None
    while int(child.stdout.readline()) < STORED + TURNS * TOLD_EVERY:
        pass
    child.kill()
    child.wait()
    child.stdout.close()
    started_s = time.perf_counter()
    memory = MemoryStore(MEMORY_BYTES)
    disk = DiskStore(tmp_path, DISK_BYTES, memory)
    opened_s = time.perf_counter() - started_s

    async def count() -> int:
        found = [await body_of(memory, key(number)) for number in range(STORED)]
        assert all(each is None or each == body(number) for number, each in enumerate(found))
        return STORED - found.count(None)

    there = asyncio.run(count())
    print(f"{there} of {STORED} there; {len(disk) / opened_s:,.0f} responses indexed a second")
    assert there >= 0.99 * STORED
    disk.close()


if __name__ == "__main__":
    store_for_ever(Path(sys.argv[1]))
