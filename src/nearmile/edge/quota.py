"""How much of what all sites share each of them has now, so that none takes it all."""


class Quota:
    """Units of one thing, counted by site; at most ``site_max`` for one, ``total_max`` for all together.

    What is taken is not given back when others want it. So where all are taken, a site may have its part of half
    of ``total_max`` all the same, by the number of sites that have some: two whose origins stall stop no third.
    """

    def __init__(self, site_max: int, total_max: int) -> None:
        self.site_max, self.total_max = site_max, total_max
        self.total = 0
        self._of_site: dict[int, int] = {}

    def __getitem__(self, serial: int) -> int:
        return self._of_site.get(serial, 0)

    def take(self, serial: int, site_max: int | None = None) -> bool:
        """One more for that site, if it may have it, by a bound of its own perhaps; ``give`` it back."""
        mine = self._of_site.get(serial, 0)
        if mine >= (self.site_max if site_max is None else site_max):
            return False
        if self.total >= self.total_max:
            sites = len(self._of_site) + (mine == 0)
            if 2 * (mine + 1) * sites > self.total_max:
                return False
        self._of_site[serial] = mine + 1
        self.total += 1
        return True

    def give(self, serial: int) -> None:
        """One less."""
        self.total -= 1
        self._of_site[serial] -= 1
        if not self._of_site[serial]:
            del self._of_site[serial]
