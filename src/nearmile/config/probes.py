"""What the network document says of measuring: to which hosts regions measure their distance."""

from typing import Annotated, Literal

from msgspec import Meta

from nearmile.config.values import Address, Document, Port

# A region asks one each 10 ms or so, and controllers hear 100 answers a second for each region.
TARGETS_MAX = 1000


class Target(Document, frozen=True, kw_only=True):
    """A host near clients whose distance tells theirs: a resolver, or a machine of the operator's own."""

    address: Annotated[Address, Meta(description="Its address; it stands for the mapping unit that has it.")]
    port: Annotated[Port, Meta(description="Its port.")] = 53
    by: Annotated[
        Literal["dns", "tcp"], Meta(description="A question for the root's name servers, or a connection.")
    ] = "dns"


class Probes(Document, frozen=True, kw_only=True):
    """What every region measures its distance to."""

    targets: Annotated[tuple[Target, ...], Meta(max_length=TARGETS_MAX, description="Hosts.")] = ()
    every_s: Annotated[
        float, Meta(ge=0.5, le=3600, description="How often one server of each region asks each of them.")
    ] = 10.0
