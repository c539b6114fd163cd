"""``nearmile sign``: a URL that a site with signed URLs serves, until it expires."""

import argparse
import time
from ipaddress import ip_network

from nearmile.base.errors import NearmileError, WrongInput
from nearmile.cli import sites, urls
from nearmile.cli.spans import seconds
from nearmile.edge.rules.signatures import Claims, signed
from nearmile.edge.rules.site import stored_target
from nearmile.services import state
from nearmile.services.site_files import read_secret


def sign_arguments(sub: argparse.ArgumentParser) -> None:
    """Of the subcommand."""
    sub.add_argument("url", metavar="URL", help="http://HOST/PATH")
    sub.add_argument("--site", metavar="NAME", help="the site; by default the one with that host name")
    sub.add_argument("--key", metavar="ID", help="the key to sign with; by default the document's last")
    sub.add_argument("--for", dest="block", metavar="BLOCK", help="only for clients in that address block")
    sub.add_argument("--expires", type=seconds, required=True, metavar="SPAN", help="from now on: 10m, 2h, 1d")


def sign(args: argparse.Namespace) -> int:
    """Prints the signed URL."""
    config = state.read_config(args.state)
    url = urls.split(args.url)
    named = sites.of_name(config, args.site) if args.site else sites.of_host(config, url.hostname or "")
    site = named.document
    if site.signed is None:
        raise WrongInput(f"site {named.name} serves URLs without signatures: its document has no [signed]")
    key_id = args.key or list(site.signed.keys)[-1]
    if key_id not in site.signed.keys:
        raise WrongInput(f"site {named.name} has no key {key_id!r}; there are: {', '.join(site.signed.keys)}")
    if args.expires <= 0:
        raise WrongInput("--expires must be a time span above 0")
    try:
        block = str(ip_network(args.block, strict=False)) if args.block else ""
        secret = read_secret(site.signed.keys[key_id])
    except (OSError, ValueError) as error:
        raise NearmileError(f"cannot sign: {error}") from None
    claims = Claims(b"%d" % (int(time.time()) + args.expires), key_id.encode(), block.encode())
    target = signed(secret, named.name, stored_target(site, urls.target(url).encode()), claims)
    print(f"{url.scheme}://{url.netloc}{target.decode()}")
    return 0
