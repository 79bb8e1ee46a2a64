"""What is made of any store, over a service that loses answers, and as the service sees it."""

import asyncio

import pytest

from rindle.objectstore.errors import UnsupportedOperationError
from rindle.objectstore.s3 import S3Store
from rindle.recipes import Counter, Lock, try_claim
from rindle.snapshots import NoEncryption, SnapshotStore
from tests.s3 import S3Server
from tests.s3_proxy import Fault, S3Proxy

LOST = Fault("PUT", lose=True)
KEY_ID = "arn:aws:kms:us-east-1:123456789012:key/11111111-2222-3333-4444-555555555555"


@pytest.fixture(autouse=True)
def without_more_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rindle.objectstore.cas._PAUSES", (0, 0))


class TestLostAnswers:
    @pytest.mark.parametrize("lost", [1, 3, 6])  # of which the SDK makes up for some, and we for the rest
    async def test_a_claim(self, store: S3Store, proxy: S3Proxy, lost: int) -> None:
        proxy.faults += [LOST] * lost
        assert await try_claim(store, "key", b"mine") is not None
        assert await try_claim(store, "key", b"mine") is None

    async def test_increments(self, store: S3Store, proxy: S3Proxy) -> None:
        counter = Counter(store, "key")
        for number in range(1, 6):
            proxy.faults += [LOST] * number
            assert await counter.increment() == number
        assert await counter.get() == 5

    async def test_increments_of_many(self, store: S3Store, proxy: S3Proxy) -> None:
        proxy.faults += [LOST] * 15
        values = await asyncio.gather(*(Counter(store, "key").increment() for _ in range(10)))
        assert sorted(values) == list(range(1, 11))

    async def test_a_lock(self, store: S3Store, proxy: S3Proxy) -> None:
        for token in (1, 2):
            proxy.faults += [LOST] * 5
            async with Lock(store, "key").hold() as holder:
                assert holder.token == token
                proxy.faults[:] = [LOST] * 5
            assert await Lock(store, "key").find_holder() is None

    async def test_a_snapshot(self, store: S3Store, proxy: S3Proxy) -> None:
        snapshots = SnapshotStore(store, "network", "prod", encrypter=NoEncryption())
        proxy.faults += [LOST] * 5
        rev = await snapshots.write(b"state")
        proxy.faults[:] = [LOST] * 5
        await snapshots.set_current(rev, replacing=None)
        assert (await snapshots.list(), await snapshots.current_rev()) == ([rev], rev)


@pytest.mark.parametrize("key_id", [KEY_ID, None])
async def test_everything_a_stack_writes_is_encrypted_as_the_store_says(
    moto: S3Server, proxy: S3Proxy, key_id: str | None
) -> None:
    encryption = {"sse": "aws:kms", "kms_key_id": key_id} if key_id else {}
    async with await moto.new_store(endpoint=proxy.endpoint, **encryption) as store:
        snapshots = SnapshotStore(store, "network", "prod", encrypter=NoEncryption())
        async with snapshots.lock.hold():
            await snapshots.set_current(await snapshots.write(b"state"))
    puts = proxy.seen("PUT")
    assert {put.target.split("/")[-1].split("?")[0] for put in puts} >= {"lock", "current"}
    assert len(puts) == 4
    for put in puts:
        assert put.headers.get("x-amz-server-side-encryption") == (key_id and "aws:kms")
        assert put.headers.get("x-amz-server-side-encryption-aws-kms-key-id") == key_id


async def test_a_service_without_conditions_is_refused_after_it_was_asked(moto: S3Server, proxy: S3Proxy) -> None:
    """Ignored conditions look like writes that were done; so what was found out by trying is what counts."""
    proxy.without = frozenset({"if-none-match", "if-match"})
    async with await moto.new_store(endpoint=proxy.endpoint, conditions=None) as store:
        await store.prepare()
        snapshots = SnapshotStore(store, "network", "prod", encrypter=NoEncryption())
        for act in (Lock(store, "key").acquire(), snapshots.lock.acquire(), Counter(store, "key").increment()):
            with pytest.raises(UnsupportedOperationError, match="the store has no put_create, put_update"):
                await act
        assert [meta async for meta in store.list()] == []
