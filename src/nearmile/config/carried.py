"""Whether the bus carries what follows from the documents: one message is the configuration, another the map."""

from collections.abc import Iterator

import msgspec

from nearmile.base.packing import MESSAGE_BYTES_MAX
from nearmile.config.layout import Config, encode
from nearmile.config.network import RANKED_MAX

# Numbers of regions that a map has for units beside those that all sites go by, each of two bytes; packed they are
# a fiftieth to a fifth of that, a half at worst. Where a map is too large still, it has but the best of these.
PINNED_MAX = 16_000_000


def beyond_the_bus(config: Config) -> Iterator[tuple[str, str, str]]:
    """(site, or "" for the network, key, what) for what is too much for a message."""
    left, seen = PINNED_MAX // config.network.units, set[tuple[frozenset[str], str]]()
    for site in config.sites:
        pin = frozenset(site.document.regions), site.document.traffic
        if pin[0] and pin not in seen:
            seen.add(pin)
            left -= min(len(pin[0]), RANKED_MAX)
            if left < 0:
                yield (
                    site.name,
                    "regions",
                    f"one set of regions too many: the map carries no more than {len(seen) - 1} of the sites' "
                    f"different ones; let sites have the same, or lower `units` ({config.network.units}) in "
                    "network.toml",
                )
                break
    size = len(encode(config))
    if size > MESSAGE_BYTES_MAX:
        parts = {"": config.network, **{site.name: site for site in config.sites}}
        longest = max(parts, key=lambda name: len(msgspec.json.encode(parts[name])))
        yield (
            longest,
            "",
            f"all documents together take {size:,} bytes when packed, more than the {MESSAGE_BYTES_MAX:,} that "
            "the bus carries; make them shorter, above all this, the longest",
        )
