"""The one error style: what is wrong, where, and what to do about it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class NearmileError(Exception):
    """An error that a person caused or can mend; its text is shown without a traceback.

    ``exit_code`` is what the command ends with.
    """

    exit_code = 1


class WrongInput(NearmileError):
    """Arguments or documents that are not what they should be."""

    exit_code = 2


class NotRunning(NearmileError):
    """No network runs where one was expected."""

    exit_code = 3


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Has errors of the system name the file, as those of a write (of a full disk, say) do not by themselves."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(path)
        raise
