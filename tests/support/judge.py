"""An origin whose objects change, differ and fail by chance, and a judge of what clients get of them.

Every body says what it is: of which object, version, language and user. So whatever a client gets can be held
against the times at which that was what the origin had.
"""

import asyncio
import re
from collections.abc import Callable
from math import inf
from random import Random
from typing import NamedTuple

from edge_world import Asked, Response
from nearmile.cache.dates import format_date

# What an origin says with a version. What is for each client to ask for itself names its user.
SHARED = (
    "max-age=4",
    "max-age=1",
    "max-age=600",
    "s-maxage=3, max-age=0",
    "max-age=2, stale-while-revalidate=3",
    "max-age=1, stale-if-error=3",
    "max-age=2, stale-if-error=0",
    "max-age=2, must-revalidate",
)
OWN = ("private, max-age=5", "no-store", "no-cache", "public, max-age=0", "")
# Age is in whole seconds, rounded down at each server on the way; and so is the Date of the origin.
SLACK_S = 1.1
HOPS_MAX = 3
INSTANT_S = 1e-6
STALE_IF_ERROR_S = 86_400  # unless it is said, see cache.policy
# From the origin to clients.
TRANSIT_S = 0.5
FAILURES = (500, 502, 503, 504)


class Manner(NamedTuple):
    """How a run goes."""

    clients: int
    queries: int
    """Of each client."""
    things: int
    terms: tuple[str, ...]
    odd: bool = True
    """The origin fails, orders to purge come, and clients want more than the whole of what is stored."""


ANY = Manner(8, 25, 4, SHARED + SHARED + OWN)
CROWDED = Manner(20, 20, 2, (*(terms for terms in SHARED if "stale" in terms), "no-cache", ""))
# What is fresh for less long than its origin takes to send it is asked for by each client.
CALM = Manner(8, 40, 4, ("max-age=12", "max-age=600", "max-age=12, stale-while-revalidate=9"), odd=False)


class Version(NamedTuple):
    """What the origin has of an object for some time."""

    number: int
    since_s: float
    terms: str
    length: int


class Thing:
    """An object of the origin."""

    def __init__(self, path: str, chance: Random, manner: Manner) -> None:
        self.path, self._chance, self._all_terms = path, chance, manner.terms
        self._lengths = (40, 700, 700, 5_000) if manner.odd else (40, 700)
        self.varies = manner.odd and chance.random() < 0.3
        self.ranged = chance.random() < 0.5
        self.tagged = chance.choice(["strong", "strong", "weak", "none"])
        self.steady = chance.random() < 0.7
        self.versions = [Version(0, -inf, self._terms(), self._length())]

    def change(self, now_s: float) -> None:
        """There is a newer version."""
        terms = self.versions[-1].terms if self.steady else self._terms()
        self.versions.append(Version(len(self.versions), now_s, terms, self._length()))

    def _terms(self) -> str:
        return self._chance.choice(self._all_terms)

    def _length(self) -> int:
        return self._chance.choice(self._lengths)

    def until_s(self, number: int) -> float:
        """When that version was replaced."""
        return self.versions[number + 1].since_s if number + 1 < len(self.versions) else inf

    def body(self, number: int, language: str, user: str) -> bytes:
        """What it is."""
        text = f"{self.path} {number} {language} {user};".encode()
        length = self.versions[number].length
        return (text * (length // len(text) + 1))[:length]

    def tag(self, number: int, language: str, user: str) -> str:
        """Its validator; empty if it has none."""
        name = f'"{number}-{language}-{user}"'
        return {"strong": name, "weak": "W/" + name, "none": ""}[self.tagged]


class Truth:
    """The origin."""

    def __init__(self, now_s: Callable[[], float], chance: Random, manner: Manner) -> None:
        self.now_s, self.chance, self.manner = now_s, chance, manner
        self.things = {f"/{n}": Thing(f"/{n}", chance, manner) for n in range(manner.things)}
        self.ill = False
        self.failed_at_s: list[list[float]] = []
        """Of questions that it did not answer as it should: when they came, and until when who asked may wait."""
        self.asking: dict[tuple[str, str], int] = {}
        self.asking_max = 0
        """Questions about one object at a time."""

    def failed_between(self, from_s: float, to_s: float) -> bool:
        """Whether it failed then."""
        return any(begun_s <= to_s and over_s >= from_s for begun_s, over_s in self.failed_at_s)

    async def __call__(self, asked: Asked) -> bytes | None:
        """Of edge_world: one answer."""
        came_s, key = self.now_s(), (asked.line, asked.fields.get("x-lang", ""))
        self.asking[key] = self.asking.get(key, 0) + 1
        self.asking_max = max(self.asking_max, self.asking[key])
        try:
            return await self._answer(asked, came_s)
        finally:
            self.asking[key] -= 1

    async def _answer(self, asked: Asked, came_s: float) -> bytes | None:
        chance = self.chance
        method, path, _ = asked.line.split()
        thing = self.things[path]
        if method == "POST":
            await asked.body()
            thing.change(came_s)
        number = len(thing.versions) - 1
        late = chance.random() < 0.3
        await asyncio.sleep(chance.choice([0, 0, 0.05, chance.uniform(0, 3)]))
        if late and method != "POST":
            number = len(thing.versions) - 1
        if self.ill and chance.random() < 0.8:
            return await self._fail(came_s)
        if method == "POST":
            return _head("200 OK", [f"X-Is: {number}--", "Content-Length: 0"])
        return await self._say(asked, method, thing, number)

    async def _fail(self, came_s: float) -> bytes | None:
        self.failed_at_s.append([came_s, inf])
        this = self.failed_at_s[-1]
        await asyncio.sleep(self.chance.choice([0, 1, 8]))
        this[1] = self.now_s() + TRANSIT_S
        status = self.chance.choice(["", "500 Oops", "503 Busy"])
        return _head(status, ["Content-Length: 2"]) + b"no" if status else None

    async def _say(self, asked: Asked, method: str, thing: Thing, number: int) -> bytes | None:
        chance, fields = self.chance, asked.fields
        version = thing.versions[number]
        language = fields.get("x-lang", "") if thing.varies else ""
        user = fields.get("cookie", "") if version.terms in OWN else ""
        body, tag = thing.body(number, language, user), thing.tag(number, language, user)
        lines = [f"X-Is: {number}-{language}-{user}", f"X-Note: {chance.randrange(1000)}"]
        if version.terms:
            lines.append(f"Cache-Control: {version.terms}")
        if chance.random() < 0.9:
            lines.append(f"Date: {format_date(int(self.now_s())).decode()}")
        if thing.varies:
            lines.append("Vary: X-Lang")
        if thing.ranged:
            lines.append("Accept-Ranges: bytes")
        if tag:
            lines.append(f"ETag: {tag}")
            if tag in fields.get("if-none-match", ""):
                return _head("304 Not Modified", lines)
        status = "200 OK"
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", fields.get("range", "")) if thing.ranged else None
        if wanted and method == "GET" and fields.get("if-range", tag) == tag and int(wanted[1]) < len(body):
            first = int(wanted[1])
            last = min(int(wanted[2] or len(body)), len(body) - 1)
            lines.append(f"Content-Range: bytes {first}-{last}/{len(body)}")
            status, body = "206 Partial Content", body[first : last + 1]
        lines.append(f"Content-Length: {len(body)}")
        head = _head(status, lines)
        if method == "HEAD":
            return head
        if chance.random() < 0.3:
            cut = chance.randrange(len(body))
            asked.writer.write(head + body[:cut])
            await asyncio.sleep(chance.uniform(0, 2))
            if self.ill and chance.random() < 0.5:
                self.failed_at_s.append([self.now_s(), self.now_s() + TRANSIT_S])
                return None
            return body[cut:]
        return head + body


def _head(status: str, lines: list[str]) -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status}", *lines, "", ""]).encode()


class Query(NamedTuple):
    """What a client asked of a server, and when."""

    server: int
    method: str
    path: str
    user: str
    language: str
    wishes: str
    """Its Cache-Control."""
    wanted: str
    """Its Range."""
    tag: str
    """Its If-None-Match."""
    sent_s: float


def slack_s(got: Response) -> float:
    """How much older it may be than it says."""
    return SLACK_S + (HOPS_MAX if got.status == 304 else got.cache.count(",") + 1)


class Judge:
    """Holds answers against the truth."""

    def __init__(self, truth: Truth) -> None:
        self.truth = truth
        self.known_s: dict[tuple[int, str], float] = {}
        """By server and object: who asks that server after the time at which this was written down gets nothing
        that was replaced before."""
        self.hits: dict[tuple[int, str, str], int] = {}
        """The latest version that was answered with from each store."""
        self.counts: dict[str, int] = {}

    def learn(self, server: int, path: str, at_s: float) -> None:
        """What was replaced by then is not to be had there any more."""
        self.known_s[server, path] = max(self.known_s.get((server, path), -inf), at_s)

    def floor_s(self, query: Query) -> float:
        """What was replaced before that is not to be had."""
        return self.known_s.get((query.server, query.path), -inf)

    def newest(self, query: Query, thing: Thing) -> int:
        """No older version is to come out of the store."""
        return self.hits.get((query.server, query.path, query.language if thing.varies else ""), -1)

    def check_broken(self, query: Query) -> None:
        """A connection ended before the answer was whole."""
        long = any(version.length > 2_000 for version in self.truth.things[query.path].versions)
        assert long or self.truth.failed_between(query.sent_s, self.truth.now_s()), f"broken off: {query}"

    def check(self, query: Query, floor_s: float, newest: int, got: Response, head_s: float) -> None:
        """AssertionError where an answer is none that may be given.

        ``floor_s`` and ``newest`` are what ``known_s`` and ``hits`` said when the query was sent.
        """
        status, fields = got.status, got.fields
        self.counts[f"{query.method} {status}"] = self.counts.get(f"{query.method} {status}", 0) + 1
        thing, now_s = self.truth.things[query.path], head_s
        failed = self.truth.failed_between(query.sent_s, now_s)
        if query.method == "POST":
            assert status == 200 or failed, "a POST failed, though the origin did not"
            if status == 200:
                number = int(fields["x-is"].split("-")[0])
                self.learn(query.server, query.path, thing.versions[number].since_s + INSTANT_S)
            return
        if status == 504 and "only-if-cached" in query.wishes:
            return
        if status in FAILURES:
            assert failed, "an error, though the origin did not fail"
            return
        if status == 416:
            return
        assert status in (200, 206, 304), "a status that the origin never sends"
        said = fields["etag"].removeprefix("W/").strip('"') if status == 304 else fields["x-is"]
        number, language, user = int(said.split("-")[0]), *said.split("-")[1:]
        version, until_s = thing.versions[number], thing.until_s(number)
        if status == 304:
            assert query.tag and query.tag == fields["etag"], "a 304 for another version"
        elif query.method != "HEAD":
            self._check_body(query, got, thing.body(number, language, user))
        assert not thing.varies or language == query.language, "another variant"
        assert not user or user == query.user, "what is for another user"
        terms = fields.get("cache-control", "")
        assert terms == version.terms, "terms of another version"
        late_s = now_s - until_s
        assert until_s >= floor_s, f"replaced {floor_s - until_s:.3f} s before that was known here"
        if "age" in fields:
            assert int(fields["age"]) + slack_s(got) >= late_s, "older than it says"
        if terms in OWN:
            assert until_s >= query.sent_s or failed, "not confirmed, though it must be"
        self._check_age(query, got, terms, until_s, now_s, failed)
        key = query.server, query.path, language
        if got.cache.rpartition(",")[2].strip().endswith("; hit") and status in (200, 304):
            assert number >= newest, f"version {number} after version {newest}"
            self.hits[key] = max(self.hits.get(key, -1), number)

    def _check_body(self, query: Query, got: Response, whole: bytes) -> None:
        if got.status == 200:
            assert got.body == whole, "another body"
            return
        placed = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+)", got.fields["content-range"])
        assert placed and query.wanted
        first, last, length = map(int, placed.groups())
        assert length == len(whole) and got.body == whole[first : last + 1], "another part"
        start, _, end = query.wanted.removeprefix("bytes=").partition("-")
        assert first == int(start) and last == min(int(end or length), length - 1), "not the part that was wanted"

    def _check_age(
        self, query: Query, got: Response, terms: str, until_s: float, now_s: float, failed: bool
    ) -> None:
        """Nothing staler than its terms and the client's wishes allow."""
        lifetime_s = next((int(found) for found in re.findall(r"s-maxage=(\d+)", terms)), None)
        if lifetime_s is None:
            lifetime_s = next((int(found) for found in re.findall(r"max-age=(\d+)", terms)), 0)
        strict = "must-revalidate" in terms or "s-maxage" in terms
        extra_s = float(next((found for found in re.findall(r"stale-while-revalidate=(\d+)", terms)), 0))
        if failed and not strict:
            implied_s = STALE_IF_ERROR_S if lifetime_s else 0
            extra_s = max(extra_s, float((re.findall(r"stale-if-error=(\d+)", terms) or [implied_s])[0]))
        if "max-stale" in query.wishes and not strict:
            extra_s = max(extra_s, float((re.findall(r"max-stale=(\d+)", query.wishes) or [inf])[0]))
        if until_s < query.sent_s:
            age_s = int(got.fields["age"])
            assert age_s <= lifetime_s + extra_s + slack_s(got), f"stale, and replaced {now_s - until_s:.1f} s ago"
        if "no-cache" in query.wishes and "collapsed" not in got.cache and not failed:
            assert until_s >= query.sent_s, "not asked for anew"
