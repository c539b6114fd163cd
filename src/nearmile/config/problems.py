"""What can be wrong with a document, said so that its writer can mend it at once."""

import difflib
from collections.abc import Iterable

from msgspec import Struct

from nearmile.base.errors import WrongInput
from nearmile.config.lines import KeyPath


class Problem(Struct, frozen=True, order=True):
    """One thing wrong: where (``line`` 0 is the file as a whole), which key, and what."""

    file: str
    line: int
    key: str
    what: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        return f"{place}: {self.key}: {self.what}" if self.key else f"{place}: {self.what}"


class DocumentErrors(WrongInput):
    """Everything that is wrong with the documents, in the order of files and lines."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(sorted(problems))
        count = len(self.problems)
        heading = "1 problem in the documents:" if count == 1 else f"{count} problems in the documents:"
        super().__init__("\n".join([heading, *(f"  {problem}" for problem in self.problems)]))


def key_text(path: KeyPath) -> str:
    """A path as people write it: ``nameservers[2].tier`` is of the second name server."""
    text = ""
    for part in path:
        text += f"[{part + 1}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def did_you_mean(choices: Iterable[str]) -> str:
    """The question that ends a message, for the likeliest of the choices; "" without any."""
    listed = list(choices)
    return f"; did you mean {' or '.join(listed)}?" if listed else ""


def near(word: str, choices: Iterable[str]) -> str:
    """``did_you_mean`` for the choice that looks most like the word, if any does."""
    return did_you_mean(difflib.get_close_matches(word, list(choices), 1))
