"""``nearmile map``: why a user is sent where, and what changed from one map to another."""

import argparse
import contextlib
from statistics import fmean

import msgspec
import uvloop
from rich.console import Console

from nearmile.base.errors import WrongInput
from nearmile.base.geography import distance_km, expected_rtt_ms
from nearmile.cli import fetch, sites, status
from nearmile.config.layout import Config
from nearmile.mapping import explain as explaining
from nearmile.mapping.atlas import Finder, unpack
from nearmile.mapping.explain import NOTHING_TOLD, Difference, Explanation, Told, difference
from nearmile.mapping.map import PARTS, Map, decode, unit_of
from nearmile.mapping.places import Places
from nearmile.services import running, state
from nearmile.services.bus import EXPLAIN_SUBJECT, KV_ATLAS, KV_CURRENT, KV_MAP, Bus, BusDown


def explain_arguments(sub: argparse.ArgumentParser) -> None:
    """Of the subcommand."""
    sub.add_argument("where", metavar="ADDRESS|CITY", help="where the user is")
    sub.add_argument("site", nargs="?", metavar="SITE", help="a site's name or host name: which servers, too")


def diff_arguments(sub: argparse.ArgumentParser) -> None:
    """Of the subcommand."""
    sub.add_argument("before", type=int, metavar="V1", help="a version that is still kept (the last 16 are)")
    sub.add_argument("after", type=int, metavar="V2", help="another")


def explain(args: argparse.Namespace) -> int:
    """Prints the candidates, the best of the map first, and who answers."""
    now, config = running.read(args.state), state.read_config(args.state)
    address = fetch.client_address(args.where)
    place = Places.open(config.network).lookup(address)
    unit, kept, told = _learned(args, config, address, unit_of(place))
    if not kept:
        raise WrongInput("there is no map yet; `nearmile status` says what is not ready")
    map_ = kept[-1]
    rtt_ms = {
        region.name: expected_rtt_ms(distance_km(place.point, region.point)) if place.point else 0.0
        for region in map_.regions
    }
    serial = serial_of(config, args.site) if args.site else 0
    answers = config.network.dns.answers
    found = explaining.explain(map_, unit, rtt_ms, _loads(now, map_), serial, answers, told)
    if args.json:
        print(msgspec.json.encode(found).decode())
    else:
        _show_explanation(found, status.console())
    return 0


def diff(args: argparse.Namespace) -> int:
    """Prints which servers came and went, and which units moved."""
    running.read(args.state)
    kept = {map_.version: map_ for map_ in _kept(args, state.read_config(args.state))}
    for version in (args.before, args.after):
        if version not in kept:
            raise WrongInput(f"map {version} is not kept (any more); there are: {', '.join(map(str, kept))}")
    found = difference(kept[args.before], kept[args.after])
    if args.json:
        print(msgspec.json.encode(found).decode())
    else:
        _show_difference(found, status.console())
    return 0


def _learned(args: argparse.Namespace, config: Config, address: str, of_place: str) -> tuple[str, list[Map], Told]:
    """The unit of an address by the atlas (else that of its place), the maps, and what the controller says."""

    async def read() -> tuple[str, list[bytes], Told]:
        bus = Bus.of(args.state, config, "map")
        async with bus.opened():
            held, unit, told = await bus.get(KV_ATLAS, KV_CURRENT), of_place, NOTHING_TOLD
            if held is not None:
                atlas = unpack(held[1])
                unit = atlas.names[Finder(atlas).unit(address)]
            with contextlib.suppress(BusDown, msgspec.DecodeError):
                told = msgspec.msgpack.decode(await bus.request(EXPLAIN_SUBJECT, unit.encode()), type=Told)
            return unit, await bus.history(KV_MAP, KV_CURRENT), told

    unit, history, told = uvloop.run(read())
    return unit, _readable(history), told


def _readable(history: list[bytes]) -> list[Map]:
    """Without those of a release that wrote them otherwise."""
    found = []
    for data in history:
        with contextlib.suppress(msgspec.DecodeError):
            found.append(decode(data))
    return found


def _kept(args: argparse.Namespace, config: Config) -> list[Map]:
    """The maps that the bus keeps, the oldest first; without those of a release that wrote them otherwise."""

    async def read() -> list[bytes]:
        bus = Bus.of(args.state, config, "map")
        async with bus.opened():
            return await bus.history(KV_MAP, KV_CURRENT)

    return _readable(uvloop.run(read()))


def serial_of(config: Config, site: str) -> int:
    """Of the site with that name or hostname; WrongInput where there is none."""
    names = {named.name for named in config.sites}
    return (sites.of_name(config, site) if site in names else sites.of_host(config, site)).serial


def _loads(now: running.Status, map_: Map) -> dict[str, float]:
    cpu = {one.name: one.cpu for one in now.processes}
    return {
        region.name: fmean(cpu.get(server.name, 0.0) for server in region.servers) if region.servers else 0.0
        for region in map_.regions
    }


def _show_explanation(found: Explanation, out: Console) -> None:
    as_ = " for anybody" if not found.found_as else f" as {found.found_as}" if found.found_as != found.unit else ""
    class_ = ", class downloads" if found.downloads else ""
    out.print(f"mapping unit [bold]{found.unit or 'unknown'}[/bold]{as_}{class_} (map {found.map_version})\n")
    fetch = ("fetch ms",) if found.downloads else ()
    columns = "prior ms", "rtt ms", *fetch, "measured by", "s ago", "load", "cost ms", "score ms", "live", "share"
    table = status.table(("region", ""), columns)
    for one in found.candidates:
        style = "green" if one.region == found.region else "" if one.live else "red"
        why = f"[{style}]{one.why}[/{style}]" if style else one.why
        measured = (str(one.voices), f"{one.age_s:.0f}") if one.voices else ("-", "-")
        figures = f"{one.load:.0%}", f"{one.cost_ms:.1f}", f"{one.score_ms:.1f}", str(one.live)
        share = f"{one.share}/{PARTS}" if one.share else ""
        times = (one.prior_ms, one.rtt_ms, one.fetch_ms) if found.downloads else (one.prior_ms, one.rtt_ms)
        table.add_row(one.region, why, *(f"{ms:.1f}" for ms in times), *measured, *figures, share)
    out.print(table)
    if found.pinned:
        out.print(f"\nthe site is pinned to its regions{', of which none lives' if found.outside else ''}")
    servers = f": {', '.join(found.servers)}" if found.servers else ""
    out.print(f"\nanswered from {found.region or 'nowhere: no server lives'}{servers}")


def _show_difference(found: Difference, out: Console) -> None:
    out.print(f"from map {found.before} to map {found.after}, made {found.seconds:.1f} s later\n")
    for what, names in (("gone", found.gone), ("come", found.come)):
        if names:
            out.print(f"{what}: {', '.join(names)}")
    if found.moved:
        table = status.table(("from", "to"), ("units",))
        for before, after, count in found.moved:
            table.add_row(before or "-", after or "-", f"{count:,}")
        out.print(table)
    moved = sum(count for *_, count in found.moved)
    out.print(
        f"{moved:,} of {found.units:,} units moved; {found.reranked:,} more have another order behind the first"
    )
