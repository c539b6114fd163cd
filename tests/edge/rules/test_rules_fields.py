"""Changes to header fields."""

from nearmile.config.network import FieldRules
from nearmile.edge.rules.fields import NO_EDIT, edit_of
from nearmile.http.fields import Pairs

PAIRS: Pairs = ((b"server", b"x"), (b"x-a", b"1"), (b"x-a", b"2"), (b"etag", b'"e"'))


def test_fields_are_set_and_removed() -> None:
    edit = edit_of(
        FieldRules(set={"X-A": "3", "Strict-Transport-Security": "max-age=9"}, remove=("Server", "X-None"))
    )
    after = ((b"etag", b'"e"'), (b"x-a", b"3"), (b"strict-transport-security", b"max-age=9"))
    assert edit.apply(PAIRS) == after
    assert edit.apply(after) == after


def test_no_rules_change_nothing() -> None:
    assert edit_of(FieldRules()) == NO_EDIT
    assert NO_EDIT.apply(PAIRS) is PAIRS
