"""Frames of HTTP/2, taken apart."""

import pytest

from nearmile.http import h2frames as codes
from nearmile.http.h2frames import Fault, frame, read_settings, settings, unpadded, unprioritized


def test_settings_are_read_as_they_were_said() -> None:
    values = {codes.ENABLE_PUSH: 0, codes.INITIAL_WINDOW_SIZE: codes.WINDOW_BYTES_MAX, 0xABCD: 7}
    said = settings(values)
    assert said[:9] == frame(codes.SETTINGS, 0, 0, b"x" * 18)[:9]
    assert dict(read_settings(said[9:])) == values


@pytest.mark.parametrize(
    ("values", "code"),
    [
        ({codes.ENABLE_PUSH: 2}, codes.PROTOCOL_ERROR),
        ({codes.NO_RFC7540_PRIORITIES: 2}, codes.PROTOCOL_ERROR),
        ({codes.INITIAL_WINDOW_SIZE: 1 << 31}, codes.FLOW_CONTROL_ERROR),
        ({codes.MAX_FRAME_SIZE: 16_383}, codes.PROTOCOL_ERROR),
        ({codes.MAX_FRAME_SIZE: 1 << 24}, codes.PROTOCOL_ERROR),
    ],
)
def test_settings_that_must_not_be(values: dict[int, int], code: int) -> None:
    with pytest.raises(Fault) as told:
        list(read_settings(settings(values)[9:]))
    assert told.value.code == code


def test_settings_cut_short() -> None:
    with pytest.raises(Fault) as told:
        list(read_settings(b"12345"))
    assert told.value.code == codes.FRAME_SIZE_ERROR


def test_padding_and_priority_are_taken_off() -> None:
    assert unpadded(b"\x02abc\0\0", codes.PADDED) == b"abc" == unpadded(b"abc", 0)
    assert unpadded(b"\x03abc", codes.PADDED) == b"" == unpadded(b"\0", codes.PADDED)
    assert unprioritized(b"12345abc", codes.PRIORITIZED) == b"abc" == unprioritized(b"abc", 0)
    for wrong, code in ((b"\x04abc", codes.PROTOCOL_ERROR), (b"", codes.FRAME_SIZE_ERROR)):
        with pytest.raises(Fault) as told:
            unpadded(wrong, codes.PADDED)
        assert told.value.code == code
    with pytest.raises(Fault):
        unprioritized(b"1234", codes.PRIORITIZED)
