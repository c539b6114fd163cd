"""The writer of a store on disk: what was decided gathers, and one thread carries it out in its order.

Work gathers twice, before it is handed over and before the thread takes it: what is done for many in a row finds
its code in the processor's caches, and to wake a thread for each response, or for each purge order, takes longer
than to write what it says. So an order is confirmed before it is on disk, where a position follows the marks it
stands for: what a crash keeps from there is read from the log again.
"""

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from queue import SimpleQueue

from nearmile.cache.tier.disk import Files, Job, Run, Write, in_runs
from nearmile.cache.tier.index import Copy
from nearmile.cache.tier.places import Place

logger = logging.getLogger("nearmile.cache")

# A disk that could not be written is tried again.
REST_S = 10.0
# How long a stop waits for what is still to be written, and synced.
CLOSE_S = 5.0
GATHER_S = 0.01

Later = Callable[[float, Callable[[], None]], object]  # an event loop's call_later


class Writer:
    """Writes to ``files``. For one event loop; until it has that one's ``later`` all is handed over at once.

    ``settle`` is called before each handing over: it may give more.
    """

    def __init__(self, files: Files, settle: Callable[[], None]) -> None:
        self._files, self._settle = files, settle
        self.later: Later | None = None
        self._jobs, self._due = list[Write | Job](), False
        self._queue: SimpleQueue[list[Write | Job] | threading.Event | None] = SimpleQueue()
        self._hurry = threading.Event()
        self._pending: dict[Place, Write | Copy] = {}
        # Counted by one thread each, so that no lock is needed.
        self._given_bytes = self._done_bytes = 0
        self._rests_until_s, self._trusted = 0.0, True
        self.faults, self.failing = 0, False
        """Records not written; whether that goes on."""
        self._thread = threading.Thread(target=self._run, name="nearmile-write", daemon=True)
        self._thread.start()

    @property
    def pending(self) -> Mapping[Place, Write | Copy]:
        """What is not yet written, by its place."""
        return self._pending

    @property
    def waiting_bytes(self) -> int:
        """Of new records."""
        return self._given_bytes - self._done_bytes

    @property
    def working(self) -> bool:
        """False for some time after a write has failed."""
        return self._rests_until_s <= time.monotonic()

    def give(self, jobs: Sequence[Write | Job]) -> None:
        """Has them done, after what was given before."""
        for job in jobs:
            if isinstance(job, Write):
                self._pending[job.place] = job
                self._given_bytes += job.place.length
            elif isinstance(job, Copy):
                self._pending[job.target] = job
        self._jobs += jobs
        self.soon()

    def soon(self) -> None:
        """Hands over, with what else comes until then."""
        if self.later is None:
            self.hand_over()
        elif not self._due:
            self._due = True
            self.later(GATHER_S, self.hand_over)

    def hand_over(self) -> None:
        """Has the thread go on with what was given so far."""
        self._due = True  # what comes now is in time
        try:
            self._settle()
        finally:
            self._due = False
        if self._jobs:
            self._queue.put(self._jobs)
            self._jobs = []

    def flush(self) -> None:
        """Waits until everything given so far has been done, or has failed. Blocks."""
        done = threading.Event()
        self.hand_over()
        self._queue.put(done)
        self._hurry.set()
        done.wait()

    def close(self) -> None:
        """Does what was given, and ends. Blocks, for CLOSE_S at most."""
        self.hand_over()
        self._queue.put(None)
        self._hurry.set()
        self._thread.join(CLOSE_S)

    def _run(self) -> None:
        while (jobs := self._queue.get()) is not None:
            if isinstance(jobs, threading.Event):
                self._hurry.clear()
                jobs.set()
            else:
                self._do(jobs)
            del jobs  # bodies, which nobody else may need
            if self._queue.empty():
                self._hurry.wait(GATHER_S)

    def _do(self, jobs: list[Write | Job]) -> None:
        for job in in_runs(jobs):
            if isinstance(job, Run):
                self._add(job)
                for write in job.writes:
                    self._pending.pop(write.place, None)
                    self._done_bytes += write.place.length
            elif isinstance(job, Copy):
                self._add(job)
                self._pending.pop(job.target, None)
            elif self._trusted:
                self._forget(job)

    def _add(self, job: Run | Copy) -> None:
        """Writes records, unless the disk rests."""
        if not self.working:
            self.faults += 1
            return
        try:
            self._files.do(job)
        except OSError as error:
            self.faults += 1
            self._rests_until_s = time.monotonic() + REST_S
            if not self.failing:
                logger.error("the disk of the cache cannot be written, memory goes on alone: %s", error)
            self.failing = True
            return
        if self.failing:
            logger.info("the disk of the cache can be written again")
            self.failing = False

    def _forget(self, job: Job) -> None:
        """What must not fail, or what is on disk cannot be relied on after a restart."""
        try:
            self._files.do(job)
        except OSError as error:
            logger.error("the disk of the cache cannot be kept right, the next start is without it: %s", error)
            self._trusted, self.failing = False, True
            with contextlib.suppress(OSError):
                self._files.distrust()
