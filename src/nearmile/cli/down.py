"""``nearmile down``: stops a network."""

import argparse
import os
import signal
import time

from nearmile.base.errors import NearmileError
from nearmile.services import running

STOP_PATIENCE_S = 30.0
POLL_S = 0.1


def down(args: argparse.Namespace) -> int:
    """Stops the network and waits until all its processes have ended."""
    pid = running.holder(args.state) or running.read(args.state).agent_pid
    try:
        os.kill(pid, signal.SIGTERM)
    except ProcessLookupError:  # it has ended by itself
        pass
    except PermissionError:
        raise NearmileError(f"the agent (process {pid}) is another user's") from None
    deadline_s = time.monotonic() + STOP_PATIENCE_S
    while running.holder(args.state) is not None:
        if time.monotonic() > deadline_s:
            raise NearmileError(
                f"the agent (process {pid}) has not stopped in {STOP_PATIENCE_S:.0f} s; `kill -9 {pid}` ends it, "
                "and its processes end with it"
            )
        time.sleep(POLL_S)
    print(f"the network on {args.state} has stopped")
    return 0
