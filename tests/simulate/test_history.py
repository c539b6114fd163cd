"""Stretches of time."""

from nearmile.simulate.history import Spans


def test_spans() -> None:
    spans = Spans()
    spans.start(1.0)
    spans.start(2.0)  # it is open
    spans.end(3.0)
    spans.end(4.0)  # it is not
    spans.moment(5.0)
    spans.start(7.0)
    spans.moment(8.0)
    assert [spans.since(at_s) for at_s in (0.5, 1.0, 2.9, 3.0, 5.0, 100.0)] == [None, 1.0, 1.0, None, None, 7.0]
    assert [
        spans.touch(*span) for span in ((0, 0.5), (0, 1.0), (3.0, 4), (3.1, 4.9), (4, 6), (6, 6.5), (9, 10))
    ] == [
        False,
        True,
        True,
        False,
        True,
        False,
        True,
    ]
