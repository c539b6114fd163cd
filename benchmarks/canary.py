"""Tells when the machine lets nobody run on a core: what is due there every LOOK_S, before all others, comes late.

So it is when the host of a virtual machine has something else to do. A server that is busy does not show:
real-time priority interrupts it.

python canary.py CORE, until it is terminated; prints from when to when, a line each. Without the right to that
priority it sees nothing, and says so.
"""

import gc
import os
import signal
import sys
import time

LOOK_S = 0.002
# Shorter ones are as long as what a server does between two looks at its sockets.
STOP_S = 0.0005
PRIORITY = 50


def main() -> None:
    """Looks until it is told to end."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    os.sched_setaffinity(0, {int(sys.argv[1])})
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(PRIORITY))
    except PermissionError:
        sys.exit("no right to real-time priority: stops of the server's core cannot be seen")
    gc.disable()
    now_s = time.perf_counter()
    while True:
        due_s = now_s + LOOK_S
        time.sleep(LOOK_S)
        now_s = time.perf_counter()
        if now_s - due_s > STOP_S:
            sys.stdout.write(f"{due_s} {now_s}\n")  # in one piece: it may be ended at any moment
            sys.stdout.flush()


if __name__ == "__main__":
    main()
