"""`rindle state` as it is met, on disk and in a bucket: what is said, and with which exit code."""

import asyncio
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from rindle.objectstore.base import ObjectStore
from rindle.objectstore.urls import open_store
from rindle.snapshots import NoEncryption, SnapshotStore
from rindle.snapshots.kms import KmsEncrypter
from tests.acceptance.process import RINDLE, environment, run_rindle
from tests.s3 import S3Server


def settings(url: str) -> dict[str, str]:
    return {"RINDLE_STATE_STORE": url, "RINDLE_STATE_FACTORY": "network", "RINDLE_STATE_STACK": "prod"}


async def rindle(*arguments: str, env: Mapping[str, str]) -> tuple[int, str, str]:
    finished = await asyncio.to_thread(run_rindle, "state", *arguments, env=env)
    return finished.returncode, finished.stdout, finished.stderr


async def test_the_life_of_a_state_in_a_bucket(moto: S3Server) -> None:
    bucket = await moto.new_bucket()
    key_id = await moto.new_kms_key()
    env = settings(moto.url(bucket)) | {"RINDLE_STATE_KMS_KEY_ID": key_id, "AWS_ENDPOINT_URL_KMS": moto.endpoint}
    async with moto.store(bucket) as store:
        snapshots = SnapshotStore(store, "network", "prod", encrypter=KmsEncrypter(key_id, endpoint=moto.endpoint))
        first, second = [await snapshots.write(data) for data in (b"one", b"two")]
        await snapshots.set_current(second)
    assert await rindle("show", env=env) == (0, "two", "")
    assert await rindle("rollback", "--yes", env=env) == (
        0,
        f"{first} is the current snapshot instead of {second}\n",
        "",
    )


class TestExitCodes:
    def test_a_stack_that_is_locked(self, tmp_path: Path) -> None:
        env = settings(tmp_path.as_uri())
        locked = run_rindle("state", "lock", "--who", "ann", env=env)
        assert locked.returncode == 0
        refused = run_rindle("state", "lock", env=env)
        assert (refused.returncode, refused.stdout) == (1, "")
        assert refused.stderr.startswith("error: network/prod is locked by ann since ")

    def test_nothing_there(self, tmp_path: Path) -> None:
        refused = run_rindle("state", "current", env=settings(tmp_path.as_uri()))
        assert (refused.returncode, refused.stderr) == (5, "error: network/prod has no current snapshot\n")

    async def test_a_bucket_that_is_not_there(self, moto: S3Server) -> None:
        code, _, said = await rindle("lock", env=settings(moto.url("nowhere")))
        assert code == 3
        assert said.startswith("error: s3: there is no bucket nowhere at http://127.0.0.1")


async def wait_for_line(stream: asyncio.StreamReader | None) -> str:
    assert stream is not None
    return (await stream.readline()).decode()


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    return open_store(tmp_path.as_uri())


async def test_who_waits_is_told_for_whom(store: ObjectStore, tmp_path: Path) -> None:
    async with store:
        snapshots = SnapshotStore(store, "network", "prod", encrypter=NoEncryption())
        async with snapshots.lock.hold(who="ann"):
            waiting = await asyncio.create_subprocess_exec(
                *(*RINDLE, "state", "lock", "--wait", "1m"),
                env=environment(**settings(tmp_path.as_uri())),
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
            said = await wait_for_line(waiting.stderr)
            assert said.startswith("waiting: network/prod is locked by ann since")
        lock_id = (await wait_for_line(waiting.stdout)).strip()
        assert await waiting.wait() == 0
        holder = await snapshots.lock.find_holder()
        assert holder is not None
        assert holder.id == lock_id


async def test_who_is_interrupted_while_waiting_has_not_locked_it(store: ObjectStore, tmp_path: Path) -> None:
    async with store:
        snapshots = SnapshotStore(store, "network", "prod", encrypter=NoEncryption())
        holder = await snapshots.lock.acquire()
        waiting = await asyncio.create_subprocess_exec(
            *(*RINDLE, "state", "lock", "--wait", "1m"),
            env=environment(**settings(tmp_path.as_uri())),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        await wait_for_line(waiting.stderr)
        waiting.send_signal(signal.SIGINT)
        output, errors = await waiting.communicate()
        assert (waiting.returncode, output) == (1, b"")
        assert b"Traceback" not in errors
        await snapshots.lock.release(holder)
        assert await snapshots.lock.find_holder() is None
