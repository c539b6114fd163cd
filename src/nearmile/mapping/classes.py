"""What a controller knows of the traffic class downloads: its sites, who asks for them, and how long they take.

Pages are what everything else is.
"""

from collections.abc import Mapping

from nearmile.config.layout import Config
from nearmile.mapping.demand import Demand, DemandArrived
from nearmile.mapping.make import Downloads
from nearmile.mapping.measured import DOWNLOADS, Learned, Measured, Report
from nearmile.mapping.score import Distances


def serials_of(config: Config) -> tuple[int, ...]:
    """The sites that are mapped by what downloads take."""
    return tuple(site.serial for site in config.sites if site.document.traffic == "downloads")


class DownloadClass:
    """Where there are no such sites, it costs nothing: a million units are not remembered twice."""

    def __init__(self, distances: Distances, pages: Measured) -> None:
        self._distances, self._pages = distances, pages
        self._serials: tuple[int, ...] = ()
        self._measured = Measured(DOWNLOADS)
        self._demand: Demand | None = None

    def serve(self, serials: tuple[int, ...]) -> None:
        """These are the sites from now on."""
        self._serials = serials
        if not serials:
            self._measured, self._demand = Measured(DOWNLOADS), None
        elif self._demand is None:
            self.know(self._distances)

    def know(self, distances: Distances) -> None:
        """From now on there are these units and regions, as known of pages."""
        renamed = distances.units != self._distances.units
        self._distances = distances
        if self._serials:
            self._measured.follow(self._pages)
            former = self._demand
            if former is None or renamed:
                fresh = Demand(distances.units, distances.people)
                self._demand = fresh if former is None else fresh.after(former)

    def ask(self, told: DemandArrived, pages: Demand, now_s: float) -> None:
        """Takes a report; while there are no sites, what other processes take for downloads are pages."""
        pages.add(told.hits, now_s)
        if told.downloads:
            (self._demand or pages).add(told.downloads, now_s)

    def add(self, report: Report, now_s: float) -> bool:
        """Takes a report; whether a map should be made soon."""
        return self._measured.add(report, now_s)

    def learned(self, unit: str, now_s: float) -> Learned:
        """What is known of a unit, for people."""
        return self._measured.learned(unit, now_s)

    def wanted(self, columns: Mapping[str, int], now_s: float) -> Downloads | None:
        """What a map needs to know; None where it has no such site. ``columns`` are regions' by name."""
        if self._demand is None:
            return None
        self._measured.forget(now_s)
        return Downloads(
            self._serials,
            self._demand.rates(now_s),
            self._measured.corrections(self._distances.rows, columns, now_s),
        )
