"""Accept-Encoding in its normal form: which codings a client takes, and which it gets."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nearmile.cache.accept import CODINGS, accepted, normal_accept
from nearmile.cache.key import CODING, codings_of, uncoded, variant_key


@pytest.mark.parametrize(
    ("value", "codings", "best"),
    [
        (b"gzip, deflate, br, zstd", b"br zstd gzip", b"br"),
        (b"gzip, deflate, br", b"br gzip", b"br"),
        (b"GZIP", b"gzip", b"gzip"),
        (b"x-gzip", b"gzip", b"gzip"),
        (b"gzip;q=1.0, br;q=0.5", b"br gzip", b"gzip"),
        (b"gzip ; q=0.8 , zstd;q=0.9", b"zstd gzip", b"zstd"),
        (b"gzip;q=0, br", b"br", b"br"),
        (b"*", b"br zstd gzip", b"br"),
        (b"*;q=0.5, br;q=0, gzip", b"zstd gzip", b"gzip"),
        (b"*;q=0", b"", b""),
        (b"identity", b"", b""),
        (b"identity, gzip;q=0.5", b"", b""),
        (b"identity;q=0.5, gzip", b"gzip", b"gzip"),
        (b"identity;q=0, gzip;q=0.001", b"gzip", b"gzip"),
        (b"deflate", b"", b""),
        (b"", b"", b""),
        # What cannot be read (RFC 9110 section 12.4.2) names nothing.
        (b"gzip;q=1.5, br;q=0.1234, zstd;q", b"", b""),
        (b"gzip;level=9, br", b"br", b"br"),
        (b"gzip;q=0.5;x=1, zstd", b"zstd", b"zstd"),
        (b"gzip;q=0, gzip", b"", b""),
        (b"g zip,, ,br", b"br", b"br"),
    ],
)
def test_what_is_accepted(value: bytes, codings: bytes, best: bytes) -> None:
    found = accepted(((b"accept-encoding", value),))
    assert (b" ".join(found.codings), found.best) == (codings, best)


def test_lines_are_one_list_and_no_field_is_no_coding() -> None:
    lines = ((b"accept-encoding", b"gzip"), (b"host", b"h"), (b"accept-encoding", b"br"))
    assert accepted(lines).codings == (b"br", b"gzip")
    assert normal_accept(lines) == ((b"host", b"h"), (b"accept-encoding", b"br, gzip"))
    assert accepted(()).best == b"" and normal_accept(()) == ()
    assert normal_accept(((b"accept-encoding", b"deflate"),)) == ((b"accept-encoding", b"identity"),)


MEMBERS = st.builds(
    lambda name, weight: name + weight,
    st.sampled_from([b"gzip", b"br", b"zstd", b"identity", b"*", b"deflate", b"x-gzip"]),
    st.sampled_from([b"", b";q=0", b";q=0.5", b"; q=1", b";q=x"]),
)


@settings(max_examples=200)
@given(st.lists(MEMBERS, max_size=5).map(b", ".join))
def test_there_are_few_forms_and_each_is_its_own(value: bytes) -> None:
    fields = ((b"accept-encoding", value),)
    found, normal = accepted(fields), normal_accept(fields)
    assert accepted(normal).codings == found.codings == tuple(c for c in CODINGS if c in found.codings)
    assert normal_accept(normal) == normal
    assert variant_key((b"accept-encoding",), fields) == variant_key((b"accept-encoding",), normal)
    assert found.best in (b"", *found.codings)
    assert variant_key((CODING,), fields).endswith(found.best)


def test_the_second_keys_of_one_response_differ_in_the_coding_alone() -> None:
    names = (CODING, b"accept-language")
    asked = ((b"accept-language", b"de"), (b"accept-encoding", b"br, gzip"))
    plain = variant_key(names, uncoded(asked))
    assert variant_key(names, asked) == plain + b"br" == codings_of(plain)[0]
    assert variant_key(names, uncoded(asked)) == variant_key(names, asked[:1])
    assert plain not in codings_of(plain)
    assert variant_key(names, uncoded(((b"accept-language", b"fr"),))) != plain
