"""Where each record is, where the next one goes, and which segments make room.

    new -> the log -> hit, in memory, or drawn? -> segments on disk -> hit, or in memory? -> on disk again
                  \\-> gone                                        \\-> gone

Records are appended to segments, files that are never overwritten, and segments go in the order in which they were
begun. The log is short and best in memory: a file system of the kernel's, which outlives the process. Only what is
asked for again while it is there is written to the disk; who goes unasked for is remembered in a Bloom filter, and
on a return begins on the disk. That is S3-FIFO (Yang et al., SOSP 2023) by segments, and what is asked for once
costs the disk nothing, but for a small part that is kept by lot: where all returns after longer than names are
remembered, nothing else would be there.

No more than WRITTEN_SHARE of what a plain LRU cache would write is to be written: when that is spent, what was hit
goes too. What returns is written all the same, since who refuses it has a miss each time, and so is what is in
memory, to outlive the process; hits make up for it.

Everything is decided here and nothing done: methods leave ``commands``, to be carried out in their order. Whatever
leaves the index is killed by a command of its own before anything that follows from its going; so what is alive in
the files is in the index, at every moment in the sequence of commands.

A record of a site that is within its part of the disk (see ``shares``) stays, asked for or not.

A record costs 36 bytes of memory: 27 in the table of places, and 9 in the list of its segment.
"""

from array import array
from collections import deque
from typing import NamedTuple

from nearmile.cache.key import VARIANTS_MAX
from nearmile.cache.shares import Shares
from nearmile.cache.tier.places import FLAG_BITS, OBJECT_MASK, Place, Places, Record
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
# So much may be written of what comes and was not there lately: a plain LRU cache would write it all. What is not
# spent, or overdrawn, counts later, up to a share of the disk.
WRITTEN_SHARE, SAVED_SHARE = 0.4, 1 / 16
# Of what leaves the log unasked for, so much stays all the same.
DRAWN_SHARE = 1 / 32
# No record takes more of the disk.
RECORD_SHARE = 0.25
# A segment of so few records is kept as it is where most of it would stay: large bodies are not copied around.
FEW_RECORDS = 64
# What a record is guessed to have, for the size of the Bloom filters.
GUESSED_RECORD_BYTES = 4 << 10

IN_MEMORY, HIT, ASKED_FOR, WAY_SHIFT = 1, 2, 3, 2
# So many ways to vary, the first that come, are told by the rest of a record's flags. Each object that varies in
# another way takes 80 bytes more.
WAYS_MAX = 1 << FLAG_BITS - WAY_SHIFT


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


class Index:
    """At most ``log_bytes`` in the log's segments, and ``capacity_bytes`` in those on disk."""

    def __init__(self, capacity_bytes: int, log_bytes: int) -> None:
        self._log, self._disk = _Area(log_bytes, False), _Area(capacity_bytes, True)
        self.record_bytes_max = min(int(capacity_bytes * RECORD_SHARE), RECORD_BYTES_MAX)
        self.commands: list[Command] = []
        self.settled_bytes = 0
        """Written to the disk."""
        self._places = Places()
        self._varied: dict[int, tuple[bytes, ...]] = {}
        """The fields that tell variants apart, by the bits that the names of an object's records share."""
        self._ways: list[tuple[bytes, ...]] = [()]
        self._gone = Seen(capacity_bytes, capacity_bytes // GUESSED_RECORD_BYTES)
        """What went from the log."""
        self._saved_bytes, self._drawn_bytes, self._saved_bytes_max = 0.0, 0.0, SAVED_SHARE * capacity_bytes
        """What may be written, negative if it is overdrawn; and what may stay by lot."""
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
        flags = self._places.flags_of(object_name)
        if flags is None:
            return ()
        way = flags >> WAY_SHIFT
        return self._ways[way] if way else self._varied.get(object_name & OBJECT_MASK, ())

    def count(self, object_name: int) -> int:
        """How many records of an object there are."""
        return len(self._places.names_of(object_name))

    def place(self, name: int) -> Place | None:
        """Where the record of that name is."""
        found = self._places.get(name)
        return None if found is None else found[0]

    def put(
        self, object_name: int, name: int, fields: tuple[bytes, ...], length: int, in_memory: bool, site: int
    ) -> Place | None:
        """A place for a new record of that site, instead of the old one; None where there is none for it (yet)."""
        self.make_way(object_name, name, fields)
        if length > self.record_bytes_max:
            return None
        known, waits = name in self._gone, length <= self._log.capacity_bytes
        self._save(0 if known else WRITTEN_SHARE * length)
        if not (known or waits or self.shares.within(site, length)):
            self._gone.add(name, length)
            return None
        area = self._log if waits and not known else self._disk
        self._make_room(area, length)
        self.shares.use(site, length)
        place = self._append(area, name, length)
        self._add(object_name, name, fields, (place, site, IN_MEMORY if in_memory else 0))
        return place

    def make_way(self, object_name: int, name: int, fields: tuple[bytes, ...]) -> None:
        """Forgets what a new record of that name, told apart by those fields, takes the place of."""
        if self._places.flags_of(object_name) is None:
            return
        if self.fields(object_name) != fields:
            self.remove_object(object_name)
        self.remove(name)

    def hit(self, name: int, in_memory: bool) -> None:
        """It was found, and perhaps taken into memory."""
        found = self._places.get(name)
        if found is not None:
            self._places.flag(name, 0, self._hit(found[0]) | (IN_MEMORY if in_memory else 0))

    def left(self, name: int, hit: bool) -> None:
        """It is no longer in memory, and was asked for there or not."""
        found = self._places.get(name) if hit else None
        self._places.flag(name, IN_MEMORY, 0 if found is None else self._hit(found[0]))

    def _hit(self, place: Place) -> int:
        """The flag of a hit. On disk, only the older half gets it: the younger half stays long enough as it is."""
        number, segments, turns = place.segment, self._disk.segments, self._turns
        young = on_disk(number) and 2 * turns[number] > turns[segments[0].number] + turns[segments[-1].number]
        return 0 if young else HIT

    def remove(self, name: int) -> bool:
        """Forgets one record; returns whether there was one."""
        found = self._places.get(name)
        if found is None:
            return False
        self._forget(name, found)
        return True

    def _forget(self, name: int, found: Record) -> None:
        self._places.drop(name)
        place, site, _ = found
        self.commands.append(Kill(place))
        self.shares.use(site, -place.length)
        if name & OBJECT_MASK in self._varied and not self._places.names_of(name):
            del self._varied[name & OBJECT_MASK]

    def remove_object(self, object_name: int) -> int:
        """Forgets an object with all its variants; returns how many records there were."""
        return sum(map(self.remove, self._places.names_of(object_name)))

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
        for place, site, _ in self._places:
            self.shares.use(site, -place.length)
        self._places = Places()
        self._varied.clear()

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
        self._add(object_name, name, fields, (place, site, 0))
        self.shares.use(site, place.length)

    def fit(self) -> None:
        """Makes the room that smaller bounds ask for, after all has been loaded."""
        for area in (self._disk, self._log):
            while area.used_bytes > area.capacity_bytes:
                self._step(area)

    def _add(self, object_name: int, name: int, fields: tuple[bytes, ...], record: Record) -> None:
        place, site, flags = record
        if fields not in self._ways and len(self._ways) < WAYS_MAX:
            self._ways.append(fields)
        if fields in self._ways:
            flags |= self._ways.index(fields) << WAY_SHIFT
        else:
            self._varied[object_name & OBJECT_MASK] = fields
        self._places.add(name, (place, site, flags))
        if fields and len(names := self._places.names_of(object_name)) > VARIANTS_MAX:
            self.remove(names[0])

    def _make_room(self, area: _Area, length: int) -> None:
        steps = STEPS
        while (used := area.used_bytes) and (
            used + length > area.capacity_bytes or (steps > 0 and used + length > area.early_bytes)
        ):
            self._step(area)
            steps -= 1

    def _save(self, length: float) -> None:
        """So much more may be written, or less."""
        most = self._saved_bytes_max
        self._saved_bytes = max(-most, min(most, self._saved_bytes + length))

    def _append(self, area: _Area, name: int, length: int) -> Place:
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
        if area.on_disk:
            self.settled_bytes += length
            self._save(-length)
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
            found = self._places.get(name)
            if found is not None and found[0].segment == segment.number:
                self._judge(area, name, found)
            return
        area.segments.popleft()
        area.used_bytes -= segment.length
        area.checked = 0
        del self._turns[segment.number]
        self.commands.append(Unlink(segment.number))

    def _keep(self, area: _Area, segment: _Segment) -> bool:
        """Gives a segment on disk another round, if most of it would stay; whether it has got that."""
        records = ((name, self._places.get(name)) for name in set(segment.names))
        here = [(name, *found) for name, found in records if found and found[0].segment == segment.number]
        stay_bytes = sum(
            place.length for _, place, site, flags in here if flags & ASKED_FOR or self.shares.within(site)
        )
        # Hits are used up; what is in memory could stay for ever.
        unasked_bytes = sum(place.length for _, place, _, flags in here if flags & ASKED_FOR == IN_MEMORY)
        if stay_bytes == 0 or stay_bytes < KEPT_SHARE * segment.length or area.credit_bytes < unasked_bytes:
            return False
        area.credit_bytes -= unasked_bytes
        for name, *_ in here:
            self._places.flag(name, HIT, 0)
        area.segments.rotate(-1)
        self._turns[segment.number] = self._count
        return True

    def _judge(self, area: _Area, name: int, found: Record) -> None:
        """A record's turn has come: it stays, somewhere else, or goes."""
        source, site, flags = found
        within = self.shares.within(site)
        stays = bool(within or flags & IN_MEMORY or (flags & HIT and self._saved_bytes >= 0))
        if area.on_disk:
            # What has a right to stay takes from what only may.
            stays = within or (stays and area.credit_bytes >= source.length)
            stays = stays and source.length <= area.capacity_bytes - area.used_bytes
            area.credit_bytes -= source.length if stays else 0
        elif stays or self._is_drawn(source.length):
            stays = True
            self._make_room(self._disk, source.length)
        if stays:
            target = self._append(self._disk, name, source.length)
            self._places.change(name, (target, site, flags & ~HIT))
            self.commands += (Copy(source, target), Kill(source))
            return
        if not area.on_disk:
            self._gone.add(name, source.length)
        self._forget(name, found)

    def _is_drawn(self, length: int) -> bool:
        """Whether one that leaves the log stays by lot."""
        self._drawn_bytes += DRAWN_SHARE * length
        if self._drawn_bytes < length or self._saved_bytes < 0:
            return False
        self._drawn_bytes -= length
        return True
