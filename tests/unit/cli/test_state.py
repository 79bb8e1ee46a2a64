import asyncio
import json
from base64 import b64encode
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

import pytest
from click.testing import CliRunner, Result

from rindle.cli.state import state
from rindle.errors import ConfigurationError
from rindle.objectstore.local import LocalStore
from rindle.snapshots import (
    DamagedSnapshotError,
    Encrypter,
    NoCurrentError,
    NoEncryption,
    SnapshotNotFoundError,
    SnapshotStore,
    StackLockedError,
)
from rindle.snapshots.aes import AesEncrypter

KEY = bytes(range(32))

Value = TypeVar("Value")


class Stack:
    """network/prod in a folder, and `rindle state` about it."""

    def __init__(self, folder: Path, encrypter: Encrypter | None = None) -> None:
        self.folder = folder
        self.encrypter = encrypter or NoEncryption()

    def do(self, work: Callable[[SnapshotStore], Awaitable[Value]]) -> Value:
        async def with_store() -> Value:
            async with LocalStore(self.folder) as store:
                return await work(SnapshotStore(store, "network", "prod", encrypter=self.encrypter))

        return asyncio.run(with_store())

    def write(self, *states: bytes) -> list[str]:
        """Write states; the last one becomes the current one."""

        async def write(snapshots: SnapshotStore) -> list[str]:
            revs = [await snapshots.write(data) for data in states]
            await snapshots.set_current(revs[-1])
            return revs

        return self.do(write)

    @property
    def current(self) -> str:
        return self.do(lambda snapshots: snapshots.current_rev())

    @property
    def revs(self) -> list[str]:
        return self.do(lambda snapshots: snapshots.list())

    def run(self, *arguments: str, **variables: str) -> Result:
        given = {"STORE": self.folder.as_uri(), "FACTORY": "network", "STACK": "prod", **variables}
        env = {f"RINDLE_STATE_{name}": value for name, value in given.items()}
        return CliRunner().invoke(state, arguments, env=env, catch_exceptions=False)

    def says(self, *arguments: str, **variables: str) -> str:
        """The output of a command that does well."""
        result = self.run(*arguments, **variables)
        assert result.exit_code == 0, result.output
        return result.stdout


@pytest.fixture
def stack(tmp_path: Path) -> Stack:
    return Stack(tmp_path / "store")


class TestReading:
    def test_a_list(self, stack: Stack) -> None:
        first, second = stack.write(b"1", b"2")
        lines = stack.says("ls").splitlines()
        assert [line.split() for line in lines] == [["revision"], [first], [second, "current"]]
        parsed = [json.loads(line) for line in stack.says("ls", "--json").splitlines()]
        assert parsed == [{"rev": first, "current": False}, {"rev": second, "current": True}]

    def test_an_empty_list_says_where_it_looked(self, stack: Stack) -> None:
        result = stack.run("ls", "--prefix", "states")
        assert result.exit_code == 0
        assert f"there are no snapshots in {stack.folder.as_uri()}, under states/network/prod" in result.stderr
        assert stack.says("ls", "--json") == ""
        assert not stack.folder.exists()

    def test_a_state(self, stack: Stack) -> None:
        first, second = stack.write(b'{"n": 1}', b"\xff\n")
        assert stack.run("show").stdout_bytes == b"\xff\n"
        assert stack.run("show", first).stdout_bytes == b'{"n": 1}'
        assert json.loads(stack.says("show", first, "--json")) == {"rev": first, "current": False, "state": {"n": 1}}
        assert json.loads(stack.says("show", "--json")) == {"rev": second, "current": True, "state_base64": "/wo="}

    def test_a_sealed_one(self, stack: Stack) -> None:
        stack.encrypter = AesEncrypter(KEY)
        stack.write(b"secret")
        assert stack.says("show", KEY=b64encode(KEY).decode()) == "secret"
        key_id = AesEncrypter(KEY).key_id
        said = rf"sealed by 'aes-256-gcm' with the key {key_id}, .* opens 'none' only; give the right key: RINDLE_STATE"
        with pytest.raises(ConfigurationError, match=said):
            stack.run("show")
        with pytest.raises(
            ConfigurationError, match=f"sealed with the key {key_id}, and this one is .*; give the right"
        ):
            stack.run("show", KEY=b64encode(bytes(32)).decode())
        (file,) = stack.folder.glob("network/prod/snapshots/*")
        file.write_text(file.read_text().replace('"ciphertext": "', '"ciphertext": "AAAA'))
        with pytest.raises(DamagedSnapshotError, match="was changed since it was written"):
            stack.run("show", KEY=b64encode(KEY).decode())

    def test_which_one_is_current(self, stack: Stack) -> None:
        with pytest.raises(NoCurrentError):
            stack.run("current")
        with pytest.raises(NoCurrentError):
            stack.run("show")
        (rev,) = stack.write(b"1")
        assert stack.says("current") == f"{rev}\n"

    def test_one_that_is_not_there(self, stack: Stack) -> None:
        stack.write(b"1")
        with pytest.raises(SnapshotNotFoundError):
            stack.run("show", "2020-01-01T00:00:00Z")


class TestRollback:
    def test_to_the_one_before(self, stack: Stack) -> None:
        first, second, third = stack.write(b"1", b"2", b"3")
        assert stack.says("rollback", "--yes") == f"{second} is the current snapshot instead of {third}\n"
        assert stack.says("rollback", "--yes").startswith(first)
        assert stack.current == first
        assert stack.revs == [first, second, third]
        result = stack.run("rollback", "--yes")
        assert (result.exit_code, stack.current) == (5, first)
        assert f"there is no snapshot of network/prod before {first}" in result.stderr

    def test_to_another(self, stack: Stack) -> None:
        first, _, third = stack.write(b"1", b"2", b"3")
        stack.says("rollback", first, "--yes")
        assert stack.current == first
        stack.says("rollback", third, "--yes")
        assert stack.current == third
        assert stack.says("rollback", third) == f"{third} is the current snapshot already\n"

    def test_where_none_is_current(self, stack: Stack) -> None:
        rev = stack.do(lambda snapshots: snapshots.write(b"1"))
        with pytest.raises(NoCurrentError):
            stack.run("rollback", "--yes")
        assert stack.says("rollback", rev, "--yes") == f"{rev} is the current snapshot\n"

    def test_to_one_that_is_not_there(self, stack: Stack) -> None:
        (rev,) = stack.write(b"1")
        with pytest.raises(SnapshotNotFoundError):
            stack.run("rollback", "2020-01-01T00:00:00Z", "--yes")
        assert stack.current == rev

    def test_from_one_that_was_deleted_by_hand(self, stack: Stack) -> None:
        first, second, third = stack.write(b"1", b"2", b"3")
        (stack.folder / f"network/prod/snapshots/{second}.json.enc").unlink()
        (stack.folder / f"network/prod/snapshots/{third}.json.enc").unlink()
        stack.says("rollback", "--yes")
        assert stack.current == first

    def test_it_asks(self, stack: Stack) -> None:
        first, second = stack.write(b"1", b"2")
        result = stack.run("rollback")
        assert result.exit_code == 2
        assert f"Make {first} the current snapshot of network/prod instead of {second}? Say --yes." in result.stderr
        assert stack.current == second
        assert stack.do(lambda snapshots: snapshots.lock.find_holder()) is None


class TestGc:
    def test_the_newest_and_the_current_one_stay(self, stack: Stack) -> None:
        revs = stack.write(*(b"%d" % number for number in range(5)))
        stack.says("rollback", revs[1], "--yes")
        planned = stack.says("gc", "--keep", "2", "--dry-run")
        assert planned == f"{revs[0]} would be deleted\n{revs[2]} would be deleted\n2 would be deleted, 3 kept\n"
        assert stack.revs == revs
        done = stack.says("gc", "--keep", "2", "--yes")
        assert done == f"{revs[0]} deleted\n{revs[2]} deleted\n2 deleted, 3 kept\n"
        assert stack.revs == [revs[1], *revs[3:]]

    def test_ten_stay_where_nothing_is_said(self, stack: Stack) -> None:
        revs = stack.write(*[b""] * 12)
        stack.says("gc", "--yes")
        assert stack.revs == revs[2:]
        assert stack.says("gc") == "0 deleted, 10 kept\n"

    def test_as_json(self, stack: Stack) -> None:
        revs = stack.write(b"1", b"2")
        expected = {"deleted": revs[:1], "kept": revs[1:], "failed": {}}
        assert json.loads(stack.says("gc", "--keep", "0", "--dry-run", "--json")) == expected
        assert json.loads(stack.says("gc", "--keep", "0", "--yes", "--json")) == expected

    def test_it_asks(self, stack: Stack) -> None:
        revs = stack.write(b"1", b"2", b"3")
        result = stack.run("gc", "--keep", "1")
        assert result.exit_code == 2
        asked = f"Delete 2 snapshots of network/prod, from {revs[0]} to {revs[1]}, and keep 1? Say --yes."
        assert asked in result.stderr
        assert stack.revs == revs

    def test_what_could_not_be_deleted_is_told(self, stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
        revs = stack.write(b"1", b"2", b"3")
        folder = stack.folder / "network/prod/snapshots"
        unlink = Path.unlink
        place = folder / f"{revs[0]}.json.enc"

        def refuse(root: Path, path: Path, **_: object) -> None:
            if path == place:
                raise PermissionError(13, "Permission denied", str(path))
            unlink(path)

        monkeypatch.setattr("rindle.objectstore.local.objects.remove", lambda path, *, root: refuse(root, path))
        result = stack.run("gc", "--keep", "1", "--yes")
        assert result.exit_code == 1
        assert f"error: {revs[0]} could not be deleted: " in result.stderr
        assert result.stdout == f"{revs[1]} deleted\n1 deleted, 2 kept\n"
        assert stack.revs == [revs[0], revs[2]]

    def test_fewer_than_none(self, stack: Stack) -> None:
        assert stack.run("gc", "--keep", "-1").exit_code == 2


class TestLock:
    def test_it_outlives_the_command(self, stack: Stack) -> None:
        stack.write(b"1", b"2")
        lock_id = stack.says("lock", "--who", "ann").strip()
        for command in (("lock",), ("rollback", "--yes"), ("gc", "--yes"), ("lock", "--wait", "1ms")):
            with pytest.raises(StackLockedError, match=r"network/prod is locked by ann since .*unlock --force"):
                stack.run(*command)
        stack.says("ls")
        assert stack.says("unlock", lock_id).startswith("network/prod is free; it was locked by ann since")
        stack.says("gc", "--yes")

    def test_as_json(self, stack: Stack) -> None:
        said = json.loads(stack.says("lock", "--json"))
        holder = stack.do(lambda snapshots: snapshots.lock.find_holder())
        assert holder is not None
        assert holder.since is not None
        since = holder.since.isoformat()
        assert said == {"id": holder.id, "who": holder.who, "since": since, "token": 1}

    def test_another_id_does_not_open_it(self, stack: Stack) -> None:
        stack.says("lock", "--who", "ann")
        result = stack.run("unlock", "0123")
        assert result.exit_code == 1
        assert "network/prod is locked under another ID, by ann since" in result.stderr
        assert stack.do(lambda snapshots: snapshots.lock.find_holder()) is not None

    def test_one_that_is_free(self, stack: Stack) -> None:
        for arguments in (("0123",), ("--force", "--yes")):
            result = stack.run("unlock", *arguments)
            assert (result.exit_code, result.stderr) == (5, "error: network/prod is not locked\n")

    def test_force(self, stack: Stack) -> None:
        stack.says("lock", "--who", "ann")
        result = stack.run("unlock", "--force")
        assert result.exit_code == 2
        assert "Take the lock of network/prod away from ann since" in result.stderr
        with pytest.raises(StackLockedError):
            stack.do(lambda snapshots: snapshots.lock.acquire(timeout=timedelta(0)))
        stack.says("unlock", "--force", "--yes")
        stack.says("lock")

    @pytest.mark.parametrize("arguments", [(), ("0123", "--force")])
    def test_neither_or_both(self, stack: Stack, arguments: tuple[str, ...]) -> None:
        result = stack.run("unlock", *arguments)
        assert result.exit_code == 2
        assert "give either the ID" in result.stderr


class TestWhere:
    @pytest.mark.parametrize("name", ["store", "factory", "stack"])
    def test_what_is_not_said_is_asked_for(self, stack: Stack, name: str) -> None:
        said = f"say which {name} the snapshots are of: --{name}, RINDLE_STATE_{name.upper()}, or state_{name} in"
        with pytest.raises(ConfigurationError, match=said):
            stack.run("ls", **{name.upper(): ""})

    def test_a_store_that_is_none(self, stack: Stack) -> None:
        with pytest.raises(ConfigurationError, match="there is no store for URLs that begin with s4://"):
            stack.run("ls", "--store", "s4://bucket")

    def test_a_name_that_is_none(self, stack: Stack) -> None:
        with pytest.raises(ConfigurationError, match=r"the names of factory and stack must be parts of a key: .*'a/b'"):
            stack.run("ls", "--stack", "a/b")
