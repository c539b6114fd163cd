"""Local allocation: on how many and on which servers of a region a serial is, by how hot it is there.

A cold serial is on the first servers of its own order (rendezvous hashing, ``choose``). A hot one is cut into
parts, each at most a sixteenth of what the mean server carries, and the parts are put on servers by consistent
hashing with bounded loads (Mirrokni, Thorup and Zadimoghaddam 2018): no server gets a part that would bring it
above 1.25 of the mean. A part stays where it is while its server lives and is below that, so when one of n servers
dies, about what it carried moves: at most 1.25/n.

A serial's parts are on few servers, its footprint (shuffle sharding), which grows with its load. The largest have
a server each that no other hot serial is on: who brings down all servers of one leaves the others some. A region
of seven servers has room for two such, and for one more with each six or seven further ones.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import chain
from math import ceil

from nearmile.mapping.choose import preference
from nearmile.mapping.map import MapRegion

Parts = dict[str, int]
"""How many parts of a serial each server has, by name."""

LOAD_MAX = 1.25  # of the mean
# Of a mean server's load: what the largest part is.
PART_SHARE = 1 / 16
# A serial is hot above this share of a mean server's load, and cold again below half of it.
HOT_SHARE = 1 / 4
# So many serials at most are cut up, the hottest: each of the others is below a 64th of the region's load.
HOT_MAX = 64
# A footprint has so many servers that each need give it half of a mean server's load.
FOOTPRINT_SHARE = 1 / 2
# A load that fell counts half after this time: a crowd may come back, and its objects are still stored.
HALF_LIFE_S = 60.0
# Of its peak, what a crowd that is remembered counts as at least, so that it has its place when it comes back.
REST_SHARE = 0.01
# Requests a second in a region below which a serial burdens nobody, however few requests others have.
HOT_MIN_PER_S = 100.0


def place(
    names: Sequence[str],
    rates: Mapping[int, float],
    base: Mapping[str, float],
    before: Mapping[int, Parts],
    least: int,
    peaks: Mapping[int, float] | None = None,
) -> dict[int, Parts]:
    """The parts of each hot serial on the servers of those names.

    ``rates`` are requests a second of those serials that may be hot, and ``base`` of all others, by server;
    ``before`` is the former outcome; ``least`` is how many servers an answer names. How many parts and servers a
    serial has is by its rate in ``peaks``, if it was higher there; loads are those of now.
    """
    others = sum(base.get(name, 0.0) for name in names)
    mean = (sum(rates.values()) + others) / max(len(names), 1)
    if len(names) < 2 or not mean:
        return {}
    peaks = rates if peaks is None else peaks
    peak_mean = (sum(peaks.values()) + others) / len(names)
    heats = {serial: max(rate / mean, peaks[serial] / peak_mean) for serial, rate in rates.items()}
    warm = [serial for serial, heat in heats.items() if heat > HOT_SHARE / (2 if serial in before else 1)]
    hot = sorted(warm, key=lambda serial: (-heats[serial], serial))[:HOT_MAX]
    loads = {name: base.get(name, 0.0) for name in names}
    for serial, rate in rates.items():
        if serial not in hot:
            for name in preference(serial, names)[:least]:
                loads[name] += rate / min(least, len(names))
    counts = {serial: _count(heats[serial] / PART_SHARE, before.get(serial, {})) for serial in hot}
    died = any(name not in names for parts in before.values() for name in parts)
    allowed = _allowed(hot, names, before, died)
    wanted = {serial: max(ceil(heats[serial] / FOOTPRINT_SHARE), least) for serial in hot}
    footprints = {
        serial: _footprint(allowed[serial], wanted[serial], before.get(serial, {}), died) for serial in hot
    }
    cap, placed, waiting = LOAD_MAX * mean, dict[int, Parts](), dict[int, int]()
    for serial in hot:
        placed[serial], waiting[serial] = _keep(
            before.get(serial, {}), footprints[serial], counts[serial], rates[serial] / counts[serial], loads, cap
        )
    for serial in hot:
        part = rates[serial] / counts[serial]
        for _ in range(waiting[serial]):
            name = _room(allowed[serial], footprints[serial], part, loads, cap)
            loads[name] += part
            placed[serial][name] = placed[serial].get(name, 0) + 1
    return placed


def _count(needed: float, before: Parts) -> int:
    """How many parts; as before, unless they would be too large, or fewer than half would do."""
    had, least = sum(before.values()), max(ceil(needed), 1)
    return had if least <= had <= 2 * least else ceil(least * 1.25)


def _keep(
    before: Parts, footprint: Sequence[str], count: int, part: float, loads: dict[str, float], cap: float
) -> tuple[Parts, int]:
    """The parts that stay where they are, and how many have to be put somewhere."""
    had, kept = sum(before.values()), Parts()
    for name in footprint:
        wanted = before.get(name, 0) * count // had if had else 0
        stay = min(wanted, max(int((cap - loads[name]) / part), 0))
        if stay:
            kept[name] = stay
            loads[name] += stay * part
    return kept, count - sum(kept.values())


def _room(order: Sequence[str], footprint: list[str], part: float, loads: Mapping[str, float], cap: float) -> str:
    """The server for a part: the least loaded of the footprint, which grows where all of it is full."""
    best = min(footprint, key=loads.__getitem__)
    if loads[best] + part > cap:
        for name in order:
            if name not in footprint and loads[name] + part <= cap:
                footprint.append(name)
                return name
    return best


def _footprint(order: Sequence[str], count: int, before: Parts, died: bool) -> list[str]:
    """The servers for a serial: those that it has, in its order, and more. It shrinks when nobody has died."""
    had = [name for name in order if name in before]
    if not died:
        had = had[: 2 * count]
    return (had + [name for name in order if name not in before])[: max(count, len(had))]


def _allowed(
    hot: Sequence[int], names: Sequence[str], before: Mapping[int, Parts], died: bool
) -> dict[int, list[str]]:
    """Per serial the servers in its order, without those that are another's own.

    The largest serials have a server of their own each: as many as leave the others so many servers that all load
    fits below the bound. Where one has just died nobody has to leave a server: that waits for the next placement.
    """
    spare = int(len(names) * (1 - 1 / (LOAD_MAX - PART_SHARE)))
    users = Counter(name for parts in before.values() for name in parts)
    orders, owns = {serial: preference(serial, names) for serial in hot}, dict[str, int]()
    for serial in hot[: spare + 1] if spare else ():
        had = before.get(serial, {})
        free = [name for name in orders[serial] if name not in owns]
        owns[min(free, key=lambda name: users[name] - 2 * (name in had))] = serial
    return {
        serial: [
            name
            for name in orders[serial]
            if owns.get(name, serial) == serial or (died and name in before.get(serial, {}))
        ]
        for serial in hot
    }


class Spread:
    """What the edges tell of their serials, and the placement that follows. For all regions."""

    def __init__(self, least: int) -> None:
        self.least = least
        """How many servers an answer names."""
        self._heard: dict[str, tuple[float, dict[int, float]]] = {}
        self._telling: set[str] = set()
        self._peaks: dict[str, dict[int, float]] = {}
        self._at_s: dict[str, float] = {}

    def heard(self, server: str, others_per_s: float, serials: Mapping[int, float]) -> None:
        """Requests a second of a server's hottest serials, and of all others."""
        self._heard[server] = others_per_s, dict(serials)
        if serials:
            self._telling.add(server)
        else:
            self._telling.discard(server)

    def place(self, region: MapRegion, now_s: float) -> dict[int, Parts]:
        """Of a region with its live servers, and with the former placement."""
        if not region.hot and self._telling.isdisjoint([server.name for server in region.servers]):
            return {}
        left = 0.5 ** (max(now_s - self._at_s.get(region.name, now_s), 0.0) / HALF_LIFE_S)
        known = self._peaks.get(region.name, {})
        peaks = {serial: known.get(serial, 0.0) * left for serial in region.hot}
        rates, base = self._measured(region, peaks)
        peaks = {serial: max(rate, peaks.get(serial, 0.0)) for serial, rate in rates.items()}
        self._peaks[region.name], self._at_s[region.name] = peaks, now_s
        return place([server.name for server in region.servers], rates, base, region.hot, self.least, peaks)

    def urgent(self, region: MapRegion) -> bool:
        """Whether a serial is hotter than the placement that is in the region can bear."""
        rates, base = self._measured(region, {})
        if not rates:
            return False
        placed = place([server.name for server in region.servers], rates, base, region.hot, self.least)
        return any(sum(placed[serial].values()) > sum(region.hot.get(serial, {}).values()) for serial in placed)

    def _measured(
        self, region: MapRegion, peaks: Mapping[int, float]
    ) -> tuple[dict[int, float], dict[str, float]]:
        """Requests a second in the region by serial that may be hot, and those of all others by server.

        Who was in the placement and lives no more counts once again: what came to it now comes to the others.
        """
        live = [server.name for server in region.servers]
        told = {name: self._heard.get(name, (0.0, {})) for name in {*live, *chain(*region.hot.values())}}
        rates = {serial: peak * REST_SHARE for serial, peak in peaks.items()}
        for serial, rate in chain.from_iterable(serials.items() for _, serials in told.values()):
            rates[serial] = rates.get(serial, 0.0) + rate
        hot = {
            serial: rate for serial, rate in rates.items() if max(rate, peaks.get(serial, 0.0)) >= HOT_MIN_PER_S
        }
        base = {
            name: told[name][0] + sum(rate for serial, rate in told[name][1].items() if serial not in hot)
            for name in live
        }
        return hot, base
