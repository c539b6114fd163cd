"""What the TTLs of the two tiers cost: a model of the time that resolving takes, and of how old answers are.

    python benchmarks/ttls.py [--plot docs/dns-ttls.svg]

A resolver asks a low-level server near it for the addresses of a name once a TTL, if anybody wants them, and a
top-level server, which is far, for the delegation to the low level, which all names share. With Poisson demand of
``rate`` a second an entry that lives for a TTL is found by rate * ttl / (1 + rate * ttl) of those who ask, and
fetched by the others: E = (1 - r) L + r (T + L), where r is the share of fetches that need the top level too.
"""

import argparse
from pathlib import Path

# Round trips from a resolver, in ms: to the nearest of many places (the mean of docs/mapping.md), and to the
# nearest of two or three.
LOW_MS, TOP_MS = 10.0, 70.0
# Names of the network that a resolver's users want, each at the same rate: they share the delegation.
NAMES = 10
# Questions a second for each name: a household's resolver, a company's, a large provider's.
RESOLVERS = {"household, 2 an hour": 2 / 3600, "company, 1 a minute": 1 / 60, "provider, 10 a second": 10.0}
COLOURS = ("#d22", "#36c", "#393")
# The defaults of the network document.
LOW_TTL_S, TOP_TTL_S = 20.0, 1800.0
SWEEP_S = (1, 2, 5, 10, 20, 60, 300, 1800, 7200, 86400)
WIDE, HIGH, LEFT, GAP = 330, 240, 50, 90


def fetched(rate: float, ttl_s: float) -> float:
    """The share of those who ask at that rate for whom the entry must be fetched."""
    return 1 / (1 + rate * ttl_s)


def resolution_ms(rate: float, low_ttl_s: float, top_ttl_s: float) -> float:
    """What a resolver adds on average to an answer: nothing for what it has."""
    low = fetched(rate, low_ttl_s)
    top = fetched(NAMES * rate * low, top_ttl_s)
    return low * (LOW_MS + top * TOP_MS)


def one_tier_ms(rate: float, ttl_s: float) -> float:
    """The same without a low level: the few top-level servers answer all."""
    return fetched(rate, ttl_s) * TOP_MS


def staleness_s(rate: float, ttl_s: float) -> float:
    """How old the entry is on average that somebody gets: half its TTL, for those who find one."""
    return (1 - fetched(rate, ttl_s)) * ttl_s / 2


def table() -> str:
    """The low level's TTL against what it costs, and the top level's."""
    lines = []
    for title, low_ttls, top_ttls in (
        ("low-level TTL", SWEEP_S[:8], [TOP_TTL_S] * 8),
        ("top-level TTL", [LOW_TTL_S] * 5, SWEEP_S[5:]),
    ):
        lines.append(f"{title:>14} | " + " | ".join(f"{name:>24}" for name in RESOLVERS))
        for low_s, top_s in zip(low_ttls, top_ttls, strict=True):
            low = title.startswith("low")
            ttl_s, asked = (low_s, 1.0) if low else (top_s, NAMES)
            figures = (
                f"{resolution_ms(rate, low_s, top_s):6.2f} ms "
                f"{staleness_s(asked * rate * (1 if low else fetched(rate, low_s)), ttl_s):8.1f} s old"
                for rate in RESOLVERS.values()
            )
            lines.append(f"{ttl_s:>12.0f} s | " + " | ".join(f"{figure:>24}" for figure in figures))
    return "\n".join(lines)


def plot() -> str:
    """Two panels, the low level's TTL and the top level's, each with time and age over the TTL."""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {2 * (WIDE + GAP) + 40} {HIGH + 105}" '
        'font-family="sans-serif" font-size="12"><rect width="100%" height="100%" fill="white"/>'
    ]
    parts += _panel(LEFT, "TTL of addresses (low level)", 1, 3600, LOW_TTL_S, low=True)
    parts += _panel(LEFT + WIDE + GAP, "TTL of delegations (top level)", 20, 86400, TOP_TTL_S, low=False)
    for number, name in enumerate(RESOLVERS):
        x = LEFT + 190 * number
        parts.append(f'<text x="{x}" y="{HIGH + 78}" fill="{COLOURS[number]}">{name}</text>')
    parts.append(
        f'<text x="{LEFT}" y="{HIGH + 96}" fill="#555">lines: mean ms to resolve; dashes: with one tier; '
        "grey: mean age of what is found; upright: the default</text>"
    )
    return "\n".join([*parts, "</svg>\n"])


def _panel(left: int, title: str, first_s: float, last_s: float, default_s: float, *, low: bool) -> list[str]:
    steps = [first_s * (last_s / first_s) ** (n / 80) for n in range(81)]
    x = {ttl_s: left + WIDE * n / 80 for n, ttl_s in enumerate(steps)}
    parts = [f'<text x="{left + 60}" y="14" font-weight="bold">{title}</text>']
    for ms in range(0, 81, 20):
        y = _y(ms / 80)
        parts.append(f'<path d="M{left} {y:.0f}h{WIDE}" stroke="#ddd"/>')
        parts.append(f'<text x="{left - 6}" y="{y + 4:.0f}" text-anchor="end">{ms} ms</text>')
        parts.append(
            f'<text x="{left + WIDE + 4}" y="{y + 4:.0f}" fill="#888">{last_s / 2 * ms / 80:.0f} s</text>'
        )
    for n in range(0, 81, 20):
        parts.append(
            f'<text x="{left + WIDE * n / 80:.0f}" y="{HIGH + 42}" text-anchor="middle">{_words(steps[n])}</text>'
        )
    nearest = min(steps, key=lambda ttl_s: abs(ttl_s / default_s - 1))
    parts.append(f'<path d="M{x[nearest]:.1f} {_y(0):.0f}V{_y(1):.0f}" stroke="#000" stroke-width="0.5"/>')
    ages = [(x[ttl_s], _y(ttl_s / last_s)) for ttl_s in steps]
    parts.append(_line(ages, "#bbb"))
    for colour, rate in zip(COLOURS, RESOLVERS.values(), strict=True):
        times = {s: resolution_ms(rate, s if low else LOW_TTL_S, TOP_TTL_S if low else s) for s in steps}
        parts.append(_line([(x[s], _y(ms / 80)) for s, ms in times.items()], colour))
        if low:
            alone = [(x[s], _y(one_tier_ms(rate, s) / 80)) for s in steps]
            parts.append(_line(alone, colour, ' stroke-dasharray="3 4"'))
    return parts


def _line(points: list[tuple[float, float]], colour: str, more: str = "") -> str:
    path = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    return f'<path d="M{path}" stroke="{colour}" stroke-width="2" fill="none"{more}/>'


def _y(share: float) -> float:
    return 24 + HIGH * (1 - share)


def _words(ttl_s: float) -> str:
    return (
        f"{ttl_s:.0f} s" if ttl_s < 120 else f"{ttl_s / 60:.0f} min" if ttl_s < 7200 else f"{ttl_s / 3600:.0f} h"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--plot", type=Path, metavar="FILE", help="writes an SVG")
    chosen = parser.parse_args()
    print(table())
    if chosen.plot:
        chosen.plot.write_text(plot())


if __name__ == "__main__":
    main()
