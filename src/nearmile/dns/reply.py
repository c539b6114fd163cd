"""A reply as sets of records, and the bytes it becomes: the one place where all that an answer says is known."""

from msgspec import Struct

from nearmile.dns.records import Record, encode
from nearmile.dns.wire import Body


class Reply(Struct, frozen=True):
    """What is said besides the question: AA and the response code, and the three sections."""

    flags: int
    answers: tuple[Record, ...] = ()
    authority: tuple[Record, ...] = ()
    additional: tuple[Record, ...] = ()


def body_of(name: bytes, reply: Reply) -> Body:
    """The reply to a question for that name, as bytes."""
    records = reply.answers + reply.authority + reply.additional
    counts = len(reply.answers), len(reply.authority), len(reply.additional)
    return Body(reply.flags, *counts, encode(name, records))
