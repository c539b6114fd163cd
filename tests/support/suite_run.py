"""Runs the cache suite: client and scripted origin here, a real edge process between them.

Every test has a URL of its own, so all run side by side; only a test's own requests wait for each other.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit
from uuid import uuid4

import msgspec

from nearmile.base.geography import Point
from nearmile.config.layout import Config, lay_out
from nearmile.config.network import Nameserver, Network, Region, Site
from nearmile.services import children
from suite_cases import Case, Group, Header, Kind, Step, parts, written
from suite_origin import Origin, Script, Seen
from suite_wire import Client, Pairs, Response, values

HOST = "www.cases.test"
ORIGIN_PORT, EDGE_NAME = 8001, "here-1"
PAUSE_S, REQUEST_S, START_S = 3.0, 12.0, 20.0
# Cases begin so long after each other: all at once, this process would be slower than the seconds that they count.
APART_S = 0.02
# Some have responses that are fresh for two seconds. Where one took so much longer than it pauses, as the machine
# had other work, its failure says nothing: it is run again, with few others; after so often, what it says counts.
LATE_S, FEW, TRIES = 0.5, 4, 5
# The edge's shortest path takes only requests without these, which mean nothing: both paths must do the same.
MANNERS: tuple[Pairs, ...] = ([], [("Pragma", "foo"), ("Cache-Control", "nothing-to-see-here")])
# The client compares every header but those that a proxy may well renew.
NOT_COMPARED = frozenset(("date",))


Door = tuple[str, int]
"""Address and port."""


class Wire(Protocol):
    """A client's connection."""

    async def fetch(self, method: str, target: str, pairs: Pairs, body: bytes) -> Response:
        """One exchange."""
        ...

    def close(self) -> None:
        """Ends the connection."""
        ...


Speak = Callable[[str, int, str], Wire]
"""A connection to an address and a port, for a host."""


class Failed(Exception):
    """A check that did not hold; ``setup`` where it is no more than the condition for the test."""

    def __init__(self, what: str, setup: bool) -> None:
        super().__init__(what)
        self.setup = setup


@dataclass(frozen=True)
class Result:
    """What came of one case."""

    id: str
    name: str
    group: str
    kind: Kind
    passed: bool
    why: str = ""
    late: bool = False
    """It failed, perhaps for want of time."""


def config_at(loopback: str) -> Config:
    """One region with one server, one site whose origin is the runner."""
    here = Point(50.1, 8.7)
    network = Network(
        name="cases",
        zone="cases.test",
        # HTTP/2 without TLS is believed of trusted proxies alone.
        trusted=(loopback, "127.0.0.1"),
        loopback=loopback,
        regions={"here": Region(city="Here", point=here, servers=1)},
        nameservers=tuple(Nameserver(tier=tier, city="Here", point=here) for tier in ("top", "low")),
    )
    host = loopback.replace("0.0/16", "0.128")
    site = Site(hostnames=(HOST,), origin=f"http://{host}:{ORIGIN_PORT}", serial=7)
    return lay_out(network, {"cases": site}, {}, version=1)


@asynccontextmanager
async def edge(root: Path, config: Config) -> AsyncIterator[Door]:
    """A real edge process; its address and port."""
    (root / "config.json").write_bytes(msgspec.json.encode(config))
    me = config.process(EDGE_NAME)
    child = await children.start(children.command(root, me), root / "edge.log")
    try:
        await _listening(me.address, me.port, root / "edge.log")
        yield me.address, me.port
    finally:
        await child.stop()


async def _listening(address: str, port: int, log: Path) -> None:
    deadline_s = time.monotonic() + START_S
    while time.monotonic() < deadline_s:
        try:
            _, writer = await asyncio.open_connection(address, port)
        except OSError:
            await asyncio.sleep(0.02)
        else:
            writer.close()
            return
    raise AssertionError(f"the edge does not listen: {log.read_text()[-2000:]}")


async def run_suite(groups: list[Group], root: Path, loopback: str, speak: Speak = Client) -> list[Result]:
    """Every case through an edge server, in the suite's order; ``speak`` says which protocol."""
    config = config_at(loopback)
    async with _origin(config) as (origin, _), edge(root, config) as door:
        return await _run_all(groups, origin, door, speak)


async def run_without_cache(groups: list[Group], loopback: str) -> list[Result]:
    """The same with nothing between client and origin: how little passes shows what the cases are worth."""
    async with _origin(config_at(loopback)) as (origin, door):
        return await _run_all(groups, origin, door, Client)


@asynccontextmanager
async def _origin(config: Config) -> AsyncIterator[tuple[Origin, Door]]:
    """The runner as the site's origin; and where it listens."""
    url, origin = urlsplit(config.sites[0].origins[0]), Origin()
    assert url.hostname is not None and url.port is not None
    await origin.listen(url.hostname, url.port)
    try:
        yield origin, (url.hostname, url.port)
    finally:
        await origin.close()


async def _run_all(groups: list[Group], origin: Origin, door: Door, speak: Speak) -> list[Result]:
    """Judges all cases at once. A case fails with what it depends on, as in the suite's own counting."""
    cases = {case.id: case for group in groups for case in group.tests}
    every = [(group, case) for group in groups for case in group.tests]
    runs = (
        _judge(group, case, origin, door, speak, number * APART_S) for number, (group, case) in enumerate(every)
    )
    results = await asyncio.gather(*runs)
    for _ in range(TRIES):
        late = [number for number, result in enumerate(results) if result.late]
        for at in range(0, len(late), FEW):
            few = late[at : at + FEW]
            again = await asyncio.gather(*(_judge(*every[number], origin, door, speak, 0) for number in few))
            for number, result in zip(few, again, strict=True):
                results[number] = result
    passed = {result.id for result in results if result.passed}

    def lost(case: Case) -> str:
        """A failed case that this one depends on, or that its dependencies do."""
        for one in case.depends_on:
            if deeper := one if one not in passed else lost(cases[one]):
                return deeper
        return ""

    judged = []
    for result in results:
        missing = lost(cases[result.id]) if result.passed else ""
        judged.append(replace(result, passed=False, why=f"setup: depends on {missing}") if missing else result)
    return judged


async def _judge(group: Group, case: Case, origin: Origin, door: Door, speak: Speak, after_s: float) -> Result:
    """Runs a case in each manner; all must pass."""
    await asyncio.sleep(after_s)
    clock = asyncio.get_running_loop().time
    began_s = clock()
    runs = (_why(case, origin, speak(*door, HOST), manner) for manner in MANNERS)
    why = next(filter(None, await asyncio.gather(*runs)), "")
    pauses_s = sum(PAUSE_S * step.pause_after + step.response_pause for step in case.requests)
    late = bool(why) and clock() - began_s > pauses_s + LATE_S
    return Result(case.id, case.name, group.name, case.kind, not why, why, late)


async def _why(case: Case, origin: Origin, client: Wire, manner: Pairs) -> str:
    """Why a case fails; empty where it passes."""
    try:
        await _Run(case, origin, client, manner).run()
    except Failed as failure:
        return ("setup: " if failure.setup else "") + str(failure)
    except (OSError, EOFError, TimeoutError, asyncio.LimitOverrunError) as error:
        return f"no response: {error!r}"
    finally:
        client.close()
    return ""


class _Run:
    """One case under way."""

    def __init__(self, case: Case, origin: Origin, client: Wire, manner: Pairs) -> None:
        self.case, self.client, self.manner = case, client, manner
        # A UUID, since a case states the default body's length: 36.
        self.script = Script(str(uuid4()), case.requests)
        origin.scripts[self.script.token] = self.script
        self.previous: Response | None = None

    async def run(self) -> None:
        """Raises Failed."""
        for number, step in enumerate(self.case.requests, 1):
            async with asyncio.timeout(REQUEST_S):
                response = await self._fetch(number, step)
            check = _Check(step, number, self.script.token)
            check.response(response)
            self.previous = response
            if step.pause_after:
                await asyncio.sleep(PAUSE_S)
            seen = [seen for seen in self.script.seen if seen.number == number]
            check.exchange(seen[0] if seen else None, response)

    async def _fetch(self, number: int, step: Step) -> Response:
        target = f"/test/{self.script.token}"
        target += f"/{step.filename}" if step.filename else ""
        target += f"?{step.query_arg}" if step.query_arg else ""
        pairs = [*self.manner, *(self._asked(header, step) for header in step.request_headers)]
        pairs += [("Test-ID", self.case.id), ("Req-Num", str(number))]
        return await self.client.fetch(step.request_method, target, pairs, step.request_body.encode())

    def _asked(self, header: Header, step: Step) -> tuple[str, str]:
        now_ms = int(time.time() * 1000)
        if step.magic_ims and self.previous is not None and str(header[0]).lower() == "if-modified-since":
            now_ms = _number(self.previous, "server-now") or now_ms
        return written(header, now_ms, "", step)


class _Check:
    """The expectations of one step."""

    def __init__(self, step: Step, number: int, token: str) -> None:
        self.step, self.number, self.token = step, number, token

    def _hold(self, condition: bool, what: str, check: str = "") -> None:
        """``check`` names the expectation; empty: one that is the test's setup in any case."""
        if not condition:
            setup = self.step.setup or not check or check in self.step.setup_tests
            raise Failed(f"request {self.number}: {what}", setup)

    def response(self, response: Response) -> None:
        """What the client got."""
        numbers = (response.head.get("request-numbers") or "").split()
        self._hold(len(numbers) == len(set(numbers)), "the origin was asked twice")
        self._type(response)
        self._status(response)
        for wanted in self.step.expected_response_headers:
            self._present(wanted, response)
        for unwanted in self.step.expected_response_headers_missing:
            name, words = (unwanted, "") if isinstance(unwanted, str) else (str(unwanted[0]), str(unwanted[1]))
            value = response.head.get(name)
            absent = value is None or (words not in value if words else False)
            self._hold(absent, f"{name} is there: {value}", "expected_response_headers_missing")
        self._interim(response)
        self._body(response)

    def exchange(self, seen: Seen | None, response: Response) -> None:
        """What the origin saw of it and sent."""
        step = self.step
        if step.expected_type == "cached":
            return
        if step.expected_type is not None:
            self._hold(seen is not None, "the origin was not asked", "expected_type")
        if step.validated and seen is not None:
            condition = "if-none-match" if step.expected_type == "etag_validated" else "if-modified-since"
            self._hold(bool(values(seen.headers, condition)), f"not asked with {condition}", "expected_type")
        for wanted in step.expected_request_headers:
            name, value = (wanted, None) if isinstance(wanted, str) else (str(wanted[0]), str(wanted[1]))
            got = values(seen.headers, name) if seen is not None else []
            held = bool(got) if value is None else ", ".join(got) == value
            self._hold(held, f"the origin saw {name}: {got}", "expected_request_headers")
        for unwanted in step.expected_request_headers_missing:
            name, value = (unwanted, None) if isinstance(unwanted, str) else (str(unwanted[0]), str(unwanted[1]))
            got = values(seen.headers, name) if seen is not None else []
            held = not got if value is None else ", ".join(got) != value
            self._hold(held, f"the origin saw {name}: {got}", "expected_request_headers_missing")
        if seen is not None:
            self._seen_back(seen.sent, response)
            if step.expected_method is not None:
                self._hold(seen.method == step.expected_method, f"the origin saw {seen.method}", "expected_method")

    def _seen_back(self, sent: Pairs, response: Response) -> None:
        """The headers of the origin's response reach the client."""
        for name in dict.fromkeys(name.lower() for name, _ in sent):
            if name not in NOT_COMPARED:
                value, got = ", ".join(values(sent, name)), response.head.get(name)
                self._hold(got == value, f"{name} is {got}, the origin sent {value}")

    def _type(self, response: Response) -> None:
        count = _number(response, "server-request-count")
        if self.step.expected_type == "cached" and not (response.status == 304 and count is None):
            self._hold(count is not None and count < self.number, "not from the cache", "expected_type")
        elif self.step.expected_type == "not_cached":
            self._hold(count == self.number, "from the cache", "expected_type")

    def _status(self, response: Response) -> None:
        step, status = self.step, response.status
        if step.expected_status is None:
            return
        if step.expected_status is not msgspec.UNSET:
            self._hold(status == step.expected_status, f"{status}, not {step.expected_status}", "expected_status")
        elif step.response_status is not None:
            self._hold(status == step.response_status[0], f"{status}, not {step.response_status[0]}")
        else:
            self._hold(status == 200, f"{status}, not 200", "expected_type" if step.validated else "")

    def _present(self, wanted: str | Header, response: Response) -> None:
        name = wanted if isinstance(wanted, str) else str(wanted[0])
        value = response.head.get(name)
        check = "expected_response_headers"
        self._hold(value is not None, f"no {name}", check)
        if isinstance(wanted, str) or value is None:
            return
        if len(wanted) == 3 and wanted[1] == ">":
            self._hold(int(value) > int(wanted[2]), f"{name} is {value}, not more than {wanted[2]}", check)
            return
        if len(wanted) == 3 and wanted[1] == "=":
            expected = response.head.get(str(wanted[2])) or ""
        else:
            expected = written(wanted, _number(response, "server-now") or 0, "", self.step)[1]
        self._hold(value == expected, f"{name} is {value}, not {expected}", check)

    def _interim(self, response: Response) -> None:
        if self.step.expected_interim_responses is None:
            return
        check, got = "expected_interim_responses", response.interim
        expected = [parts(interim) for interim in self.step.expected_interim_responses]
        statuses = [status for status, _ in got]
        self._hold(statuses == [status for status, _ in expected], f"interim responses {statuses}", check)
        for (_, wanted), (_, pairs) in zip(expected, got, strict=True):
            for name, value in wanted:
                self._hold(values(pairs, name) == [value], f"interim {name} is {values(pairs, name)}", check)

    def _body(self, response: Response) -> None:
        step, body = self.step, response.body
        if not step.check_body or step.expected_response_text is None:
            return
        if step.expected_response_text is not msgspec.UNSET:
            held = body == step.expected_response_text
            self._hold(
                held, f"the body is {body!r}, not {step.expected_response_text!r}", "expected_response_text"
            )
        elif step.response_body is not None:
            self._hold(body == step.response_body, f"the body is {body!r}")
        elif response.status not in (204, 304) and step.request_method != "HEAD":
            self._hold(body == self.token, f"the body is {body!r}")


def _number(response: Response, name: str) -> int | None:
    value = response.head.get(name)
    return int(value) if value is not None and value.isdigit() else None
