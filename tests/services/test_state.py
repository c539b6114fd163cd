from pathlib import Path

import pytest

from nearmile.base.errors import NearmileError
from nearmile.services import state


def test_a_file_is_replaced_whole_and_with_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "token"
    state.write_atomically(path, b"old", 0o600)
    state.write_atomically(path, b"new", 0o600)
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_without_a_network_says_how_to_start_one(tmp_path: Path) -> None:
    with pytest.raises(NearmileError, match="nearmile up"):
        state.read_config(tmp_path)


def test_a_damaged_configuration_says_where_and_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{]")
    with pytest.raises(NearmileError, match=r"config\.json"):
        state.read_config(tmp_path)


def test_a_secret_that_cannot_be_kept_lasts_as_long_as_the_process(tmp_path: Path) -> None:
    kept = state.secret(tmp_path / "kept")
    assert state.secret(tmp_path / "kept") == kept
    (tmp_path / "not").mkdir()
    assert len(state.secret(tmp_path / "not")) == len(kept) == 32


def test_what_keys_are_made_of_stays_and_is_its_owners(tmp_path: Path) -> None:
    with pytest.raises(NearmileError, match=r"dnssec cannot be read .*`nearmile up` makes another"):
        state.dnssec_secrets(tmp_path)
    state.make_dnssec_secret(tmp_path)
    first = state.dnssec_secrets(tmp_path)
    state.make_dnssec_secret(tmp_path)
    path = state.dnssec_file(tmp_path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert state.dnssec_secrets(tmp_path) == first == (path.read_bytes(),)
    path.write_bytes(path.read_bytes() + bytes(32))
    assert state.dnssec_secrets(tmp_path) == (*first, bytes(32))
    path.write_bytes(b"short")
    with pytest.raises(NearmileError, match=r"dnssec is damaged \(5 bytes\)"):
        state.dnssec_secrets(tmp_path)
