"""What must hold in every run, checked on its history. Each check returns the violations it found, in words.

A check counts only undisturbed time: a nameserver that is cut off from the bus answers on its last map by design,
and while the control plane itself falls and gets up nobody can promise more than that it does get up. Since the
checks could so become empty, each also says how much it has checked.
"""

from collections.abc import Iterable
from typing import NamedTuple

from nearmile.fleet import health, lease
from nearmile.mapping import controller
from nearmile.simulate.bus import RECHECK_S, RECONNECT_MAX_S, REQUEST_TIMEOUT_S
from nearmile.simulate.history import History
from nearmile.simulate.network import HOP_MAX_S

# Violations of one kind tell the same story.
SHOWN_MAX = 20


class Found(NamedTuple):
    """What a check found, and in how many cases it could have."""

    violations: list[str]
    checked: int


def takeover_s() -> float:
    """The longest until somebody leads again, once the parts of the control plane are up and connected.

    The record runs out, after a renewal that landed unanswered; then the jittered wait, and a write that fails and
    is retried.
    """
    tries_s = 2 * (2 * HOP_MAX_S + 2 * lease.RETRY_S)
    return REQUEST_TIMEOUT_S + lease.LEASE_S + lease.JITTER_S + tries_s


def detection_s(dead_after_s: float, beat_s: float) -> float:
    """The longest that a dead server is named in undisturbed time.

    Silence counts from the last beat, which arrives two hops after it was sent, so ``beat_s`` only matters to a
    server that beats just before it dies. Then the map: coalesced, kept from following the last too closely, or
    waiting for the answer to the last write; one hop to the KV and one to the nameserver.
    """
    hops = 2 + 2 + 1 + 1
    return dead_after_s + beat_s + controller.COALESCE_S + controller.MAP_GAP_S + hops * HOP_MAX_S


def return_s(dead_after_s: float, beat_s: float) -> float:
    """The longest that a server that lives and is heard is missing in undisturbed time.

    It connects and beats; it is held for having died often; its map is made and sent. Beats of the life before
    may make those of the new one look late for ``dead_after_s`` (see ``fleet.health``).
    """
    return RECONNECT_MAX_S + health.HOLD_MAX_S + dead_after_s + detection_s(dead_after_s, beat_s)


def named_while_dead(history: History, bound_s: float, settle_s: float) -> Found:
    """(a) No answer names a server that has been dead for longer than the bound.

    The nameserver and the control plane must have been undisturbed for the bound and, before, for as long as the
    control plane needs to settle (``takeover_s``). Nobody alive at all is no violation: the last map stays.
    """
    violations, checked = [], 0
    for answer in history.answers:
        if not _calm(history, answer.nameserver, answer.at_s - bound_s - settle_s, answer.at_s):
            continue
        for server in answer.servers:
            checked += 1
            died_s = history.dead[server].since(answer.at_s)
            if died_s is not None and answer.at_s - died_s > bound_s:
                dead_s = answer.at_s - died_s
                violations.append(
                    f"{answer.at_s:.3f} s: {answer.nameserver} names {server}, dead for {dead_s:.3f} s"
                )
    return Found(violations, checked)


def abandoned(history: History, bound_s: float, settle_s: float) -> Found:
    """(b) No server that serves and can be heard for longer than the bound is missing from the answers."""
    violations, checked = [], 0
    for absence in history.absences:
        if not _calm(history, absence.nameserver, absence.at_s - bound_s - settle_s, absence.at_s):
            continue
        for server in absence.missing:
            checked += 1
            able_s = history.able[server].since(absence.at_s)
            if able_s is not None and absence.at_s - able_s > bound_s:
                there_s = absence.at_s - able_s
                violations.append(
                    f"{absence.at_s:.3f} s: {absence.nameserver} lacks {server}, back for {there_s:.3f} s"
                )
    return Found(violations, checked)


def empty_answers(history: History) -> Found:
    """No answer is empty, once a first map is known."""
    violations = [f"{a.at_s:.3f} s: {a.nameserver} answers nothing" for a in history.answers if not a.servers]
    return Found(violations, len(history.answers))


def published_twice(history: History) -> Found:
    """(d) One term has one writer, and terms and versions only grow."""
    violations = []
    writers: dict[int, str] = {}
    last = (0, 0)
    for made in history.publications:
        if writers.setdefault(made.term, made.writer) != made.writer:
            violations.append(
                f"{made.at_s:.3f} s: {made.writer} and {writers[made.term]} wrote in term {made.term}"
            )
        if made.term < last[0] or made.version <= last[1]:
            violations.append(f"{made.at_s:.3f} s: {made.writer} wrote {made.term}/{made.version} after {last}")
        last = (made.term, made.version)
    return Found(violations, len(history.publications))


def delays_s(history: History, settle_s: float) -> list[float]:
    """For how long each dead server was still named, in undisturbed time: its last naming of each death."""
    last: dict[tuple[str, float], float] = {}
    for answer in history.answers:
        for server in answer.servers:
            died_s = history.dead[server].since(answer.at_s)
            if died_s is not None and _calm(history, answer.nameserver, died_s - settle_s, answer.at_s):
                last[server, died_s] = max(last.get((server, died_s), 0.0), answer.at_s - died_s)
    return sorted(last.values())


def told(name: str, found: Found) -> Iterable[str]:
    """The findings of one check as lines for people."""
    yield f"{name}: {len(found.violations)} violations in {found.checked} cases"
    yield from (f"  {violation}" for violation in found.violations[:SHOWN_MAX])


def _calm(history: History, nameserver: str, from_s: float, to_s: float) -> bool:
    """Whether the control plane and that nameserver's hearing were undisturbed in all that time."""
    # Hearing counts again when the value has surely been read anew.
    deaf = history.deaf[nameserver].touch(from_s - RECHECK_S - RECONNECT_MAX_S, to_s)
    return from_s >= 0 and not deaf and not history.disturbed.touch(from_s, to_s)
