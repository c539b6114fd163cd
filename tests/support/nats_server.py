"""A real NATS server for one test."""

import signal
from pathlib import Path

from nearmile.config.layout import Config
from nearmile.services import children, natsserver
from nearmile.services.bus import Bus


class NatsServer:
    """One server of a test's own, that can be killed and started again."""

    def __init__(self, root: Path, config: Config) -> None:
        self._command, self._log = natsserver.prepare(root, config), root / "nats.log"
        me = config.process("nats")
        self.url, self.token = f"nats://{me.address}:{me.port}", (root / "token").read_text()
        self._child: children.Child | None = None

    async def start(self) -> None:
        self._child = await children.start(self._command, self._log)

    async def kill(self) -> None:
        assert self._child is not None
        self._child.signal(signal.SIGKILL)
        await self._child.wait()

    def bus(self, token: str | None = None) -> Bus:
        return Bus(self.url, self.token if token is None else token, "test")
