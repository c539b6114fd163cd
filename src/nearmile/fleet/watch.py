"""Which processes of a machine are silent, and which of them hang, so that their supervisor has to end them.

A process that hangs never ends by itself, so nobody would start it again. But silence has other reasons, too. None
counts in which the bus did not answer, nobody else was heard (then it is rather the bus or the machine) or the
supervisor itself did not run. And until its first word a process has longer.
"""

from collections.abc import Iterable
from math import inf

# The bus is a process whose words are what it gives back of what it was told.
BUS = "nats"
BUS_SILENT_AFTER_S = 2.0
# So many times the silence that is shown: half a minute, as orchestrators give. Users are elsewhere within two
# seconds, and no work between two beats takes so long.
HUNG_TIMES = 15
# With the bus's connections all of the control plane is interrupted, and meanwhile delivery goes on.
BUS_HUNG_AFTER_S = 60.0
# Its streams wait for a disk, which may be slow; and heartbeats still come while they alone hang.
STREAMS_HUNG_AFTER_S = 120.0
# Until the first word. Where thirty start at once on two cores that are busy it takes half a minute: the program,
# the configuration and the map are read before it, what a disk holds beside it.
START_S = 120.0
# A store of 9 GB (services/natsserver.py), read whole as its index is lost, from a disk that gives 20 MB a second.
BUS_START_S = 600.0
# Who looks four times a second, and then not for so long, was stopped; shorter pauses are far below the above.
PAUSE_S = 5.0


class Watch:
    """The processes of one machine, by what their supervisor hears. Times are of one monotonic clock."""

    def __init__(self, silent_after_s: float) -> None:
        self.silent_after_s = silent_after_s
        self._begun: dict[str, float] = {}
        self._heard: dict[str, float] = {}  # when those that have spoken in this life last did
        self._streams_s: float | None = None  # when the bus's streams last answered in its life
        self._ended: set[str] = set()
        self._looked_s = self._awake_s = self._answering_s = self._listening_s = -inf
        """When we last looked; since when we have done so without a pause; since when the bus answers; since when
        silence means something."""

    def forget(self, name: str) -> None:
        """The process is to end."""
        for known in (self._begun, self._heard):
            known.pop(name, None)
        self._ended.discard(name)
        if name == BUS:
            self._streams_s = None

    def begin(self, name: str, now_s: float) -> None:
        """A new life of the process begins."""
        self.forget(name)
        self._begun[name] = now_s

    def hear(self, name: str, now_s: float) -> None:
        """The process has said something."""
        self._heard[name] = now_s

    def hear_streams(self, now_s: float) -> None:
        """The bus has given back something that it keeps."""
        self._streams_s = now_s

    def heard(self, name: str) -> bool:
        """Whether it has said anything in this life."""
        return name in self._heard

    def silent(self, name: str, now_s: float) -> bool:
        """Whether it speaks no more."""
        after_s = BUS_SILENT_AFTER_S if name == BUS else self.silent_after_s
        return now_s - self._heard.get(name, inf) > after_s

    def answers(self, now_s: float) -> bool:
        """Whether the bus does."""
        return self.heard(BUS) and not self.silent(BUS, now_s)

    def look(self, now_s: float) -> list[str]:
        """Those that hang, each once in a life. To be called several times a second."""
        if now_s - self._looked_s > PAUSE_S:
            self._awake_s = self._answering_s = self._listening_s = now_s
        self._looked_s = now_s
        bus, spoken, starting = {BUS}, self._heard.keys(), self._begun.keys() - self._heard.keys()
        if not self.answers(now_s):
            self._answering_s = self._listening_s = now_s
        elif all(self.silent(name, now_s) for name in spoken - bus):
            self._listening_s = now_s
        hung = [
            *self._longer_silent(spoken - bus, self._listening_s, self.silent_after_s * HUNG_TIMES),
            *self._longer_silent(starting - bus, self._answering_s, START_S),
            *self._longer_silent(spoken & bus, self._awake_s, BUS_HUNG_AFTER_S),
            *self._longer_silent(starting & bus, self._awake_s, BUS_START_S),
        ]
        if self._streams_hang(now_s) and BUS not in self._ended.union(hung):
            hung.append(BUS)
        self._ended.update(hung)
        return hung

    def _streams_hang(self, now_s: float) -> bool:
        """Whether the bus gives nothing back of what it keeps, for too long."""
        since_s, after_s = self._streams_s, STREAMS_HUNG_AFTER_S
        if since_s is None:
            since_s, after_s = self._begun.get(BUS, inf), BUS_START_S + STREAMS_HUNG_AFTER_S
        return now_s - max(since_s, self._awake_s) > after_s

    def _longer_silent(self, names: Iterable[str], since_s: float, after_s: float) -> list[str]:
        """Those that at the last look had been silent for more than ``after_s`` since then."""
        spoke_s = self._begun | self._heard
        return sorted(
            name
            for name in names
            if name not in self._ended and self._looked_s - max(spoke_s[name], since_s) > after_s
        )
