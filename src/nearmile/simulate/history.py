"""What happened in a run, for the checkers: who lived when, what was answered, who published."""

from bisect import bisect_right
from math import inf

from msgspec import Struct


class Spans:
    """Stretches of time, added in order; the last may be open."""

    def __init__(self) -> None:
        self._starts_s: list[float] = []
        self._ends_s: list[float] = []

    def start(self, at_s: float) -> None:
        """A stretch begins, if none is open."""
        if not self._ends_s or self._ends_s[-1] != inf:
            self._starts_s.append(at_s)
            self._ends_s.append(inf)

    def end(self, at_s: float) -> None:
        """The open stretch ends, if there is one."""
        if self._ends_s and self._ends_s[-1] == inf:
            self._ends_s[-1] = at_s

    def moment(self, at_s: float) -> None:
        """A stretch without length; nothing within an open one."""
        if not self._ends_s or self._ends_s[-1] != inf:
            self.start(at_s)
            self.end(at_s)

    def since(self, at_s: float) -> float | None:
        """When the stretch around that time began; None where there is none."""
        index = bisect_right(self._starts_s, at_s) - 1
        return self._starts_s[index] if index >= 0 and at_s < self._ends_s[index] else None

    def touch(self, from_s: float, to_s: float) -> bool:
        """Whether a stretch has a moment in common with this time."""
        index = bisect_right(self._starts_s, to_s) - 1
        return index >= 0 and self._ends_s[index] >= from_s


class Answer(Struct, frozen=True):
    """What a nameserver answered; ``servers`` are names."""

    at_s: float
    nameserver: str
    unit: str
    region: str
    servers: tuple[str, ...]


class Absence(Struct, frozen=True):
    """At that time a nameserver's map lacked these servers."""

    at_s: float
    nameserver: str
    missing: tuple[str, ...]


class Publication(Struct, frozen=True):
    """A map that reached the KV."""

    at_s: float
    writer: str
    term: int
    version: int


class History:
    """The record of a run; times are the world's, in seconds."""

    def __init__(self) -> None:
        self.answers: list[Answer] = []
        self.absences: list[Absence] = []
        self.publications: list[Publication] = []
        self.dead: dict[str, Spans] = {}
        """When each server did not serve."""
        self.able: dict[str, Spans] = {}
        """When each server served and could reach the bus."""
        self.disturbed = Spans()
        """When the control plane could not work, and each moment at which a part of it came or went."""
        self.deaf: dict[str, Spans] = {}
        """When each nameserver could not hear the bus, until it is sure to have heard it again."""
