"""A delayed name server's maps on its disk: a restart must not make it run on the newest."""

import contextlib
import logging
from pathlib import Path

from nearmile.mapping.map import Map, decode, encode
from nearmile.mapping.past import Past
from nearmile.mapping.safety import late
from nearmile.services.state import write_atomically

log = logging.getLogger("nearmile.nameserver")


class LateMaps:
    """The folder's files are named by the millisecond at which each map came."""

    def __init__(self, folder: Path, delay_s: float) -> None:
        self._folder = folder
        folder.mkdir(exist_ok=True)
        self._past = Past(delay_s, ((int(path.stem) / 1000, map_) for path, map_ in _read(folder)))

    def take(self, newest: Map, now_s: float) -> Map:
        """The map to answer by, now that this is the newest one."""
        if self._past.take(newest, now_s):
            try:
                write_atomically(_file(self._folder, now_s), encode(newest))
            except OSError as error:  # a full disk: until the next start memory has it
                log.error("%s cannot be written: %s", _file(self._folder, now_s), error)
        current = self._past.current(now_s)
        assert current is not None
        needed = {_file(self._folder, at_s) for at_s, _ in self._past.kept}
        for path in set(self._folder.glob("*.bin")) - needed:
            with contextlib.suppress(OSError):  # what cannot go now can be there the next time
                path.unlink()
        return late(current, newest)


def _file(folder: Path, at_s: float) -> Path:
    return folder / f"{round(at_s * 1000)}.bin"


def _read(folder: Path) -> list[tuple[Path, Map]]:
    found = []
    for path in folder.glob("*.bin"):
        try:
            int(path.stem)
            found.append((path, decode(path.read_bytes())))
        except (OSError, ValueError) as error:  # of another release, perhaps: the next maps replace it
            log.warning("%s is no map: %s", path, error)
    return found
