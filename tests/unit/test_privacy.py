"""Files that nobody else may read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from minikafka.privacy import write_private


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_a_secret_is_its_owners_alone_whatever_was_there(tmp_path: Path, umask: int) -> None:
    path = tmp_path / "broker.properties"
    path.write_text("old")
    path.chmod(0o644)
    before = os.umask(umask)
    try:
        write_private(path, "password=x\n")
    finally:
        os.umask(before)
    assert path.read_text() == "password=x\n"
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_in_its_place_is_not_followed(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_text("theirs")
    (tmp_path / "secret").symlink_to(other)
    write_private(tmp_path / "secret", "mine")
    assert other.read_text() == "theirs"
    assert (tmp_path / "secret").read_text() == "mine"
