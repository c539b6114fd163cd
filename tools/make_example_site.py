"""Makes the example site, ``examples/world/site``: pages about the network that serves them, and their pictures.

    .venv/bin/python -m tools.make_example_site

The texts are in ``tools/example_site/pages.toml``; maps and figures come from the gazetteer and from what distance
costs. The same input gives the same output (with the same version of Pillow).
"""

import shutil
import tomllib
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

from tools import example_pictures as pictures

from nearmile.base.gazetteer import City, cities, find_city
from nearmile.base.geography import distance_km, expected_rtt_ms

SOURCE = Path(__file__).parent / "example_site"
OUT = Path(__file__).parent.parent / "examples" / "world" / "site"
REGIONS = {
    "frankfurt": "Frankfurt", "london": "London", "ashburn": "Ashburn", "san-jose": "San Jose, US",
    "sao-paulo": "Sao Paulo", "tokyo": "Tokyo",
}  # fmt: skip
NEARBY_KM, NEARBY_CITIES, FAR_AWAY = 1500.0, 8, ("Sydney", "Cape Town", "Anchorage")
# Round trip, loss, throughput and the time for 4 GB, as published for four distances (see the page's caption).
DISTANCES = (
    ("local, under 160 km", "1.6 ms", "0.6 %", "44 Mbit/s", 0.2, "12 minutes"),
    ("regional, 800 to 1600 km", "16 ms", "0.7 %", "4 Mbit/s", 2.2, "2.2 hours"),
    ("across a continent, 4800 km", "48 ms", "1.0 %", "1 Mbit/s", 8.2, "8.2 hours"),
    ("to another continent, 9600 km", "96 ms", "1.4 %", "0.4 Mbit/s", 20.0, "20 hours"),
)
CREDITS = """Where the cities are comes from <a href="https://www.geonames.org">GeoNames</a>, where addresses are
from <a href="https://db-ip.com">IP Geolocation by DB-IP</a>; both are licensed under CC BY 4.0."""


@dataclass
class Page:
    """One page; ``body`` is HTML."""

    path: str
    title: str
    lead: str
    body: str = ""
    section: str = ""
    script: str = ""
    children: list["Page"] = field(default_factory=list)

    @property
    def picture(self) -> str:
        return f"/pictures/{self.path.strip('/').replace('/', '-').removesuffix('.html') or 'home'}.webp"


def paragraphs(text: str) -> str:
    parts = [escape(part.strip(), quote=False) for part in text.strip().split("\n\n")]
    marked = [
        "".join(f"<code>{p}</code>" if i % 2 else p for i, p in enumerate(part.split("`"))) for part in parts
    ]
    return f'<div class="text">{"".join(f"<p>{part}</p>" for part in marked)}</div>'


def table(heads: list[str], rows: list[list[str]]) -> str:
    def cells(tag: str, row: list[str]) -> str:
        first, *rest = row
        return f"<{tag}>{first}</{tag}>" + "".join(f'<{tag} class="number">{cell}</{tag}>' for cell in rest)

    body = "".join(f"<tr>{cells('td', row)}</tr>" for row in rows)
    head = f"<tr>{cells('th', heads)}</tr>"
    return f'<div class="scroll"><table><thead>{head}</thead><tbody>{body}</tbody></table></div>'


def cards(pages: list[Page], thumbnails: bool = False) -> str:
    items = []
    for page in pages:
        image = f"/pictures/{page.path.strip('/').replace('/', '-')}.png"
        shown = f'<img src="{image}" alt="" width="320" height="160" loading="lazy">' if thumbnails else ""
        text = f"<strong>{escape(page.title)}</strong><span>{escape(page.lead)}</span>"
        items.append(f'<li><a href="{page.path}">{shown}{text}</a></li>')
    return f'<ul class="cards">{"".join(items)}</ul>'


def figure(name: str, title: str, caption: str, width: int, height: int) -> str:
    image = f'<img src="/pictures/{name}.svg" alt="{escape(title)}" width="{width}" height="{height}">'
    return f"<figure>{image}<figcaption>{caption}</figcaption></figure>"


DISTANCE_FIGURE = figure(
    "distance",
    "Bars: the time to download 4 GB grows from 12 minutes nearby to 20 hours from another continent",
    "How long 4 GB take over one connection, by distance. Figures: T. Leighton, Improving Performance on "
    "the Internet, CACM 52(2), 2009.",
    880,
    260,
) + table(
    ["from", "round trip", "packets lost", "throughput", "4 GB take"],
    [[where, rtt, loss, rate, time] for where, rtt, loss, rate, _, time in DISTANCES],
)
DISTANCE_TRIAL = """<h2>Try it</h2>
<div class="try"><label for="km">Distance: <output id="out-km"></output></label>
<input id="km" type="range" min="10" max="18000" step="10" value="6000">
<p>A round trip takes about <output id="out-rtt"></output>. One TCP connection then carries about
<output id="out-mbps"></output>, so that a gigabyte takes <output id="out-time"></output>.</p></div>"""
PATH_FIGURE = figure(
    "path", "You ask a top name server, a low name server, then an edge server; only it asks the origin",
    "The names are looked up in two steps; the edge server goes to the origin only for what it does not have.",
    880, 300,
)  # fmt: skip


def section_pages() -> list[Page]:
    """The sections with their pages, as the texts say."""
    found = []
    for section in tomllib.loads((SOURCE / "pages.toml").read_text())["sections"]:
        base = f"/{section['name']}/"
        top = Page(base, section["title"], section["lead"], paragraphs(section["text"]), section["name"])
        for entry in section["pages"]:
            page = Page(
                f"{base}{entry['name']}/",
                entry["title"],
                entry["lead"],
                paragraphs(entry["text"]),
                section["name"],
            )
            if entry.get("figure") == "distance":
                page.body += DISTANCE_TRIAL + f"<h2>As measured</h2>{DISTANCE_FIGURE}"
                page.script = "distance.js"
            top.children.append(page)
        top.body += (PATH_FIGURE if section.get("figure") == "path" else "") + cards(top.children)
        found.append(top)
    return found


def region_page(name: str, home: City) -> Page:
    """A region: whom it is near to, in numbers."""
    near = [city for city in cities() if distance_km(city.point, home.point) <= NEARBY_KM]
    people = sum(city.population for city in near)
    rtt_ms = expected_rtt_ms(NEARBY_KM)
    text = paragraphs(
        f"Two servers stand in {home.name}. Within {NEARBY_KM:.0f} km, that is at a round trip of {rtt_ms:.0f} ms "
        f"or less, lie {len(near)} larger cities with {people / 1e6:.0f} million people.\n\n"
        f'Ask as one of them would: `nearmile fetch http://www.example.test/map/{name}/ --from "{REGIONS[name]}"`'
    )
    far = [city for city in map(find_city, FAR_AWAY) if city is not None]
    listed = [home, *[city for city in near if city is not home][:NEARBY_CITIES], *far]
    rows = [
        [f"{escape(city.name)}, {city.country}", f"{km:,.0f} km", f"{expected_rtt_ms(km):.0f} ms"]
        for city, km in sorted(((c, distance_km(c.point, home.point)) for c in listed), key=lambda pair: pair[1])
    ]
    body = text + f"<h2>How far it is</h2>{table(['from', 'distance', 'round trip to expect'], rows)}"
    body += f'<p class="text">The round trip is what fibre and usual detours cost. {CREDITS}</p>'
    lead = f"{abs(home.point.lat):.1f}° {'north' if home.point.lat >= 0 else 'south'}, "
    lead += f"{abs(home.point.lon):.1f}° {'east' if home.point.lon >= 0 else 'west'}: a region with two servers."
    return Page(f"/map/{name}/", home.name.partition(" am ")[0], lead, body, "map")


def all_pages(homes: dict[str, City]) -> list[Page]:
    """Every page, in reading order."""
    regions = [region_page(name, home) for name, home in homes.items()]
    lead = "Six places on four continents, and who is near to which."
    intro = "Every dot is a city. This network sends each user to the region that is nearest to it and alive."
    world = Page(
        "/map/", "The map", lead, paragraphs(intro) + cards(regions, thumbnails=True), "map", children=regions
    )
    sections = [world, *section_pages()]
    welcome = paragraphs(
        "This page came to you through a content delivery network that runs on this computer: six regions, two "
        "servers each, name servers, and everything that keeps them going.\n\n"
        "Look around: each page explains a piece of it. The line at the end of each says which server sent it."
    )
    home = Page(
        "/", "The near side of the middle mile", "A small site about a large network.", welcome + cards(sections)
    )
    lost = Page("/404.html", "Not here", "There is no such page; all that is are one click from the start.", "")
    about = Page(
        "/about/", "About this site", "Made by a program, served by a network.",
        f'<div class="text"><p>The texts follow Tom Leighton, <cite>Improving Performance on the Internet</cite>, '
        f"Communications of the ACM 52(2), 2009. {CREDITS}</p></div>",
    )  # fmt: skip
    flat = [page for section in sections for page in (section, *section.children)]
    return [home, *flat, about, lost]


def render(page: Page, sections: list[Page], before: Page | None, after: Page | None) -> str:
    links = "".join(
        f'<a href="{s.path}"{" aria-current=" + chr(34) + "page" + chr(34) if s.section == page.section else ""}>'
        f"{escape(s.title)}</a>"
        for s in sections
    )
    steps = ""
    if before is not None or after is not None:
        back = f'<a href="{before.path}" rel="prev">← {escape(before.title)}</a>' if before else "<span></span>"
        on = f'<a href="{after.path}" rel="next">{escape(after.title)} →</a>' if after else "<span></span>"
        steps = f'<div class="next">{back}{on}</div>'
    script = f'<script src="/{page.script}" defer></script>\n' if page.script else ""
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(page.title)} – nearmile</title>
<meta name="description" content="{escape(page.lead)}">
<link rel="icon" href="/favicon.ico" sizes="32x32">
<link rel="icon" href="/icon.svg" type="image/svg+xml">
<link rel="stylesheet" href="/style.css">
{script}<script src="/page.js" defer></script>
</head>
<body>
<a class="skip" href="#content">Skip to the text</a>
<header><a class="home" href="/"><img src="/icon.svg" alt="" width="26" height="26">nearmile</a>
<nav aria-label="Sections">{links}</nav></header>
<main id="content">
<img class="banner" src="{page.picture}" alt="" width="1200" height="400">
<h1>{escape(page.title)}</h1>
<p class="lead">{escape(page.lead)}</p>
{page.body}
{steps}
</main>
<footer><span id="served" role="status"></span><a href="/about/">About this site</a></footer>
</body>
</html>
"""


def write(out: Path) -> None:
    """Makes the whole folder anew."""
    shutil.rmtree(out, ignore_errors=True)
    (out / "pictures").mkdir(parents=True)
    for name in ("style.css", "page.js", "distance.js", "icon.svg"):
        shutil.copyfile(SOURCE / name, out / name)
    shutil.copyfile(SOURCE / "path.svg", out / "pictures" / "path.svg")
    (out / "robots.txt").write_text("User-agent: *\nAllow: /\n")
    pictures.icon(out / "favicon.ico")
    (out / "pictures" / "distance.svg").write_text(pictures.bars([(w, h, label) for w, *_, h, label in DISTANCES]))
    homes = {
        name: city for name, city in ((n, find_city(text)) for n, text in REGIONS.items()) if city is not None
    }
    pages = all_pages(homes)
    sections = [page for page in pages if page.children]
    reading = [page for page in pages if page.path != "/404.html"]
    for page in pages:
        index = reading.index(page) if page in reading else -1
        before = reading[index - 1] if index > 0 else None
        after = reading[index + 1] if 0 <= index < len(reading) - 1 else None
        target = (
            out / page.path.strip("/")
            if page.path.endswith(".html")
            else out / page.path.strip("/") / "index.html"
        )
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(render(page, sections, before, after))
        pictures.banner(out / page.picture.strip("/"), page.path, page.section, homes)
    for name, home in homes.items():
        pictures.thumbnail(out / "pictures" / f"map-{name}.png", home)
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    print(f"{len(pages)} pages, {sum(1 for p in out.rglob('*') if p.is_file())} files, {size:,} bytes")


if __name__ == "__main__":
    write(OUT)
