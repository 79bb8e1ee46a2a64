from collections import Counter as Tally
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from rindle.objectstore.base import ObjectStore
from rindle.objectstore.ext import read
from rindle.objectstore.local import LocalStore
from rindle.recipes import Counter, Lock, LockedError
from tests.racing import run_script, running_script
from tests.s3 import S3Server

PROCESSES = Path(__file__).parent / "processes.py"
WON, LOST = 0, 10


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
async def store(root: Path) -> AsyncIterator[ObjectStore]:
    async with LocalStore(root) as store:
        yield store


async def race(what: str, url: str, racers: int) -> list[int]:
    """The exit codes of processes that did the same thing at once."""
    return [int(code) for code in (await run_script(PROCESSES, what, url, racers)).split()]


@pytest.mark.parametrize(
    ("what", "racers", "sum_"),
    [("count_to_20", 5, 100), pytest.param("count_to_100", 20, 2000, marks=pytest.mark.long)],
)
async def test_of_the_increments_of_many_processes_none_is_lost(
    what: str, racers: int, sum_: int, store: ObjectStore, root: Path
) -> None:
    assert await race(what, root.as_uri(), racers) == [WON] * racers
    assert await Counter(store, "counter").get() == sum_


@pytest.mark.long
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("server", ["versitygw", "localstack"])
async def test_of_the_increments_of_twenty_processes_in_a_bucket_none_is_lost(
    server: str, request: pytest.FixtureRequest
) -> None:
    s3: S3Server = request.getfixturevalue(server)
    bucket = await s3.new_bucket()
    url = s3.url(bucket, conditions="put,update", checksums="none", attempts="10")
    assert await race("count_to_100", url, 20) == [WON] * 20
    async with s3.store(bucket) as store:
        assert await Counter(store, "counter").get() == 2000


async def test_under_a_lock_one_works_at_a_time(store: ObjectStore, root: Path) -> None:
    await store.put("value", b"0")
    assert await race("work_under_lock", root.as_uri(), 5) == [WON] * 5
    assert await read(store, "value") == b"15"


async def test_of_all_who_wait_for_a_silent_holder_one_takes_his_place(store: ObjectStore, root: Path) -> None:
    dead = await Lock(store, "lock", lease=timedelta(seconds=0.3)).acquire()
    assert Tally(await race("take_for_good", root.as_uri(), 8)) == {WON: 1, LOST: 7}
    holder = await Lock(store, "lock").find_holder()
    assert holder is not None
    assert holder.token == dead.token + 1


async def test_of_all_who_take_a_lock_away_one_has_done_it(store: ObjectStore, root: Path) -> None:
    await Lock(store, "lock").acquire()
    assert Tally(await race("force", root.as_uri(), 8)) == {WON: 1, LOST: 7}
    assert await Lock(store, "lock").find_holder() is None


async def test_a_holder_that_is_killed_is_succeeded(store: ObjectStore, root: Path) -> None:
    lock = Lock(store, "lock")
    async with running_script(PROCESSES, "hold", root.as_uri(), until=b"held\n"):
        with pytest.raises(LockedError):
            await lock.acquire(timeout=timedelta(0))
    killed = await lock.find_holder()
    assert killed is not None
    assert (await lock.acquire()).token == killed.token + 1
