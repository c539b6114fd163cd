"""Which early hints are kept."""

from nearmile.cache.hints import LINKS_BYTES_MAX, LINKS_MAX, hint_fields, links_of

A, B = (b"link", b"</a.css>; rel=preload"), (b"link", b"</b.js>; rel=preload")


def test_links_alone_are_kept_and_each_once() -> None:
    links = links_of((A, (b"set-cookie", b"a=b"), B, A))
    assert links == (A[1], B[1])
    assert links_of((B,), links) == links
    assert links_of((B,), (A[1],)) == (A[1], B[1])
    assert hint_fields(links) == (A, B, (b"nearmile-kept", b"1"))


def test_what_does_not_fit_is_left_out() -> None:
    assert len(links_of(tuple((b"link", b"<%d>" % number) for number in range(100)))) == LINKS_MAX
    long = (b"link", b"<" + b"x" * LINKS_BYTES_MAX + b">")
    assert links_of((long, A)) == (A[1],)
    half = b"x" * (LINKS_BYTES_MAX // 2)
    assert links_of(((b"link", half + b"1"), (b"link", half)), ()) == (half + b"1",)
