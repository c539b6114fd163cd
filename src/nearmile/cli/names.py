"""``nearmile dns``: what parents of the network's zones have to say of their keys, and how keys are changed."""

import argparse
import os
import time
from pathlib import Path

import msgspec

from nearmile.base.errors import WrongInput
from nearmile.config.layout import Config
from nearmile.dns.dnssec import ECDSA_P256, SHA_256, Key
from nearmile.dns.records import to_wire
from nearmile.services import state

STEPS = ("begin", "switch", "end")


def ds_arguments(sub: argparse.ArgumentParser) -> None:
    """Of the subcommand."""
    sub.add_argument(
        "zone", nargs="?", metavar="ZONE", help="one zone (default: all that have a parent elsewhere)"
    )


def roll_arguments(sub: argparse.ArgumentParser) -> None:
    """Of the subcommand."""
    sub.add_argument("step", choices=STEPS, help="which step")
    sub.add_argument(
        "zone", nargs="?", metavar="ZONE", help="one zone (default: all but those that were changed so)"
    )
    sub.add_argument(
        "--now", action="store_true", help="do not wait (a key is known to others, or nobody validates)"
    )


class Delegated(msgspec.Struct, frozen=True):
    """One DS record, as in RFC 4034, section 5.1."""

    zone: str
    key_tag: int
    algorithm: int
    digest_type: int
    digest: str


def ds(args: argparse.Namespace) -> int:
    """Prints them as lines of a zone file, or as JSON."""
    config = state.read_config(args.state)
    zones = zones_of(config)
    if args.zone is not None:
        zones = [_known(args.zone, zones)]
    if not config.network.dns.dnssec:
        raise WrongInput("the zones are not signed: network.toml says dns.dnssec = false")
    found = [one for zone in zones for one in records(zone, state.dnssec_secrets(args.state, zone))]
    if args.json:
        print(msgspec.json.encode(found).decode())
    else:
        for one in found:
            print(f"{one.zone}. IN DS {one.key_tag} {one.algorithm} {one.digest_type} {one.digest}")
    return 0


def roll(args: argparse.Namespace) -> int:
    """Adds a generation of keys, makes it the first, or drops the other."""
    config, root = state.read_config(args.state), args.state
    zones = zones_of(config)
    zone = "" if args.zone is None else _known(args.zone, zones)
    secrets, of, name = state.dnssec_secrets(root, zone), f" of {zone}" * bool(zone), f" {zone}" * bool(zone)
    if args.step == "begin":
        if len(secrets) > 1:
            raise WrongInput(f"keys{of} are being changed already: `nearmile dns roll switch{name}`, then `end`")
        secrets = (*secrets, os.urandom(state.SECRET_BYTES))
    elif len(secrets) < 2:
        raise WrongInput(
            f"there is only one generation of keys{of}: `nearmile dns roll begin{name}` makes the next"
        )
    elif not args.now:
        stepped_s = state.dnssec_file_used(root, zone).stat().st_mtime
        _wait(time.time() - stepped_s, config.network.dns.top_ttl_s + state.KEYS_LOOK_S)
    if args.step == "switch":
        secrets = secrets[::-1]
    elif args.step == "end":
        secrets = secrets[:1]
    path = state.dnssec_file(root, zone)
    path.parent.mkdir(exist_ok=True)
    state.write_atomically(path, b"".join(secrets), mode=0o600)
    _tell([zone] if zone else zones, root, bool(zone))
    return 0


def _known(said: str, zones: list[str]) -> str:
    wanted = said.lower().rstrip(".")
    if wanted not in zones:
        raise WrongInput(f"{said} is no zone of this network; there are: {', '.join(zones)}")
    return wanted


def _tell(zones: list[str], root: Path, alone: bool) -> None:
    """Who signs now. Zones whose own keys have become those of all are among all again."""
    all_, own = state.dnssec_secrets(root), state.dnssec_own_secrets(root)
    for zone, secrets in own.items():
        if secrets == all_:
            state.dnssec_file(root, zone).unlink()
    for zone in zones:
        first, *others = (Key(secret, to_wire(zone)).tag for secret in own.get(zone, all_))
        beside = f"; {others[0]} is published beside it" if others else ""
        by_name = "" if alone or own.get(zone, all_) == all_ else "; its keys are changed by its name alone"
        print(f"{zone}: key {first} signs{beside}{by_name}")


def _wait(age_s: float, needed_s: float) -> None:
    """The TTL counts from when the last name server has taken up the last step."""
    if age_s < needed_s:
        raise WrongInput(
            f"the last step was {age_s:.0f} s ago, so resolvers may not know its keys yet; "
            f"wait {needed_s - age_s:.0f} s more, or say --now"
        )


def zones_of(config: Config) -> list[str]:
    """The zones whose parents are others' (or the site's own)."""
    return list(
        dict.fromkeys([config.network.zone, *(z for site in config.sites for z in site.document.dns.zones)])
    )


def records(zone: str, secrets: tuple[bytes, ...]) -> list[Delegated]:
    """Its DS records, one for each key."""
    keys = [Key(secret, to_wire(zone)) for secret in secrets]
    return [Delegated(zone, key.tag, ECDSA_P256, SHA_256, key.ds_data()[4:].hex().upper()) for key in keys]
