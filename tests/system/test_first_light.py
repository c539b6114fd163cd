"""The whole path, as a newcomer walks it: up, fetch from three continents, report, purge, down, up again."""

import os
import signal
from pathlib import Path

import pytest

from live_network import EXAMPLES, LiveNetwork, alive, eventually
from waiting import PATIENCE_S

PAGE = "http://www.example.test/"


@pytest.mark.parametrize(
    ("city", "regions"),
    [("Tokyo", {"tokyo"}), ("Paris", {"london", "frankfurt"}), ("Chicago", {"ashburn"})],
)
def test_a_user_is_served_nearby(world: LiveNetwork, city: str, regions: set[str]) -> None:
    first = world.json("fetch", f"{PAGE}?of={city}", "--from", city)
    second = world.json("fetch", f"{PAGE}?of={city}", "--from", city)
    assert first["status"] == second["status"] == 200
    assert {first["region"], second["region"]} <= regions
    assert (first["cache"], second["cache"]) == ("miss", "hit")
    assert first["bytes"] == second["bytes"] > 0
    assert [step["tier"] for step in first["dns"]] == ["top", "top", "low"]
    assert first["dns"][0]["ttl_s"] > first["dns"][-1]["ttl_s"]


def test_the_same_page_over_tls(world: LiveNetwork) -> None:
    plain = world.json("fetch", PAGE, "--from", "Tokyo")
    secure = [world.json("fetch", PAGE.replace("http:", "https:"), "--from", "Tokyo") for _ in range(2)]
    assert [(one["status"], one["bytes"]) for one in secure] == 2 * [(200, plain["bytes"])]
    assert [one["cache"] for one in secure] == ["miss", "hit"], "https has objects of its own"


def test_a_hit_is_soon_in_the_report(world: LiveNetwork) -> None:
    path = f"{PAGE}?reported"
    for city in ("Tokyo", "Paris", "Chicago"):
        world.json("fetch", path, "--from", city)

    def places() -> dict[tuple[str, str], int]:
        rows = world.json("report", "--by", "country,state")["rows"]
        return {(row["country"], row["state"]): row["hits"] for row in rows}

    def all_three() -> bool:
        found = places()
        return {("US", "Illinois"), ("JP", "Tokyo")} <= found.keys() and any(
            country == "FR" for country, _ in found
        )

    eventually(all_three, PATIENCE_S, "hits by place in the report")
    by_site = world.json("report", "--by", "site,status")["rows"]
    assert {row["site"] for row in by_site} == {"example"}


def test_a_purge_is_confirmed_by_every_server(world: LiveNetwork) -> None:
    page = f"{PAGE}?purged"
    for _ in range(2):
        cached = world.json("fetch", page, "--from", "Tokyo")
    assert cached["cache"] == "hit"
    answer = world.json("purge", page)
    assert answer["confirmed"] == answer["servers"] == 12
    assert answer["objects"] >= 1
    assert world.json("fetch", page, "--from", "Tokyo")["cache"] == "miss"


def test_what_people_read_says_what_happened(world: LiveNetwork) -> None:
    shown = world.run("fetch", PAGE, "--from", "Sao Paulo").stdout
    for word in ("dns top", "dns low", "sao-paulo", "<- chosen", "TTL", "first byte"):
        assert word in shown
    assert "\x1b" not in shown, "colours only on a terminal"
    assert "12" in world.run("purge", PAGE).stdout
    assert "frankfurt-1" in world.run("status").stdout


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("fetch", PAGE, "--from", "Tokyoo"), 2, "Tokyo"),
        (("fetch", "ftp://www.example.test/"), 2, "not a URL"),
        (("fetch", "http://www.nowhere.test/"), 1, "www.nowhere.test"),
        (("fetch", f"{PAGE}no-such-page"), 1, "404"),
        (("report", "--by", "contry"), 2, "country"),
    ],
)
def test_mistakes_are_explained(world: LiveNetwork, arguments: tuple[str, ...], code: int, words: str) -> None:
    done = world.run(*arguments, check=False)
    assert done.returncode == code
    assert words in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_the_map_is_explained(world: LiveNetwork) -> None:
    found = world.json("map", "explain", "Tokyo", "example")
    assert found["region"] == "tokyo" and found["unit"].startswith("JP") and len(found["servers"]) == 2
    winner = found["candidates"][0]
    assert winner["region"] == "tokyo" and winner["why"].startswith("wins") and winner["live"] == 2
    words = world.run("map", "explain", "10.1.2.3").stdout
    assert "for anybody" in words and "answered from " in words
    version = str(found["map_version"])
    assert world.json("map", "diff", version, version)["moved"] == []
    assert "0 of " in world.run("map", "diff", version, version).stdout
    assert "is not kept" in world.run("map", "diff", version, "99999", check=False).stderr


def test_two_networks_run_side_by_side_and_no_process_outlives_a_killed_agent(
    world: LiveNetwork, tmp_path: Path
) -> None:
    with LiveNetwork(EXAMPLES / "world", tmp_path) as other:
        assert other.config.loopback != world.config.loopback
        assert other.json("fetch", PAGE, "--from", "Tokyo")["region"] == "tokyo"
        assert world.json("fetch", PAGE, "--from", "Tokyo")["region"] == "tokyo"
        agent, *children = _pids(other)
        os.kill(agent, signal.SIGKILL)
        eventually(lambda: not any(alive(pid) for pid in children), PATIENCE_S, "all children gone")
    assert world.json("fetch", PAGE, "--from", "Tokyo")["region"] == "tokyo"


def test_ctrl_c_leaves_nothing_and_the_next_start_goes_on(tmp_path: Path) -> None:
    network = LiveNetwork(EXAMPLES / "world", tmp_path)
    with network:
        network.json("fetch", PAGE, "--from", "Tokyo")
        warm = network.json("fetch", PAGE, "--from", "Tokyo")
        assert warm["cache"] == "hit"
        eventually(lambda: _hits(network) >= 2, PATIENCE_S, "hits reported")
        version, pids = network.status()["map_version"], _pids(network)
        network.stop(signal.SIGINT)
        assert not [pid for pid in pids if alive(pid)]
        assert network.run("status", check=False).returncode == 3

        (tmp_path / "status.json").write_bytes(b"")  # of a run that ended with its machine
        done = network.run("up", str(EXAMPLES / "world"), "--detach")
        assert "fetch http://www.example.test" in done.stdout
        again = network.json("fetch", PAGE, "--from", "Tokyo")
        assert again["cache"] == "hit", "caches stay warm"
        assert _hits(network) >= 2, "reports are kept"
        assert network.status()["map_version"] >= version
        pids = _pids(network)
        refused = network.run("up", str(EXAMPLES / "world"), "--detach", check=False)
        assert refused.returncode == 1 and "already runs" in refused.stderr
        network.run("down")  # by SIGTERM
        assert not [pid for pid in pids if alive(pid)]
        assert network.run("down", check=False).returncode == 3


def _pids(network: LiveNetwork) -> list[int]:
    status = network.status()
    assert status["ready"]
    return [status["agent_pid"], *(one["pid"] for one in status["processes"])]


def _hits(network: LiveNetwork) -> int:
    rows = network.json("report", "--last", "all", "--by", "site")["rows"]
    return sum(row["hits"] for row in rows)
