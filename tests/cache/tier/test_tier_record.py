"""Records: whole ones are read as they were written, and no damaged one is taken for whole."""

from hypothesis import given
from hypothesis import strategies as st

from nearmile.cache.tier.places import OBJECT_MASK
from nearmile.cache.tier.record import (
    DEAD,
    HEADER_BYTES,
    PIECE_BYTES,
    Header,
    Meta,
    is_alive,
    object_name,
    pieces_of,
    read_header,
    read_lead,
    variant_name,
    write_lead,
    write_meta,
)
from tier_world import HEAD, kept

META = Meta(b"key", (b"accept",), b"variant", kept(b"a tag"), HEAD)


def lead_of(body: bytes) -> bytes:
    meta = write_meta(META)
    return write_lead(Header(len(meta), len(body), object_name(b"key"), 2, 3, 1), meta, body)


def test_what_was_written_is_read() -> None:
    body = b"a" * PIECE_BYTES + b"b" * PIECE_BYTES
    data = lead_of(body)
    header, lead = read_header(data), read_lead(data + body)
    assert header is not None and lead is not None and lead.header == header
    assert (header.name, header.generation, header.body_bytes) == (2, 3, len(body))
    assert header.lead_bytes == len(data) and header.record_bytes == len(data) + len(body)
    assert lead.meta == META
    assert lead.fits(0, body[:PIECE_BYTES]) and lead.fits(1, body[PIECE_BYTES:])
    assert not lead.fits(1, body[:PIECE_BYTES])
    assert not lead.fits(0, b"\x01" + body[1:PIECE_BYTES])
    assert not lead.fits(2, b"")


def test_an_empty_body_has_no_piece() -> None:
    assert [pieces_of(size) for size in (0, 1, PIECE_BYTES, PIECE_BYTES + 1)] == [0, 1, 1, 2]
    assert read_lead(lead_of(b"")) is not None


def test_a_dead_record_still_tells_its_length() -> None:
    data = DEAD + lead_of(b"body")[len(DEAD) :]
    assert read_header(data) == read_header(lead_of(b"body"))
    assert not is_alive(data) and is_alive(lead_of(b"body"))
    assert read_lead(data) is None


def test_names_differ_and_those_of_an_object_s_records_share_what_tells_it_apart() -> None:
    assert len({object_name(b"%d" % n) & OBJECT_MASK for n in range(1000)}) == 1000
    variants = {variant_name(b"1", b"%d" % n) for n in range(50)}
    assert len(variants) == 50 and object_name(b"1") not in variants
    assert {name & OBJECT_MASK for name in variants} == {object_name(b"1") & OBJECT_MASK}


def test_meta_of_another_version_is_none() -> None:
    meta = b"\x93\x01\x02\x03"
    assert read_lead(write_lead(Header(len(meta), 0, 1, 1, 0, 1), meta, b"")) is None


@given(st.integers(0), st.integers(1, 255))
def test_no_changed_byte_goes_unseen(at: int, change: int) -> None:
    data = bytearray(lead_of(b"body"))
    data[at % len(data)] ^= change
    assert read_lead(bytes(data)) is None


@given(st.binary(max_size=2 * HEADER_BYTES))
def test_anything_can_be_looked_at(data: bytes) -> None:
    assert read_lead(data) is None
