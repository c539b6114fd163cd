"""Numbers and strings of HPACK and QPACK."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearmile.http import prefixed
from nearmile.http.prefixed import Strings, read_number


@given(st.integers(1, 8), st.integers(0, (1 << 62) - 1), st.binary(max_size=3))
def test_a_number_is_read_as_it_was_written(bits: int, number: int, behind: bytes) -> None:
    said = prefixed.prefixed(0, bits, number)
    assert read_number(said + behind, 0, (1 << bits) - 1) == (number, len(said))
    with pytest.raises(IndexError):
        read_number(said[:-1], 0, (1 << bits) - 1)


def test_what_strings_remember_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefixed, "MEMO_ENTRIES_MAX", 3)
    strings = Strings()
    for byte in b"0123456789":
        # Section 5.2: codes of five bits, and three ones behind them.
        coded = bytes((byte % 10 << 3 | 7,))
        assert len(strings.read(b"\x81" + coded, 0, 0x7F)[0]) == 1
        assert strings.read(b"\x81" + coded, 0, 0x7F) == strings.read(b"\x81" + coded, 0, 0x7F)
        assert len(strings._known) <= 3
