"""The local authority, and certificates by name: real handshakes on loopback, files that change."""

import asyncio
import os
import shutil
import ssl
import threading
import weakref
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from msgspec import structs

from edge_world import ADDRESSES, HOST, Asked, config, response, world
from nearmile.config.certificate import certificate_problems
from nearmile.config.layout import Config
from nearmile.config.network import Tls
from nearmile.http import quic
from nearmile.services import authority, state
from nearmile.services.certificates import Certificates
from waiting import until

NOW = datetime.now(UTC)
SECURE_PORT = 8443


async def hello(asked: Asked) -> bytes:
    return response(b"hello", "Cache-Control: max-age=60")


def with_hostnames(*names: str) -> Config:
    whole = config()
    site = structs.replace(whole.sites[0], document=structs.replace(whole.sites[0].document, hostnames=names))
    return structs.replace(whole, sites=(site,))


def test_keys_are_for_their_owner_alone(tmp_path: Path) -> None:
    authority.ensure(tmp_path, config(), NOW)
    for files in (state.authority_files(tmp_path), state.site_files(tmp_path, "www")):
        assert files[1].stat().st_mode & 0o777 == 0o600
    assert b"PRIVATE" not in b"".join(p.read_bytes() for p in (tmp_path / "authority").glob("*.pem"))


def test_what_is_still_good_is_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    certificate, _ = state.site_files(tmp_path, "www")
    ca, key = state.authority_files(tmp_path)

    def made(whole: Config, now: datetime) -> tuple[bytes, bytes]:
        authority.ensure(tmp_path, whole, now)
        return ca.read_bytes(), certificate.read_bytes()

    first = made(config(), NOW)
    assert made(config(), NOW + timedelta(days=30)) == first
    renamed = made(with_hostnames(HOST, "b.example"), NOW)
    assert renamed[0] == first[0] and renamed[1] != first[1]
    later = made(config(), NOW + timedelta(days=380))
    assert later[0] == first[0] and later[1] not in (first[1], renamed[1])
    assert not caplog.text
    key.write_bytes(b"damaged")
    assert made(config(), NOW)[0] != first[0]
    assert f"{ca} or its key is damaged" in caplog.text
    leaf = x509.load_pem_x509_certificate(certificate.read_bytes())
    leaf.verify_directly_issued_by(x509.load_pem_x509_certificate(ca.read_bytes()))


def test_a_site_with_its_own_certificate_gets_none(tmp_path: Path) -> None:
    whole = config()
    own = structs.replace(whole.sites[0].document, tls=Tls(certificate="/c.pem", key="/k.pem"))
    authority.ensure(tmp_path, structs.replace(whole, sites=(structs.replace(whole.sites[0], document=own),)), NOW)
    assert not state.site_files(tmp_path, "www")[0].exists()


def test_documents_are_checked_against_the_files(tmp_path: Path) -> None:
    authority.ensure(tmp_path, with_hostnames(HOST), NOW)
    certificate, key = (path.read_bytes() for path in state.site_files(tmp_path, "www"))
    other = state.authority_files(tmp_path)[1].read_bytes()
    assert not list(certificate_problems(certificate, key, [HOST]))
    assert [key for key, _ in certificate_problems(b"x", b"y", [HOST])] == ["certificate", "key"]
    assert [key for key, _ in certificate_problems(certificate, other, [HOST])] == ["key"]
    assert [what for _, what in certificate_problems(certificate, key, [HOST, "b.example"])] == [
        "the certificate is not for b.example"
    ]


async def ask(trust: ssl.SSLContext, name: str | None = HOST) -> tuple[bytes, ssl.SSLObject]:
    """One request over TLS and HTTP/1.1."""
    reader, writer = await asyncio.open_connection(
        ADDRESSES[0], SECURE_PORT, ssl=trust, server_hostname=name or ADDRESSES[0]
    )
    writer.write(f"GET / HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n".encode())
    answer = await reader.read()
    writer.close()
    return answer, writer.get_extra_info("ssl_object")


async def test_certificates_by_name_and_their_renewal(tmp_path: Path) -> None:
    authority.ensure(tmp_path, config(), NOW)
    certificates = Certificates(tmp_path)
    certificates.take_config(config())
    certificates.refresh()
    trust = ssl.create_default_context(cafile=state.authority_files(tmp_path)[0])
    trust.verify_flags |= ssl.VERIFY_X509_STRICT  # as Python 3.13 does by itself
    async with world(hello) as here:
        await here.servers[0].listen_secure(ADDRESSES[0], SECURE_PORT, certificates.context)
        answer, tls = await ask(trust)
        assert answer.endswith(b"hello") and tls.version() == "TLSv1.3"
        first = tls.getpeercert()
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await ask(trust, "other.example")
        trust.maximum_version = ssl.TLSVersion.TLSv1_2
        assert (await ask(trust))[1].version() == "TLSv1.2"
        trust.maximum_version = ssl.TLSVersion.TLSv1_3
        held = await asyncio.open_connection(ADDRESSES[0], SECURE_PORT, ssl=trust, server_hostname=HOST)

        for path in state.site_files(tmp_path, "www"):
            path.unlink()
        certificates.refresh()
        assert (await ask(trust))[1].getpeercert() == first
        authority.ensure(tmp_path, config(), NOW)
        certificates.refresh()
        assert (await ask(trust))[1].getpeercert() != first
        # A connection from before goes on.
        held[1].write(f"GET / HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n".encode())
        assert (await held[0].read()).endswith(b"hello")
        held[1].close()

        certificates.take_config(structs.replace(config(), sites=()))
        certificates.refresh()
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await ask(trust)


async def test_clients_are_served_while_certificates_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thousand of them take a second: the loop has its turns, and shows what it had."""
    first, both = with_hostnames(HOST), with_hostnames(HOST, "b.example")
    authority.ensure(tmp_path, first, NOW)
    certificates = Certificates(tmp_path)
    certificates.take_config(first)
    certificates.refresh()
    had, go_on = certificates.identity(HOST), threading.Event()
    read = quic.identity

    def slow(certificate: bytes, key: bytes) -> quic.Identity:
        assert go_on.wait(10), "nobody else had a turn"
        return read(certificate, key)

    monkeypatch.setattr(quic, "identity", slow)
    running = asyncio.create_task(certificates.run())
    authority.ensure(tmp_path, both, NOW)
    certificates.take_config(both)
    await asyncio.sleep(0.05)
    assert not certificates.settled
    assert certificates.identity(HOST) is had and certificates.identity("b.example") is None
    go_on.set()
    await until(lambda: certificates.settled)
    assert certificates.identity(HOST) is certificates.identity("b.example") is not had
    running.cancel()


async def test_certificates_that_go_are_freed_elsewhere(tmp_path: Path) -> None:
    """Thousands at once would hold the loop for 20 us each."""
    authority.ensure(tmp_path, config(), NOW)
    certificates = Certificates(tmp_path)
    certificates.take_config(config())
    certificates.refresh()
    had, freed_by = certificates.identity(HOST), list[int]()
    assert had is not None
    weakref.finalize(had, lambda: freed_by.append(threading.get_ident()))
    del had
    running = asyncio.create_task(certificates.run())
    certificates.take_config(structs.replace(config(), sites=()))
    await until(lambda: bool(freed_by))
    assert freed_by != [threading.get_ident()]
    running.cancel()


def test_sessions_are_resumed(tmp_path: Path) -> None:
    authority.ensure(tmp_path, config(), NOW)
    certificates = Certificates(tmp_path)
    certificates.take_config(config())
    certificates.refresh()
    trust = ssl.create_default_context(cafile=state.authority_files(tmp_path)[0])

    def shake(session: ssl.SSLSession | None) -> tuple[bool, ssl.SSLSession | None]:
        """A handshake in memory, and some bytes, with which tickets come."""
        to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = trust.wrap_bio(to_client, to_server, server_hostname=HOST, session=session)
        server = certificates.context.wrap_bio(to_server, to_client, server_side=True)
        for _ in range(3):
            for side in (client, server):
                try:
                    side.do_handshake()
                except ssl.SSLWantReadError:
                    continue
        server.write(b"x")
        assert client.read(1) == b"x"
        return bool(client.session_reused), client.session

    first, session = shake(None)
    assert not first
    assert shake(session)[0]


def test_files_that_cannot_be_used_replace_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    authority.ensure(tmp_path, config(), NOW)
    certificates = Certificates(tmp_path)
    certificates.take_config(config())
    certificates.refresh()
    certificate, key = state.site_files(tmp_path, "www")
    shutil.copy(state.authority_files(tmp_path)[1], key)
    os.utime(key)
    certificates.refresh()
    certificates.refresh()
    assert len(caplog.records) == 1 and str(certificate) in caplog.text and "PRIVATE" not in caplog.text
