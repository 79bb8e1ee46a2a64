import asyncio
import json
from base64 import b64encode

import pytest

from rindle.objectstore.ext import read
from rindle.objectstore.memory import MemoryStore
from rindle.snapshots import DamagedSnapshotError, KeyServiceError, SnapshotStore, WrongKeyError
from rindle.snapshots.kms import KmsEncrypter
from tests.s3 import S3Server
from tests.s3_proxy import S3Proxy

PLAIN = b'{"password": "correct horse battery staple"}'


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


def snapshots_in(store: MemoryStore, key_id: str, endpoint: str) -> SnapshotStore:
    return SnapshotStore(store, "network", "prod", encrypter=KmsEncrypter(key_id, endpoint=endpoint))


async def test_what_was_written_can_be_read_by_who_may_use_the_key(store: MemoryStore, moto: S3Server) -> None:
    key_id = await moto.new_kms_key()
    rev = await snapshots_in(store, key_id, moto.endpoint).write(PLAIN)
    stored = await read(store, f"network/prod/snapshots/{rev}.json.enc")
    assert b"horse" not in stored
    assert json.loads(stored)["encrypter"]["key-id"] == key_id
    assert (await snapshots_in(store, key_id, moto.endpoint).get(rev)).data == PLAIN


async def test_kms_is_asked_once_to_write_and_once_for_each_data_key_to_read(
    store: MemoryStore, moto: S3Server
) -> None:
    key_id = await moto.new_kms_key()
    async with S3Proxy(moto.endpoint) as proxy:
        writer = snapshots_in(store, key_id, proxy.endpoint)
        revs = await asyncio.gather(*(writer.write(PLAIN) for _ in range(3)))
        await writer.get(revs[0])
        assert len(proxy.requests) == 1
        reader = snapshots_in(store, key_id, proxy.endpoint)
        await asyncio.gather(*(reader.get(rev) for rev in revs))
        assert len(proxy.requests) == 2


async def test_another_key_is_named(store: MemoryStore, moto: S3Server) -> None:
    key_id, other = await moto.new_kms_key(), await moto.new_kms_key()
    rev = await snapshots_in(store, key_id, moto.endpoint).write(PLAIN)
    with pytest.raises(WrongKeyError, match=f"sealed with the KMS key {key_id}, which {other} is not, or may not be"):
        await snapshots_in(store, other, moto.endpoint).get(rev)


@pytest.mark.parametrize("data_key", [None, "", "?", b64encode(b"not a data key of KMS").decode()])
async def test_a_data_key_that_was_changed_is_noticed(store: MemoryStore, moto: S3Server, data_key: str | None) -> None:
    snapshots = snapshots_in(store, await moto.new_kms_key(), moto.endpoint)
    rev = await snapshots.write(PLAIN)
    key = f"network/prod/snapshots/{rev}.json.enc"
    fields = json.loads(await read(store, key))
    del fields["encrypter"]["data-key"]
    if data_key is not None:
        fields["encrypter"]["data-key"] = data_key
    await store.put(key, json.dumps(fields).encode())
    with pytest.raises(DamagedSnapshotError, match=rev):
        await snapshots.get(rev)


async def test_a_key_that_is_not_there(store: MemoryStore, moto: S3Server) -> None:
    missing = "arn:aws:kms:us-east-1:123456789012:key/00000000-0000-0000-0000-000000000000"
    with pytest.raises(KeyServiceError, match=f"KMS gives no data key for {missing}: .*NotFoundException"):
        await snapshots_in(store, missing, moto.endpoint).write(PLAIN)
    assert [meta async for meta in store.list()] == []


async def test_a_service_that_is_not_there(store: MemoryStore, moto: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("botocore.retries.standard.ExponentialBackoff.delay_amount", lambda *_: 0)
    key_id = await moto.new_kms_key()
    rev = await snapshots_in(store, key_id, moto.endpoint).write(PLAIN)
    away = snapshots_in(store, key_id, "http://127.0.0.1:1")
    with pytest.raises(KeyServiceError, match="KMS gives no data key"):
        await away.write(PLAIN)
    with pytest.raises(KeyServiceError, match=f"KMS does not open the data key of network/prod/{rev}"):
        await away.get(rev)


async def test_without_a_region_it_says_so(store: MemoryStore) -> None:
    with pytest.raises(KeyServiceError, match="You must specify a region"):
        await SnapshotStore(store, "network", "prod", encrypter=KmsEncrypter("alias/states")).write(PLAIN)
