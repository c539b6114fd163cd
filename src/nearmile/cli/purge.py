"""``nearmile purge``: a URL, a prefix, a tag or a whole site leaves every server's cache."""

import argparse
import uuid

import msgspec
import uvloop

from nearmile.base.errors import WrongInput
from nearmile.cache.purge import VALUE_BYTES_MAX, VALUES_MAX, Kind, Order, split_tags
from nearmile.cli import sites, urls
from nearmile.config.layout import Config
from nearmile.edge.rules.site import space_of, stored_target
from nearmile.services import running, state
from nearmile.services.bus import Bus
from nearmile.services.purger import Purged, Purger

CONFIRM_PATIENCE_S = 3.0
NOT_RUNNING = frozenset(("waiting", "stopped"))


def purge_arguments(sub: argparse.ArgumentParser) -> None:
    """Of the subcommand."""
    sub.add_argument("url", nargs="?", metavar="URL", help="http://HOST/PATH, with all its variants")
    sub.add_argument("--prefix", metavar="URL", help="all URLs of a site that begin so")
    sub.add_argument("--host", metavar="NAME", help="all that is stored for that host name")
    sub.add_argument("--site", metavar="NAME", help="the site that --tag or --all is about")
    tags = "what the origin named so in Surrogate-Key, Cache-Tag or xkey; one of several is enough"
    sub.add_argument("--tag", nargs="+", default=[], metavar="KEY", help=tags)
    sub.add_argument("--all", action="store_true", help="all of the site")
    soft = "do not remove: ask the origin if it is still good (and serve it meanwhile, where it says so)"
    sub.add_argument("--soft", action="store_true", help=soft)


def purge(args: argparse.Namespace) -> int:
    """Prints how many servers confirmed; exit code 1 unless all that run did."""
    running.read(args.state)
    config = state.read_config(args.state)
    done = uvloop.run(_purge(args, config, order_of(args, config)))
    missing = sorted(done.missing)
    result = {
        "confirmed": len(done.servers) - len(missing),
        "servers": len(done.servers),
        "missing": missing,
        "objects": done.objects,
        "total_ms": round(done.total_s * 1000, 1),
    }
    if args.json:
        print(msgspec.json.encode(result).decode())
    else:
        counted = f", {done.objects} stored copies {'made stale' if args.soft else 'removed'}" if args.url else ""
        print(
            f"{result['confirmed']} of {result['servers']} servers confirmed{counted}, {result['total_ms']} ms"
            + "".join(f"\n  no answer: {name}" for name in missing)
        )
    return 1 if missing else 0


def order_of(args: argparse.Namespace, config: Config) -> Order:
    """What the arguments ask for; WrongInput where that is nothing, or two things."""
    kinds: dict[Kind, bool] = {
        "url": bool(args.url),
        "prefix": bool(args.prefix),
        "tag": bool(args.tag),
        "all": bool(args.host or args.all),
    }
    wanted: list[Kind] = [kind for kind, given in kinds.items() if given]
    if len(wanted) != 1 or bool(args.site) != bool(args.tag or args.all):
        raise WrongInput(
            "what is to be purged? URL, --prefix URL, --host NAME, --site NAME --tag KEY..., or --site NAME --all"
        )
    kind, values = wanted[0], tuple[str, ...]()
    if kind in ("url", "prefix"):
        url = urls.split(args.url or args.prefix)
        host, target = url.hostname or "", urls.target(url).encode()
        site = sites.of_host(config, host)
        stored = stored_target(site.document, target) if kind == "url" else target
        values = ((space_of(site.document, host.encode()) + stored).decode(),)
    elif kind == "tag":
        site = sites.of_name(config, args.site)
        values = tuple(tag.decode() for tag in split_tags(" ".join(args.tag).encode()))
        if not values:
            raise WrongInput("--tag names no tag")
    else:
        host = (args.host or "").lower().removesuffix(".")
        site = sites.of_host(config, host) if host else sites.of_name(config, args.site)
        # A wildcard stands for names that nobody has a list of.
        if host and not host.startswith("*") and (space := space_of(site.document, host.encode())):
            kind, values = "prefix", (f"{space.decode()}/",)
    if len(values) > VALUES_MAX or any(len(value.encode()) > VALUE_BYTES_MAX for value in values):
        raise WrongInput(f"one order names at most {VALUES_MAX} things of {VALUE_BYTES_MAX} bytes")
    return Order(id=str(uuid.uuid4()), serial=site.serial, kind=kind, values=values, soft=args.soft)


async def _purge(args: argparse.Namespace, config: Config, order: Order) -> Purged:
    def down(since_s: float) -> set[str]:
        now = running.read(args.state)
        return {one.name for one in now.processes if one.state in NOT_RUNNING} if now.at_s > since_s else set()

    bus = Bus.of(args.state, config, "purge")
    purger = Purger(bus, (process.name for process in config.of_role("edge")))
    async with bus.opened():
        return await purger.purge(order, down, CONFIRM_PATIENCE_S)
