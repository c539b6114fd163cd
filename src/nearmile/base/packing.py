"""What the bus carries packed: it takes 3 MB a message, which configurations, maps and atlases would exceed."""

import msgspec
import zstandard

# A bucket of 64 MB (`services.bus`) has room for 16 such values and the next.
MESSAGE_BYTES_MAX = 3 << 20
# What NATS has to take for that, with headers; 1 MB unless it is told otherwise.
PAYLOAD_BYTES = 4 << 20
# A map of a million units, an atlas of as many, a configuration of a hundred thousand sites are below this, and a
# bomb is not.
UNPACKED_BYTES_MAX = 256 << 20
_FRAME = b"\x28\xb5\x2f\xfd"  # how one begins (RFC 8878, section 3.1.1)


def pack(data: bytes, level: int) -> bytes:
    """With that level of zstandard's."""
    return zstandard.compress(data, level)


def unpack(data: bytes) -> bytes:
    """The bytes that were packed; DecodeError of msgspec where none were."""
    try:
        return zstandard.ZstdDecompressor().decompress(data, max_output_size=UNPACKED_BYTES_MAX)
    except zstandard.ZstdError as error:
        raise msgspec.DecodeError(f"not packed: {error}") from None


def plain(data: bytes) -> bytes:
    """The bytes, unpacked where they are packed: disks keep some as text. DecodeError as above."""
    return unpack(data) if data.startswith(_FRAME) else data
