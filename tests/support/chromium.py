"""Chromium without a window, told what to do through a pipe (Chrome DevTools Protocol), for tests."""

import base64
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
PATIENCE_S = 60.0
# Of the page itself and of all its parts: address, protocol (RFC 7301), status.
ENTRIES = """JSON.stringify(['navigation', 'resource'].flatMap(kind => performance.getEntriesByType(kind))
    .map(entry => [entry.name, entry.nextHopProtocol, entry.responseStatus]))"""


def key_of(certificate: Path) -> str:
    """What a browser can be told to trust: the hash of the certificate's public key."""
    public = x509.load_pem_x509_certificate(certificate.read_bytes()).public_key()
    der = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(hashlib.sha256(der).digest()).decode()


class Browser:
    """One Chromium with one page. ``flags`` are further options of its command line."""

    def __init__(self, profile: Path, *flags: str) -> None:
        assert CHROMIUM is not None
        ours_in, theirs_out = os.pipe()
        theirs_in, ours_out = os.pipe()

        # The browser wants them at 3 and 4, where now others are, so that nothing that matters is.
        far_in, far_out = (fcntl.fcntl(one, fcntl.F_DUPFD, 10) for one in (theirs_in, theirs_out))

        def wire() -> None:
            os.dup2(far_in, 3)
            os.dup2(far_out, 4)

        self._log = (profile.parent / f"{profile.name}.log").open("wb")
        self._process = subprocess.Popen(
            [
                CHROMIUM,
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--no-first-run",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
                "--remote-debugging-pipe",
                f"--user-data-dir={profile}",
                *flags,
                "about:blank",
            ],
            stdout=self._log,
            stderr=self._log,
            preexec_fn=wire,
            pass_fds=(3, 4),
        )
        for one in (theirs_in, theirs_out, far_in, far_out):
            os.close(one)
        self._in, self._out = os.fdopen(ours_in, "rb", buffering=0), os.fdopen(ours_out, "wb", buffering=0)
        self._held = b""
        self._session: str | None = None
        self._number = 0
        self.errors: list[str] = []
        """What the page complained of."""
        targets = self._ask("Target.getTargets")["targetInfos"]
        page = next(one["targetId"] for one in targets if one["type"] == "page")
        self._session = self._ask("Target.attachToTarget", targetId=page, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self._ask(f"{domain}.enable")

    def __enter__(self) -> "Browser":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        self._process.wait(30)
        for file in (self._in, self._out, self._log):
            file.close()

    def open(self, url: str) -> list[tuple[str, str, int]]:
        """Loads a page with all its parts; returns what it consists of: addresses, protocols, statuses."""
        told = self._ask("Page.navigate", url=url)
        assert "errorText" not in told, told
        self._until(lambda message: message.get("method") == "Page.loadEventFired")
        return [tuple(entry) for entry in json.loads(self.value(ENTRIES))]

    def value(self, script: str) -> Any:
        """What a script in the page says."""
        return self._ask("Runtime.evaluate", expression=script)["result"]["value"]

    def _ask(self, method: str, **parameters: object) -> Any:
        self._number += 1
        number = self._number
        message: dict[str, object] = {"id": number, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        self._out.write(json.dumps(message).encode() + b"\0")
        answer = self._until(lambda message: message.get("id") == number)
        assert "error" not in answer, answer
        return answer["result"]

    def _until(self, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        deadline_s = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline_s:
            while b"\0" not in self._held:
                data = self._in.read(65536)
                assert data, "the browser has ended"
                self._held += data
            text, _, self._held = self._held.partition(b"\0")
            message: dict[str, Any] = json.loads(text)
            if message.get("method") == "Log.entryAdded" and message["params"]["entry"]["level"] == "error":
                self.errors.append(message["params"]["entry"]["text"])
            if wanted(message):
                return message
        raise TimeoutError("the browser does not answer")
