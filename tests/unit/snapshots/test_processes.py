from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from rindle.objectstore.local import LocalStore
from rindle.snapshots import NoEncryption, SnapshotStore, StackLockedError
from tests.racing import run_script, running_script

PROCESSES = Path(__file__).parent / "processes.py"
WON, LOST = 0, 10


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
async def snapshots(root: Path) -> AsyncIterator[SnapshotStore]:
    async with LocalStore(root) as store:
        yield SnapshotStore(store, "network", "prod", encrypter=NoEncryption())


async def race(what: str, root: Path, racers: int) -> list[int]:
    """The exit codes of processes that did the same thing at once."""
    return [int(code) for code in (await run_script(PROCESSES, what, root.as_uri(), racers)).split()]


async def test_snapshots_of_one_nanosecond_are_all_kept(snapshots: SnapshotStore, root: Path) -> None:
    assert await race("write_at_noon", root, 10) == [WON] * 10
    revs = await snapshots.list()
    base = "2026-01-02T12:00:00.000000000Z"
    assert revs == [base, *(f"{base}_{number:02}" for number in range(1, 10))]
    assert sorted([(await snapshots.get(rev)).data for rev in revs]) == [b"%d" % number for number in range(10)]


async def test_who_goes_on_from_what_was_current_has_replaced_it_or_is_told(
    snapshots: SnapshotStore, root: Path
) -> None:
    first = await snapshots.write(b"")
    await snapshots.set_current(first)
    codes = await race("set_current", root, 8)
    assert set(codes) <= {WON, LOST}
    replaced = 0
    rev = await snapshots.current_rev()
    while rev != first:
        rev = (await snapshots.get(rev)).data.decode()
        replaced += 1
    assert replaced == codes.count(WON) >= 1


async def test_under_the_lock_every_one_goes_on_from_the_one_before(snapshots: SnapshotStore, root: Path) -> None:
    await snapshots.set_current(await snapshots.write(b""))
    assert await race("append", root, 4) == [WON] * 4
    assert sorted((await snapshots.current()).data) == sorted(b"0123")


async def test_a_killed_holder_keeps_the_stack_locked_until_it_is_forced(snapshots: SnapshotStore, root: Path) -> None:
    async with running_script(PROCESSES, "hold", root.as_uri(), until=b"held\n"):
        pass
    with pytest.raises(StackLockedError, match="locked by the killed one since"):
        await snapshots.lock.acquire(timeout=timedelta(0))
    assert await snapshots.lock.force_unlock() is not None
    async with snapshots.lock.hold(timeout=timedelta(0)):
        pass
