import subprocess
import sys
from pathlib import Path

import pytest

from rindle.errors import ConfigurationError
from rindle.uploads.node import NodeIdentity


def test_a_folder_keeps_its_node_and_every_life_has_its_own_name(tmp_path: Path) -> None:
    first = NodeIdentity(tmp_path)
    first.close()
    second = NodeIdentity(tmp_path)
    assert second.id == first.id
    assert second.holder != first.holder
    second.close()


def test_another_folder_is_another_node(tmp_path: Path) -> None:
    one, other = NodeIdentity(tmp_path / "a"), NodeIdentity(tmp_path / "b")
    assert one.id != other.id
    assert not one.is_dead(other.holder)
    one.close()
    other.close()


def test_a_neighbour_is_alive_until_it_ends(tmp_path: Path) -> None:
    one, other = NodeIdentity(tmp_path), NodeIdentity(tmp_path)
    assert not one.is_dead(other.holder)
    assert not one.is_dead(one.holder)
    other.close()
    assert one.is_dead(other.holder)
    one.close()


def test_a_neighbour_that_was_killed_is_dead_and_its_lock_file_is_swept(tmp_path: Path) -> None:
    one = NodeIdentity(tmp_path)
    script = (
        "import os, pathlib, sys; from rindle.uploads.node import NodeIdentity;"
        "print(NodeIdentity(pathlib.Path(sys.argv[1])).holder, flush=True); os.kill(os.getpid(), 9)"
    )
    killed = subprocess.run([sys.executable, "-c", script, tmp_path], capture_output=True, text=True, check=False)
    holder = killed.stdout.strip()
    assert holder.startswith(one.id)
    assert one.is_dead(holder)
    assert len(list((tmp_path / "processes").iterdir())) == 2
    one.close()
    another = NodeIdentity(tmp_path)
    assert [path.stem for path in (tmp_path / "processes").iterdir()] == [another.process]
    another.close()


@pytest.mark.parametrize("holder", ["", "x", "x/y", "/../../etc/passwd"])
def test_of_holders_it_does_not_know_it_says_nothing(tmp_path: Path, holder: str) -> None:
    node = NodeIdentity(tmp_path)
    assert not node.is_dead(holder)
    assert not node.is_dead(f"{node.id}/../x")
    node.close()


def test_a_damaged_id_is_said_and_not_guessed_around(tmp_path: Path) -> None:
    (tmp_path / "node.id").write_text("what?")
    with pytest.raises(ConfigurationError, match="does not hold a node id"):
        NodeIdentity(tmp_path)


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="cannot be used"):
        NodeIdentity(tmp_path / "file" / "tails")
