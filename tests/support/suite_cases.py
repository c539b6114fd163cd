"""The cases of the public suite "Tests for HTTP Caches" (cache-tests.fyi), as values.

The file that holds them is not part of this repository: who has it puts it where ``FILE`` says.
"""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct

FILE = Path(__file__).resolve().parents[3] / "shared" / "conformance" / "cache-tests.json"
DATES = frozenset(("date", "expires", "last-modified", "if-modified-since", "if-unmodified-since"))
LOCATIONS = frozenset(("location", "content-location"))

Kind = Literal["required", "optimal", "check"]
Header = list[str | int | bool]
"""Name, value, False where the client need not see it back. Of what is expected, also: name, operator, operand."""
Interim = list[int | list[tuple[str, str]]]
"""A status, and perhaps headers."""


class Step(Struct, frozen=True, kw_only=True):
    """One request of a case, the origin's answer to it, and what is expected of both."""

    request_method: str = "GET"
    request_headers: list[Header] = []
    request_body: str = ""
    filename: str = ""
    query_arg: str = ""
    magic_ims: bool = False
    magic_locations: bool = False
    rfc850date: list[str] = []
    response_status: tuple[int, str] | None = None
    response_headers: list[Header] = []
    response_body: str | None = None
    response_pause: float = 0
    interim_responses: list[Interim] = []
    disconnect: bool = False
    pause_after: bool = False
    setup: bool = False
    setup_tests: list[str] = []
    expected_type: Literal["cached", "not_cached", "etag_validated", "lm_validated"] | None = None
    expected_status: int | msgspec.UnsetType | None = msgspec.UNSET
    expected_method: str | None = None
    expected_request_headers: list[str | Header] = []
    expected_request_headers_missing: list[str | Header] = []
    expected_response_headers: list[str | Header] = []
    expected_response_headers_missing: list[str | Header] = []
    expected_response_text: str | msgspec.UnsetType | None = msgspec.UNSET
    expected_interim_responses: list[Interim] | None = None
    check_body: bool = True

    @property
    def validated(self) -> bool:
        """The origin is to be asked whether what is stored is still good."""
        return self.expected_type in ("etag_validated", "lm_validated")


class Case(Struct, frozen=True, kw_only=True):
    """A test of the suite."""

    id: str
    name: str
    kind: Kind = "required"
    requests: list[Step]
    depends_on: list[str] = []
    """Cases without which this one shows nothing: one that must not be cached, where nothing is ever cached."""


class Group(Struct, frozen=True, kw_only=True):
    """Tests on one subject."""

    id: str
    name: str
    tests: list[Case]


def load() -> list[Group]:
    """All groups; FileNotFoundError where the file is absent."""
    return msgspec.json.decode(FILE.read_bytes(), type=list[Group])


def written(header: Header, now_ms: int, base: str, step: Step) -> tuple[str, str]:
    """A header as it goes over the wire: dates relative to ``now_ms``, locations to the test's path ``base``."""
    name, value = str(header[0]), header[1]
    lower = name.lower()
    if lower in DATES and isinstance(value, int):
        return name, date(now_ms, value, lower in step.rfc850date)
    if lower in LOCATIONS and step.magic_locations:
        return name, f"{base}/{value}" if value else base
    return name, str(value)


def date(now_ms: int, offset_s: int, rfc850: bool) -> str:
    """An HTTP date ``offset_s`` from now, in today's or the oldest format."""
    at = datetime.fromtimestamp(now_ms // 1000, UTC) + timedelta(seconds=offset_s)
    return at.strftime("%A, %d-%b-%y %H:%M:%S GMT") if rfc850 else format_datetime(at, usegmt=True)


def parts(interim: Interim) -> tuple[int, list[tuple[str, str]]]:
    """Status and headers of an interim response."""
    status, *headers = interim
    assert isinstance(status, int)
    return status, [pair for some in headers if isinstance(some, list) for pair in some]
