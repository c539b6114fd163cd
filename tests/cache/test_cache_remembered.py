"""What is remembered of what peers write."""

from nearmile.cache.remembered import LONG_BYTES, remembered


def test_what_is_long_is_read_each_time() -> None:
    read: list[bytes | tuple[bytes, ...]] = []

    @remembered(2)
    def length(value: bytes) -> int:
        read.append(value)
        return len(value)

    @remembered(2)
    def count(values: tuple[bytes, ...]) -> int:
        read.append(values)
        return len(values)

    short, long = b"x" * LONG_BYTES, b"x" * (LONG_BYTES + 1)
    for _ in range(2):
        assert [length(short), length(long)] == [LONG_BYTES, LONG_BYTES + 1]
        assert [count((short,)), count((short, b"y"))] == [1, 2]
    assert read == [short, long, (short,), (short, b"y"), long, (short, b"y")]
