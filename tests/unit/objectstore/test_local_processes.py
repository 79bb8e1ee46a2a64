import os
import tempfile
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from rindle.objectstore.errors import StoreUnavailableError
from rindle.objectstore.ext import read
from rindle.objectstore.local import LocalStore
from rindle.objectstore.types import MultipartOptions
from tests.racing import run_script, running_script
from tests.unit.objectstore.local_processes import DELETED, DENIED, NOBODY

HERE = Path(__file__).parent
PROCESSES = HERE / "local_processes.py"
WON, LOST = 0, 10
PART_SIZE = 1000


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "root"


@pytest.fixture
async def store(root: Path) -> AsyncIterator[LocalStore]:
    async with LocalStore(root) as store:
        yield store


async def race(what: str, root: Path, racers: int) -> list[int]:
    """The exit codes of processes that did the same thing at once."""
    return [int(code) for code in (await run_script(PROCESSES, what, root, racers)).split()]


def held_by_another_process(what: str, root: Path) -> AbstractAsyncContextManager[object]:
    """A process in the middle of a write; it is killed in the end."""
    return running_script(PROCESSES, what, root, until=b"begun\n")


@pytest.mark.parametrize("what", ["create", "complete_to_create"])
async def test_of_fifty_processes_that_create_one_key_one_wins(what: str, store: LocalStore, root: Path) -> None:
    codes = await race(what, root, 50)
    assert Counter(codes) == {WON: 1, LOST: 49}
    assert await read(store, "a/b/key") == f"process {codes.index(WON)}".encode()
    assert [multipart async for multipart in store.list_multiparts()] == []
    assert await store.sweep() == 0


async def test_of_the_updates_of_many_processes_none_is_lost(store: LocalStore, root: Path) -> None:
    await store.put("counter", b"0")
    assert await race("increment", root, 8) == [WON] * 8
    assert await read(store, "counter") == b"80"


async def test_processes_that_put_delete_and_sweep_do_not_disturb_each_other(store: LocalStore, root: Path) -> None:
    assert await race("come_and_go", root, 8) == [WON] * 8
    assert [meta async for meta in store.list()] == []
    assert (await store.list_with_delimiter()).prefixes == ()


async def test_of_many_keys_one_that_may_not_be_deleted_does_not_stop_the_rest() -> None:
    # Not under tmp_path, where nobody else may look; and in memory, if there is a place for it.
    shared = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shared if shared.is_dir() else None) as name:
        root = Path(name)
        async with LocalStore(root) as store:
            await store.put(DELETED[DENIED], b"stays")
            await store.put("kept", b"")
        for key in DELETED:
            (root / key).parent.mkdir(exist_ok=True)
            (root / key).touch()
        for path in [root, *root.rglob("*")]:
            if os.geteuid() == 0:
                os.chown(path, NOBODY, NOBODY)
        (root / "locked").chmod(0o555)
        assert await race("delete_as_somebody_else", root, 1) == [WON]
        async with LocalStore(root) as store:
            assert [meta.key async for meta in store.list()] == ["kept", DELETED[DENIED]]


async def test_what_a_killed_writer_left_is_swept_and_what_a_living_one_writes_is_not(
    store: LocalStore, root: Path
) -> None:
    await store.put("key", b"old")
    async with held_by_another_process("hold_put", root):
        assert await read(store, "key") == b"old"
        assert await store.sweep() == 0
    assert await read(store, "key") == b"old"
    assert await store.sweep() == 1
    assert await store.sweep() == 0


async def test_a_part_is_put_by_one_process_at_a_time_and_is_free_when_it_dies(store: LocalStore, root: Path) -> None:
    ref = await store.create_multipart("key", MultipartOptions(part_size=PART_SIZE))
    second = await store.put_part(ref, 2, b"second")
    async with held_by_another_process("hold_part", root):
        with pytest.raises(StoreUnavailableError, match="part 1 is being put by somebody else"):
            await store.put_part(ref, 1, b"x" * PART_SIZE)
        with pytest.raises(StoreUnavailableError, match="is being put"):
            await store.complete_multipart(ref, [second])
        assert [part async for part in store.list_parts(ref)] == [second]
    first = await store.put_part(ref, 1, b"x" * PART_SIZE)
    await store.complete_multipart(ref, [first, second])
    assert await read(store, "key") == b"x" * PART_SIZE + b"second"


@pytest.mark.parametrize(
    ("scenario", "least_steps"),
    [
        ("overwrite", 10),
        ("create", 20),
        ("delete", 5),
        ("tags", 5),
        ("copy", 10),
        ("create_multipart", 15),
        ("put_part", 7),
        ("complete", 15),
        ("complete_create", 15),
        ("abort", 5),
    ],
)
async def test_a_kill_at_any_step_leaves_the_old_state_or_the_new_one(
    scenario: str, least_steps: int, tmp_path: Path
) -> None:
    assert int(await run_script(HERE / "local_crashes.py", scenario, tmp_path)) >= least_steps
