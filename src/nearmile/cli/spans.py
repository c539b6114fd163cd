"""Spans of time as people write them."""

import argparse


def seconds(text: str) -> int:
    """`60`, `60s`, `5m`, `2h` or `1d` in seconds; `all` is 0, everything kept."""
    if text == "all":
        return 0
    scale = {"s": 1, "m": 60, "h": 3600, "d": 86400}.get(text[-1:], 0)
    digits = text[:-1] if scale else text
    if not digits.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is not a time span: write 60s, 5m, 2h, 1d or all")
    return int(digits) * (scale or 1)
