"""What holds for every test."""

import asyncio
import ctypes
import fcntl
import inspect
import os
import socket
import struct

import pytest
import uvloop
from hypothesis import settings

from virtual import run_virtually

# The same examples on every machine and run: a failure is one for everybody (`make fuzz` is for finding new ones).
# No deadline: timings never fail a test.
settings.register_profile("nearmile", derandomize=True, deadline=None)
settings.load_profile("nearmile")

# No test of one process takes longer, however busy the machine is.
DEADLINE_S = 60.0
# From Linux: linux/sched.h, linux/sockios.h, linux/if.h.
CLONE_NEWNET, SIOCSIFFLAGS, IFF_UP = 0x40000000, 0x8914, 0x1


def own_network() -> None:
    """Gives this process and all that it starts a loopback of their own; OSError where that is not allowed."""
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "tests side by side need network namespaces: be root, or leave out -n")
    with socket.socket() as any_socket:
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sH22x", b"lo", IFF_UP))


def pytest_xdist_auto_num_workers() -> int | None:
    """For `-n auto`: as many workers as processors where each can have a network of its own, else none."""
    try:
        own_network()
    except OSError:
        return 0
    return None


# Tests side by side use the same addresses and ports.
if "PYTEST_XDIST_WORKER" in os.environ:
    own_network()


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """A test that is a coroutine runs as the product does, within a deadline; a `virtual` one takes no time."""
    test = pyfuncitem.obj
    if not inspect.iscoroutinefunction(test):
        return None

    async def bounded() -> None:
        async with asyncio.timeout(DEADLINE_S):
            await test(**{name: pyfuncitem.funcargs[name] for name in inspect.signature(test).parameters})

    if pyfuncitem.get_closest_marker("virtual"):
        run_virtually(lambda _loop: bounded(), seed=1)
    else:
        uvloop.run(bounded())
    return True
