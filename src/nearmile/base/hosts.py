"""Hosts with ports, as they are written (RFC 3986, section 3.2.2)."""


def bracketed(host: str) -> str:
    """The host as it stands before a port: an IPv6 address in brackets."""
    return f"[{host}]" if ":" in host else host
