"""Who makes certificates that browsers trust: an authority that speaks ACME (RFC 8555), by http-01 challenges.

    account -> order -> for each name: offer the proof, say so, wait -> CSR -> wait -> certificate

An ``Issuer`` may be anything else that proves names in another way.
"""

import asyncio
import re
import ssl
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable, Iterable
from email.message import Message
from http.client import HTTPException
from typing import NamedTuple, Protocol, TypeVar

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from msgspec import Struct

from nearmile.base.errors import NearmileError
from nearmile.services.acme.jws import b64, key_authorization, signed

# No answer of an authority is near this; a chain of certificates is a few kilobytes.
REPLY_BYTES_MAX = 1 << 20
REPLY_TIMEOUT_S = 30.0
# An authority validates within seconds; what is still pending after these polls has failed.
POLL_S, POLLS_MAX = 1.0, 90
# RFC 8555 section 6.5: a nonce may have become too old; the answer brings another.
NONCE_TRIES = 3
# RFC 8555 section 8.3: base64 for URLs, of 128 bits at least. It becomes a key on the bus.
TOKEN = re.compile(r"[A-Za-z0-9_-]{22,128}")
# An authority that says "later" is believed up to here.
LATER_S_MAX = 86_400.0
T = TypeVar("T")


class NotIssued(NearmileError):
    """There is no certificate now; ``later_s``: the authority wants to be left alone for so long."""

    def __init__(self, why: str, later_s: float = 0.0) -> None:
        super().__init__(why)
        self.later_s = later_s


class Pair(Struct, frozen=True):
    """A certificate with those between it and its root, and its private key; both PEM."""

    certificate: str
    key: str


Offer = Callable[[str, bytes], Awaitable[None]]
"""Makes a token's answer known; returns when whoever asks the network for it by http gets it, else NotIssued."""


class Issuer(Protocol):
    """Makes certificates."""

    async def issue(self, hostnames: tuple[str, ...], offer: Offer) -> Pair:
        """One for all these names; raises NotIssued."""
        ...


class _Directory(Struct, frozen=True, rename="camel"):
    new_nonce: str
    new_account: str
    new_order: str


class _Order(Struct, frozen=True):
    status: str
    authorizations: list[str]
    finalize: str
    certificate: str = ""


class _Problem(Struct, frozen=True):
    type: str = ""
    detail: str = ""


class _Challenge(Struct, frozen=True):
    type: str
    url: str
    token: str = ""
    error: _Problem = _Problem()


class _Identifier(Struct, frozen=True):
    value: str


class _Authorization(Struct, frozen=True):
    status: str
    identifier: _Identifier
    challenges: list[_Challenge]


class _Reply(NamedTuple):
    status: int
    headers: Message
    body: bytes


class Acme:
    """One account at the authority with that directory; ``root`` is a PEM file to know it by, if need be."""

    def __init__(
        self, directory: str, contact: Iterable[str], account_key: ec.EllipticCurvePrivateKey, root: str | None
    ) -> None:
        self._directory_url, self._contact, self._key = (
            directory,
            [f"mailto:{who}" for who in contact],
            account_key,
        )
        trust = ssl.create_default_context()
        if root is not None:
            trust.load_verify_locations(root)
        self._opener = urllib.request.build_opener(urllib.request.HTTPSHandler(context=trust), _NoRedirects())
        self._directory: _Directory | None = None
        self._account: str | None = None
        self._nonce = ""

    async def issue(self, hostnames: tuple[str, ...], offer: Offer) -> Pair:
        """See Issuer."""
        directory = await self._sign_in()
        wanted = {"identifiers": [{"type": "dns", "value": name} for name in hostnames]}
        reply = await self._post(directory.new_order, wanted)
        order_url, order = reply.headers.get("location", ""), _read(reply, _Order)
        for url in order.authorizations:
            await self._prove(url, offer)
        await self._until(order_url, _Order, "pending")
        key = ec.generate_private_key(ec.SECP256R1())
        await self._post(order.finalize, {"csr": b64(_csr(key, hostnames))})
        done = await self._until(order_url, _Order, "pending", "ready", "processing")
        if done.status != "valid":
            raise NotIssued(f"the order ended as {done.status}")
        chain = (await self._post(done.certificate, None)).body
        private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        return Pair(chain.decode("ascii", "replace"), private.decode())

    async def _sign_in(self) -> _Directory:
        """The directory and the account, which is made where the authority does not know it yet."""
        if self._directory is None:
            self._directory = _read(await self._send(self._directory_url, None), _Directory)
        if self._account is None:
            asked = {"termsOfServiceAgreed": True, "contact": self._contact}
            reply = await self._post(self._directory.new_account, asked)
            self._account = reply.headers.get("location")
        return self._directory

    async def _prove(self, url: str, offer: Offer) -> None:
        """That one name is ours."""
        asked = _read(await self._post(url, None), _Authorization)
        if asked.status == "valid":
            return
        name = asked.identifier.value
        challenge = next((one for one in asked.challenges if one.type == "http-01"), None)
        if challenge is None or TOKEN.fullmatch(challenge.token) is None:
            raise NotIssued(f"the authority does not offer http-01 for {name}")
        await offer(challenge.token, key_authorization(challenge.token, self._key))
        await self._post(challenge.url, {})
        found = await self._until(url, _Authorization, "pending")
        if found.status != "valid":
            why = "; ".join(one.error.detail for one in found.challenges if one.error.detail) or found.status
            raise NotIssued(f"the authority does not believe that {name} is ours: {why}")

    async def _until(self, url: str, kind: type[T], *waiting: str) -> T:
        """What is there once its status is none of those."""
        for _ in range(POLLS_MAX):
            found = _read(await self._post(url, None), kind)
            if getattr(found, "status", "") not in waiting:
                return found
            await asyncio.sleep(POLL_S)
        raise NotIssued("the authority did not come to an end")

    async def _post(self, url: str, payload: object) -> _Reply:
        """A signed request; with None, it only asks (RFC 8555 section 6.3)."""
        data = b"" if payload is None else msgspec.json.encode(payload)
        problem = _Problem()
        for _ in range(NONCE_TRIES):
            if not self._nonce:
                assert self._directory is not None
                self._nonce = _nonce(await self._send(self._directory.new_nonce, None))
            body = signed(self._key, self._account, url, self._nonce, data)
            reply = await self._send(url, body)
            self._nonce = _nonce(reply)
            if reply.status < 400:
                return reply
            problem = _problem(reply)
            if not problem.type.endswith(":badNonce"):
                break
        later_s = _later_s(reply)
        raise NotIssued(f"the authority says {reply.status}: {problem.detail or problem.type}", later_s)

    async def _send(self, url: str, body: bytes | None) -> _Reply:
        if not url.startswith("https://"):
            raise NotIssued(f"the authority names {url!r}, which is not https")
        headers = {"content-type": "application/jose+json", "user-agent": "nearmile"}
        request = urllib.request.Request(url, body, headers)  # noqa: S310
        try:
            return await asyncio.to_thread(self._exchange, request)
        except (OSError, ValueError, HTTPException) as error:
            raise NotIssued(f"the authority cannot be asked: {error}") from None

    def _exchange(self, request: urllib.request.Request) -> _Reply:
        try:
            with self._opener.open(request, timeout=REPLY_TIMEOUT_S) as reply:
                return _Reply(reply.status, reply.headers, reply.read(REPLY_BYTES_MAX))
        except urllib.error.HTTPError as error:
            with error:
                return _Reply(error.code, error.headers, error.read(REPLY_BYTES_MAX))


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Requests are signed for one URL."""

    def redirect_request(self, *_: object) -> None:
        """Of urllib."""


def _csr(key: ec.EllipticCurvePrivateKey, hostnames: tuple[str, ...]) -> bytes:
    names = x509.SubjectAlternativeName([x509.DNSName(name) for name in hostnames])
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    return builder.add_extension(names, critical=False).sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


def _read(reply: _Reply, kind: type[T]) -> T:
    if reply.status >= 400:
        raise NotIssued(f"the authority says {reply.status}", _later_s(reply))
    try:
        return msgspec.json.decode(reply.body, type=kind)
    except msgspec.MsgspecError as error:
        raise NotIssued(f"the authority's answer cannot be read: {error}") from None


def _problem(reply: _Reply) -> _Problem:
    try:
        return msgspec.json.decode(reply.body, type=_Problem)
    except msgspec.MsgspecError:
        return _Problem()


def _nonce(reply: _Reply) -> str:
    return str(reply.headers.get("replay-nonce", ""))


def _later_s(reply: _Reply) -> float:
    said = str(reply.headers.get("retry-after", ""))
    return min(float(said), LATER_S_MAX) if said.isdigit() else 0.0
