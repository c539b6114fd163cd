"""The protocol against an authority that checks it, without a network: proofs are answered from a dictionary."""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from acme_authority import Authority, Refused
from nearmile.config.certificate import certificate_problems
from nearmile.services.acme import issuer
from nearmile.services.acme.issuer import Acme, NotIssued
from waiting import PATIENCE_S

ADDRESS, EDGE, PORT = "127.46.1.1", "127.46.1.2", 8080
NAMES = ("www.a.test", "a.test")
answers: dict[str, bytes] = {}


class Edge(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = answers.get(self.path.rpartition("/")[2], b"no")
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Authority]:
    monkeypatch.setattr(issuer, "POLL_S", 0.01)
    answers.clear()
    edge = ThreadingHTTPServer((EDGE, PORT), Edge)
    threading.Thread(target=edge.serve_forever, daemon=True).start()
    made = Authority(tmp_path, ADDRESS, [(EDGE, PORT)])
    yield made
    made.close()
    edge.shutdown()
    edge.server_close()


def account(authority: Authority) -> Acme:
    key = ec.generate_private_key(ec.SECP256R1())
    return Acme(f"{authority.url}/directory", ["a@a.test"], key, str(authority.root))


async def offer(token: str, answer: bytes) -> None:
    answers[token] = answer


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(PATIENCE_S):
            await test()

    asyncio.run(bounded())


def test_a_certificate_for_all_names_by_the_authoritys_root(authority: Authority) -> None:
    async def test() -> None:
        authority.stale_nonces = 1
        one = account(authority)
        for _ in range(2):
            pair = await one.issue(NAMES, offer)
            assert not list(certificate_problems(pair.certificate.encode(), pair.key.encode(), NAMES))
            leaf = x509.load_pem_x509_certificate(pair.certificate.encode())
            leaf.verify_directly_issued_by(x509.load_pem_x509_certificate(authority.root.read_bytes()))
        assert len(authority.accounts) == 1 and authority.issued == 2

    run(test)


def test_no_proof_no_certificate(authority: Authority) -> None:
    async def silent(_token: str, _answer: bytes) -> None:
        pass

    async def test() -> None:
        with pytest.raises(NotIssued, match=f"www.a.test is ours: {EDGE} does not prove it"):
            await account(authority).issue(NAMES, silent)
        assert authority.issued == 0

    run(test)


def test_an_authority_that_refuses_says_when_to_come_again(authority: Authority) -> None:
    async def test() -> None:
        authority.refuse = Refused("rateLimited", "too many", 429)
        with pytest.raises(NotIssued, match="429: too many") as caught:
            await account(authority).issue(NAMES, offer)
        assert caught.value.later_s == 7200

    run(test)


def test_nonces_that_never_fit_are_an_end(authority: Authority) -> None:
    async def test() -> None:
        authority.stale_nonces = 100
        with pytest.raises(NotIssued, match="not a nonce"):
            await account(authority).issue(NAMES, offer)
        assert authority.asked == issuer.NONCE_TRIES

    run(test)


def test_an_authority_that_is_away_or_not_trusted(authority: Authority) -> None:
    async def test() -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        for url, root in (("https://127.46.9.9:1/d", None), (f"{authority.url}/directory", None)):
            with pytest.raises(NotIssued, match="cannot be asked"):
                await Acme(url, (), key, root).issue(NAMES, offer)
        with pytest.raises(NotIssued, match="not https"):
            await Acme("http://127.46.9.9:1/d", (), key, None).issue(NAMES, offer)

    run(test)
