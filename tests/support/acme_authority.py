"""An authority that speaks ACME (RFC 8555), small but strict: signatures, nonces and URLs are checked, proofs are
fetched over HTTP, and what it issues is real, by a root of its own."""

import ipaddress
import json
import ssl
import threading
import urllib.error
import urllib.request
from base64 import urlsafe_b64decode
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from secrets import token_urlsafe
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from tls_origin import SIGNS

PORT = 14000


class Refused(Exception):
    """A problem document (RFC 7807)."""

    def __init__(self, kind: str, detail: str, status: int = 400) -> None:
        super().__init__(detail)
        self.kind, self.status = kind, status


def unb64(text: str) -> bytes:
    assert "=" not in text, "no padding (RFC 7515 section 2)"
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))


class Authority:
    """Serves https on ``address`` until closed. ``edges`` is where names lead to: (address, port).

    ``root`` is the PEM file of its own root, ``issued`` counts certificates, ``refuse`` makes new orders fail.
    """

    def __init__(self, folder: Path, address: str, edges: list[tuple[str, int]], days: float = 90) -> None:
        self.address, self.edges, self.life = address, edges, timedelta(days=days)
        self.nonces: set[str] = set()
        self.accounts: dict[str, dict[str, str]] = {}
        self.orders: dict[str, dict[str, Any]] = {}
        self.proofs: dict[str, dict[str, Any]] = {}
        self.issued = self.asked = 0
        self.refuse: Refused | None = None
        self.stale_nonces = 0
        """So many nonces are not believed, though they were ours."""
        self.url = f"https://{address}:{PORT}"
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Test Root")])
        self._certificate = self._sign(self._key.public_key(), self._name, x509.BasicConstraints(True, 0), SIGNS)
        self.root = folder / "authority-root.pem"
        self.root.write_bytes(self._certificate.public_bytes(Encoding.PEM))
        self._serve(folder)

    def _serve(self, folder: Path) -> None:
        key, names = ec.generate_private_key(ec.SECP256R1()), [x509.IPAddress(ipaddress.ip_address(self.address))]
        leaf = self._sign(key.public_key(), x509.Name([]), x509.SubjectAlternativeName(names))
        chain, private = folder / "authority.pem", folder / "authority.key"
        chain.write_bytes(leaf.public_bytes(Encoding.PEM))
        private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(chain, private)
        self._server = ThreadingHTTPServer((self.address, PORT), self._handler())
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _sign(
        self, public: ec.EllipticCurvePublicKey, subject: x509.Name, *extensions: x509.ExtensionType
    ) -> x509.Certificate:
        now = datetime.now(UTC)
        builder = x509.CertificateBuilder().subject_name(subject).issuer_name(self._name).public_key(public)
        builder = builder.serial_number(x509.random_serial_number()).not_valid_before(now - timedelta(hours=1))
        builder = builder.not_valid_after(now + self.life)
        for extension in extensions:
            builder = builder.add_extension(extension, critical=True)
        builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        return builder.add_extension(authority, critical=False).sign(self._key, hashes.SHA256())

    def new_nonce(self) -> str:
        self.nonces.add(nonce := token_urlsafe(16))
        return nonce

    def check(self, url: str, body: bytes) -> tuple[str | None, dict[str, str], Any]:
        """Account (None: not known yet), its public key, and the payload of a signed request."""
        jws = json.loads(body)
        head = json.loads(unb64(jws["protected"]))
        assert head["alg"] == "ES256" and ("jwk" in head) != ("kid" in head)
        if head["url"] != url:
            raise Refused("unauthorized", "signed for another URL", 401)
        if head["nonce"] not in self.nonces or self.stale_nonces:
            self.stale_nonces = max(0, self.stale_nonces - 1)
            raise Refused("badNonce", "not a nonce of ours, or used")
        self.nonces.remove(head["nonce"])
        account = head.get("kid")
        key = head["jwk"] if account is None else self.accounts[account]
        numbers = [int.from_bytes(unb64(key[name]), "big") for name in ("x", "y")]
        public = ec.EllipticCurvePublicNumbers(numbers[0], numbers[1], ec.SECP256R1()).public_key()
        signature = unb64(jws["signature"])
        assert len(signature) == 64
        der = encode_dss_signature(int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big"))
        try:
            public.verify(der, f"{jws['protected']}.{jws['payload']}".encode(), ec.ECDSA(hashes.SHA256()))
        except InvalidSignature:
            raise Refused("malformed", "not signed by that key") from None
        payload = unb64(jws["payload"])
        return account, key, json.loads(payload) if payload else None

    def answer(self, path: str, body: bytes) -> tuple[int, dict[str, str], bytes]:
        """Status, fields and body for a POST."""
        self.asked += 1
        account, key, payload = self.check(self.url + path, body)
        _, kind, *rest = path.split("/")
        if kind == "new-account":
            assert payload["termsOfServiceAgreed"] is True
            url = f"{self.url}/account/{sha256(json.dumps(key).encode()).hexdigest()[:8]}"
            self.accounts[url] = key
            return 201, {"location": url}, b'{"status": "valid"}'
        assert account in self.accounts
        if kind == "new-order":
            if self.refuse is not None:
                raise self.refuse
            return self._order([one["value"] for one in payload["identifiers"]])
        if kind == "order":
            order = self.orders[rest[0]]
            if order["status"] == "pending" and self._proved(order):
                order["status"] = "ready"
            return 200, {}, json.dumps(order).encode()
        if kind == "proof":
            return 200, {}, json.dumps(self.proofs[rest[0]]).encode()
        if kind == "challenge":
            assert payload == {}
            self._validate(self.proofs[rest[0]], key)
            return 200, {}, json.dumps(self.proofs[rest[0]]["challenges"][1]).encode()
        if kind == "finalize":
            return self._finalize(self.orders[rest[0]], x509.load_der_x509_csr(unb64(payload["csr"])))
        assert kind == "certificate" and payload is None
        return 200, {}, self.orders[rest[0]]["chain"].encode()

    def _order(self, names: list[str]) -> tuple[int, dict[str, str], bytes]:
        number = str(len(self.orders))
        proofs = []
        for name in names:
            id_ = f"{number}-{name}"
            self.proofs[id_] = {
                "status": "pending",
                "identifier": {"type": "dns", "value": name},
                "challenges": [
                    {"type": "dns-01", "url": f"{self.url}/none", "token": token_urlsafe(32)},
                    {"type": "http-01", "url": f"{self.url}/challenge/{id_}", "token": token_urlsafe(32)},
                ],
            }
            proofs.append(id_)
        order = {
            "status": "pending",
            "authorizations": [f"{self.url}/proof/{id_}" for id_ in proofs],
            "finalize": f"{self.url}/finalize/{number}",
            "names": names,
            "chain": "",
        }
        self.orders[number] = order
        return 201, {"location": f"{self.url}/order/{number}"}, json.dumps(order).encode()

    def _validate(self, proof: dict[str, Any], key: dict[str, str]) -> None:
        """As an authority does: from every place it has, by http, to what the name leads to."""
        challenge, name = proof["challenges"][1], proof["identifier"]["value"]
        ordered = {member: key[member] for member in ("crv", "kty", "x", "y")}
        thumbprint = sha256(json.dumps(ordered, separators=(",", ":")).encode()).digest()
        wanted = f"{challenge['token']}.".encode() + thumbprint
        proof["status"] = "valid"
        for address, port in self.edges:
            url = f"http://{address}:{port}/.well-known/acme-challenge/{challenge['token']}"
            try:
                with urllib.request.urlopen(
                    urllib.request.Request(url, headers={"host": name}), timeout=30
                ) as got:
                    token, _, print_ = got.read(1000).partition(b".")
                    good = token + b"." + unb64(print_.decode()) == wanted
            except (OSError, ValueError):
                good = False
            if not good:
                proof["status"], challenge["error"] = "invalid", {"detail": f"{address} does not prove it"}

    def _proved(self, order: dict[str, Any]) -> bool:
        proofs = (url.rpartition("/")[2] for url in order["authorizations"])
        return all(self.proofs[proof]["status"] == "valid" for proof in proofs)

    def _finalize(
        self, order: dict[str, Any], csr: x509.CertificateSigningRequest
    ) -> tuple[int, dict[str, str], bytes]:
        if not self._proved(order):
            raise Refused("orderNotReady", "not all names are proved", 403)
        assert csr.is_signature_valid
        names = csr.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert sorted(names.get_values_for_type(x509.DNSName)) == sorted(order["names"])
        public = csr.public_key()
        assert isinstance(public, ec.EllipticCurvePublicKey)
        leaf = self._sign(public, x509.Name([]), names)
        order["chain"] = leaf.public_bytes(Encoding.PEM).decode()
        number = order["finalize"].rpartition("/")[2]
        order |= {"status": "valid", "certificate": f"{self.url}/certificate/{number}"}
        self.issued += 1
        return 200, {}, json.dumps(order).encode()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        authority = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                names = {"newNonce": "new-nonce", "newAccount": "new-account", "newOrder": "new-order"}
                directory = {name: f"{authority.url}/{path}" for name, path in names.items()}
                self._say(200, {}, json.dumps(directory).encode() if self.path == "/directory" else b"")

            def do_POST(self) -> None:
                assert self.headers["content-type"] == "application/jose+json"
                try:
                    answer = authority.answer(self.path, self.rfile.read(int(self.headers["content-length"])))
                except Refused as error:
                    problem = {"type": f"urn:ietf:params:acme:error:{error.kind}", "detail": str(error)}
                    answer = error.status, {"retry-after": "7200"}, json.dumps(problem).encode()
                self._say(*answer)

            def _say(self, status: int, fields: dict[str, str], body: bytes) -> None:
                self.send_response(status)
                fields |= {"content-length": str(len(body)), "replay-nonce": authority.new_nonce()}
                for name, value in fields.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        return Handler
