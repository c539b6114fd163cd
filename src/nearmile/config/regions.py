"""What the network document says of its regions: where they are, and what they and their contracts carry."""

from typing import Annotated, Literal

from msgspec import Meta

from nearmile.config.values import Address, City, Coordinates, Document, Name

# A region's servers have the last byte of an address of ``loopback``.
SERVERS_MAX = 254
Traffic = Annotated[
    Literal["pages", "downloads"],
    Meta(
        description="Whether clients are sent where round trips are short, or where large bodies come fast. "
        "A site with `regions` is served by the nearest of these."
    ),
]
Capacity = Annotated[float, Meta(ge=1, le=1_000_000_000)]


class Contract(Document, frozen=True, kw_only=True):
    """A bound that several regions share: an uplink, or what was agreed with a carrier."""

    capacity_rps: Annotated[Capacity, Meta(description="Requests/s that its regions carry together.")]


class Region(Document, frozen=True, kw_only=True):
    """A place with servers: a few machines in one data centre or exchange."""

    city: Annotated[City, Meta(description="The city it is in (its coordinates are looked up).")]
    servers: Annotated[
        Annotated[int, Meta(ge=1, le=SERVERS_MAX)] | Annotated[tuple[Address, ...], Meta(min_length=1)],
        Meta(description="How many servers, each given an address of `loopback`; or their addresses."),
    ] = 2
    capacity_rps: Annotated[
        Capacity | None, Meta(description="Requests/s that its servers carry together; by default unlimited.")
    ] = None
    contract: Annotated[Name | None, Meta(description="The one of `contracts` that it comes under.")] = None
    cost_ms: Annotated[
        float, Meta(ge=0, le=1000, description="A region that costs more counts as if so much further away.")
    ] = 0.0
    drain: Annotated[bool, Meta(description="Take it out of all answers, though its servers run on.")] = False
    point: Annotated[
        Coordinates | None, Meta(description="Where exactly; needed where the city is not known by name.")
    ] = None
