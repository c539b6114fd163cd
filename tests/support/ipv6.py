"""Whether tests can listen on ::1: some containers have no IPv6."""

import socket

import pytest


def _is_there() -> bool:
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as any_socket:
            any_socket.bind(("::1", 0))
    except OSError:
        return False
    return True


needs_ipv6 = pytest.mark.skipif(not _is_there(), reason="this machine has no IPv6")
