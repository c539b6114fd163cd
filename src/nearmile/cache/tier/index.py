"""Where each record is, where the next one goes, and which segments make room.

    new -> the log -> hit, or still in memory? -> segments on disk -> hit, or in memory? -> on disk again
                  \\-> gone                                       \\-> gone

Records are appended to segments, files that are never overwritten, and segments go in the order in which they were
begun. The log is short and best in memory: a file system of the kernel's, which outlives the process. Only what is
asked for again while it is there is written to the disk; who goes unasked for is remembered in a Bloom filter, and
on a return begins on the disk. That is S3-FIFO (Yang et al., SOSP 2023) by segments, and what is asked for once
costs the disk nothing.

Everything is decided here and nothing done: methods leave ``commands``, to be carried out in their order. Whatever
leaves the index is killed by a command of its own before anything that follows from its going; so what is alive in
the files is in the index, at every moment in the sequence of commands.

A record of a site that is within its part of the disk (see ``shares``) stays, asked for or not.

A record costs 130 to 150 bytes of memory: two numbers of 32 and 48, their place in a dictionary, and 8 bytes
in the list of its segment.
"""

from array import array
from collections import deque
from typing import NamedTuple

from nearmile.cache.shares import Shares
from nearmile.cache.tier.record import RECORD_BYTES_MAX
from nearmile.cache.tier.seen import Seen

# So many segments, so that one that makes room is a small part; but files of a size that a file system likes.
SEGMENTS = 64
SEGMENT_BYTES_MIN, SEGMENT_BYTES_MAX = 16 << 10, 64 << 20
# Room is made before it is needed, a few records for each that comes: no segment is gone through at once.
STEPS = 8
SPARE_SEGMENTS = 2
# The log's part of the disk, where it cannot be in memory: that of the paper.
LOG_SHARE = 0.1
# Of what a segment frees, no more than this goes to records that stay: the disk is written at most four times.
KEPT_SHARE = 0.75
# No record takes more of the disk.
RECORD_SHARE = 0.25
# A segment of so few records is kept as it is where most of it would stay: large bodies are not copied around.
FEW_RECORDS = 64
# What a record is guessed to have, for the size of the Bloom filters.
GUESSED_RECORD_BYTES = 4 << 10
# Also the bound in memory.
VARIANTS_MAX = 64

IN_MEMORY, HIT = 1, 2
# Of a packed place: the flags, the site's serial, the place.
SITE_SHIFT, PLACE_SHIFT = 2, 26


class Place(NamedTuple):
    """A record's."""

    segment: int
    offset: int
    length: int

    @property
    def end(self) -> tuple[int, int]:
        """Segment and offset of what is behind it."""
        return self.segment, self.offset + self.length


class Copy(NamedTuple):
    """Write the record at ``source`` to ``target`` as well."""

    source: Place
    target: Place


class Kill(NamedTuple):
    """This record must not be used any more, whatever happens."""

    place: Place


class Unlink(NamedTuple):
    """Delete a segment."""

    segment: int


Command = Copy | Kill | Unlink


def on_disk(segment: int) -> bool:
    """Whether a segment of that number is one on disk, or one of the log."""
    return bool(segment & 1)


class _Segment:
    """A file: its number, its size, and the names of its records in their order."""

    __slots__ = ("length", "names", "number")

    def __init__(self, number: int) -> None:
        self.number, self.length = number, 0
        self.names = array("Q")


class _Area:
    """Segments that go in the order in which they came; only the newest is appended to, if it is open."""

    def __init__(self, capacity_bytes: int, on_disk: bool) -> None:
        self.capacity_bytes, self.on_disk = capacity_bytes, on_disk
        self.segment_bytes = min(max(capacity_bytes // SEGMENTS, SEGMENT_BYTES_MIN), SEGMENT_BYTES_MAX)
        self.early_bytes = capacity_bytes - SPARE_SEGMENTS * self.segment_bytes
        self.segments: deque[_Segment] = deque()
        self.open: _Segment | None = None
        self.used_bytes = 0
        self.checked = 0
        """How many records of the oldest segment have been gone through."""
        self.credit_bytes = 0.0
        """What may be kept of those that are gone through."""


class _Varied:
    """An object's variants: by which fields, and the names of their records."""

    __slots__ = ("fields", "names")

    def __init__(self, fields: tuple[bytes, ...]) -> None:
        self.fields = fields
        self.names: dict[int, None] = {}


class Index:
    """At most ``log_bytes`` in the log's segments, and ``capacity_bytes`` in those on disk."""

    def __init__(self, capacity_bytes: int, log_bytes: int) -> None:
        self._log, self._disk = _Area(log_bytes, False), _Area(capacity_bytes, True)
        self.record_bytes_max = min(int(capacity_bytes * RECORD_SHARE), RECORD_BYTES_MAX)
        self.commands: list[Command] = []
        self.settled_bytes = 0
        """Written to the disk."""
        self._places: dict[int, int] = {}
        self._varied: dict[int, _Varied] = {}
        self._object_of: dict[int, int] = {}
        self._gone = Seen(capacity_bytes, capacity_bytes // GUESSED_RECORD_BYTES)
        """What went unasked for from the log."""
        self.shares = Shares(capacity_bytes)
        """What each site's records take."""
        self._count = 0
        self._turns: dict[int, int] = {}
        """When each segment was begun, or last kept, on the count of those that were begun."""

    def __len__(self) -> int:
        return len(self._places)

    @property
    def used_bytes(self) -> int:
        """The sum of the segments' sizes."""
        return self._log.used_bytes + self._disk.used_bytes

    def fields(self, object_name: int) -> tuple[bytes, ...]:
        """The request fields that tell this object's variants apart; empty if it has none."""
        varied = self._varied.get(object_name)
        return () if varied is None else varied.fields

    def count(self, object_name: int) -> int:
        """How many records of an object there are."""
        varied = self._varied.get(object_name)
        return (object_name in self._places) if varied is None else len(varied.names)

    def place(self, name: int) -> Place | None:
        """Where the record of that name is."""
        packed = self._places.get(name)
        return None if packed is None else _place(packed)

    def put(
        self, object_name: int, name: int, fields: tuple[bytes, ...], length: int, in_memory: bool, site: int
    ) -> Place | None:
        """A place for a new record of that site, instead of the old one; None where there is none for it (yet)."""
        self.make_way(object_name, name, fields)
        if length > self.record_bytes_max:
            return None
        known, waits = name in self._gone, length <= self._log.capacity_bytes
        if not (known or waits or self.shares.within(site, length)):
            self._gone.add(name, length)
            return None
        area = self._log if waits and not known else self._disk
        self._make_room(area, length)
        self.shares.use(site, length)
        place = self._append(area, name, length, site << SITE_SHIFT | (IN_MEMORY if in_memory else 0))
        self._vary(object_name, name, fields)
        return place

    def make_way(self, object_name: int, name: int, fields: tuple[bytes, ...]) -> None:
        """Forgets what a new record of that name, told apart by those fields, takes the place of."""
        if self.fields(object_name) != fields:
            self.remove_object(object_name)
        self.remove(name)

    def hit(self, name: int, in_memory: bool) -> None:
        """It was found, and perhaps taken into memory."""
        if name in self._places:
            self._places[name] |= self._hit(name) | (IN_MEMORY if in_memory else 0)

    def left(self, name: int, hit: bool) -> None:
        """It is no longer in memory, and was asked for there or not."""
        if name in self._places:
            self._places[name] = self._places[name] & ~IN_MEMORY | (self._hit(name) if hit else 0)

    def _hit(self, name: int) -> int:
        """The flag of a hit. On disk, only the older half gets it: the younger half stays long enough as it is."""
        number, segments, turns = _place(self._places[name]).segment, self._disk.segments, self._turns
        young = on_disk(number) and 2 * turns[number] > turns[segments[0].number] + turns[segments[-1].number]
        return 0 if young else HIT

    def remove(self, name: int) -> bool:
        """Forgets one record; returns whether there was one."""
        packed = self._places.pop(name, None)
        if packed is None:
            return False
        place = _place(packed)
        self.commands.append(Kill(place))
        self.shares.use(_site(packed), -place.length)
        object_name = self._object_of.pop(name, None)
        if object_name is not None:
            varied = self._varied[object_name]
            del varied.names[name]
            if not varied.names:
                del self._varied[object_name]
        return True

    def remove_object(self, object_name: int) -> int:
        """Forgets an object with all its variants; returns how many records there were."""
        varied = self._varied.get(object_name)
        names = [object_name] if varied is None else list(varied.names)
        return sum(map(self.remove, names))

    def take_commands(self) -> list[Command]:
        """What is to be done, in this order; once."""
        commands, self.commands = self.commands, []
        return commands

    def clear(self) -> None:
        """Forgets everything."""
        for area in (self._log, self._disk):
            self.commands += (Unlink(segment.number) for segment in area.segments)
            area.segments.clear()
            area.open, area.used_bytes, area.checked = None, 0, 0
        self._turns.clear()
        for packed in self._places.values():
            self.shares.use(_site(packed), -_place(packed).length)
        for known in (self._places, self._varied, self._object_of):
            known.clear()

    def seal(self) -> None:
        """Appends no more to what is open: there may be holes in it now."""
        self._log.open = self._disk.open = None

    def adopt(self, number: int, length: int) -> None:
        """A segment was found on disk, the next in order; its records follow."""
        area = self._disk if on_disk(number) else self._log
        segment = _Segment(number)
        segment.length = length
        area.segments.append(segment)
        area.used_bytes += length
        self._turns[number] = number >> 1
        self._count = max(self._count, (number >> 1) + 1)

    def load(self, object_name: int, name: int, fields: tuple[bytes, ...], place: Place, site: int) -> None:
        """A record was found in the segment adopted last; another of its name was copied here or there."""
        self.make_way(object_name, name, fields)
        area = self._disk if on_disk(place.segment) else self._log
        area.segments[-1].names.append(name)
        self._places[name] = _pack(place, site << SITE_SHIFT)
        self.shares.use(site, place.length)
        self._vary(object_name, name, fields)

    def fit(self) -> None:
        """Makes the room that smaller bounds ask for, after all has been loaded."""
        for area in (self._disk, self._log):
            while area.used_bytes > area.capacity_bytes:
                self._step(area)

    def _vary(self, object_name: int, name: int, fields: tuple[bytes, ...]) -> None:
        if not fields:
            return
        varied = self._varied.get(object_name)
        if varied is None:
            varied = self._varied[object_name] = _Varied(fields)
        elif len(varied.names) >= VARIANTS_MAX:
            self.remove(next(iter(varied.names)))
        varied.names[name] = None
        self._object_of[name] = object_name

    def _make_room(self, area: _Area, length: int) -> None:
        steps = STEPS
        while (used := area.used_bytes) and (
            used + length > area.capacity_bytes or (steps > 0 and used + length > area.early_bytes)
        ):
            self._step(area)
            steps -= 1

    def _append(self, area: _Area, name: int, length: int, flags: int) -> Place:
        segment = area.open
        if segment is None or segment.length + length > area.segment_bytes:
            segment = area.open = _Segment(self._count << 1 | area.on_disk)
            self._turns[segment.number] = self._count
            self._count += 1
            area.segments.append(segment)
        place = Place(segment.number, segment.length, length)
        segment.length += length
        segment.names.append(name)
        area.used_bytes += length
        self.settled_bytes += length if area.on_disk else 0
        self._places[name] = _pack(place, flags)
        return place

    def _step(self, area: _Area) -> None:
        """Goes through one more record of the oldest segment; deletes that after its last."""
        segment = area.segments[0]
        if segment is area.open:
            area.open = None
        if area.on_disk and area.checked == 0:
            most = KEPT_SHARE * max(segment.length, area.segment_bytes)
            area.credit_bytes = min(area.credit_bytes + KEPT_SHARE * segment.length, 2 * most)
            if len(segment.names) <= FEW_RECORDS and self._keep(area, segment):
                return
        if area.checked < len(segment.names):
            name = segment.names[area.checked]
            area.checked += 1
            packed = self._places.get(name)
            if packed is not None and _place(packed).segment == segment.number:
                self._judge(area, name, packed)
            return
        area.segments.popleft()
        area.used_bytes -= segment.length
        area.checked = 0
        del self._turns[segment.number]
        self.commands.append(Unlink(segment.number))

    def _keep(self, area: _Area, segment: _Segment) -> bool:
        """Gives a segment on disk another round, if most of it would stay; whether it has got that."""
        found = ((name, self._places.get(name)) for name in set(segment.names))
        here = [(name, p) for name, p in found if p is not None and _place(p).segment == segment.number]
        stay_bytes = sum(
            _place(packed).length
            for _, packed in here
            if packed & (IN_MEMORY | HIT) or self.shares.within(_site(packed))
        )
        # Hits are used up; what is in memory could stay for ever.
        unasked_bytes = sum(_place(packed).length for _, packed in here if packed & (IN_MEMORY | HIT) == IN_MEMORY)
        if stay_bytes == 0 or stay_bytes < KEPT_SHARE * segment.length or area.credit_bytes < unasked_bytes:
            return False
        area.credit_bytes -= unasked_bytes
        for name, packed in here:
            self._places[name] = packed & ~HIT
        area.segments.rotate(-1)
        self._turns[segment.number] = self._count
        return True

    def _judge(self, area: _Area, name: int, packed: int) -> None:
        """A record's turn has come: it stays, somewhere else, or goes."""
        source, flags, site = _place(packed), packed & (IN_MEMORY | HIT), _site(packed)
        within = self.shares.within(site)
        stays = bool(flags or within)
        if stays and area.on_disk:
            # What has a right to stay takes from what only may.
            stays = within or area.credit_bytes >= source.length
            stays = stays and source.length <= area.capacity_bytes - area.used_bytes
            area.credit_bytes -= source.length if stays else 0
        elif stays:
            self._make_room(self._disk, source.length)
        if stays:
            target = self._append(self._disk, name, source.length, site << SITE_SHIFT | flags & IN_MEMORY)
            self.commands += (Copy(source, target), Kill(source))
            return
        if not area.on_disk:
            self._gone.add(name, source.length)
        self.remove(name)


def _pack(place: Place, flags: int) -> int:
    return ((place.segment << 32 | place.offset) << 32 | place.length) << PLACE_SHIFT | flags


def _site(packed: int) -> int:
    return packed >> SITE_SHIFT & 0xFFFFFF


def _place(packed: int) -> Place:
    length, where = packed >> PLACE_SHIFT & 0xFFFFFFFF, packed >> PLACE_SHIFT + 32
    return Place(where >> 32, where & 0xFFFFFFFF, length)
