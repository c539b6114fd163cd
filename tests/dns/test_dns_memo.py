"""What is remembered under a flood."""

from nearmile.dns.memo import Memo


def test_it_is_bounded_and_keeps_what_is_asked_for() -> None:
    memo: Memo[int, str] = Memo(100)
    memo.put(-1, "wanted")
    for number in range(1000):
        memo.put(number, "once")
        if number % 40 == 0:
            assert memo.get(-1) == "wanted"
        assert len(memo) <= 100
    assert memo.get(0) is None and memo.get(999) == "once"
