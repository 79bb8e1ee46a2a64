import json
from base64 import b64decode, b64encode
from collections.abc import Callable
from typing import Any

import pytest

from rindle.objectstore.ext import read
from rindle.objectstore.memory import MemoryStore
from rindle.snapshots import DamagedSnapshotError, Encrypter, NoEncryption, SnapshotStore, WrongKeyError
from rindle.snapshots.aes import AesEncrypter

KEY, OTHER = bytes(range(32)), bytes(range(1, 33))
PLAIN = b'{"password": "correct horse battery staple"}'


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


def snapshots_in(store: MemoryStore, encrypter: Encrypter, *, stack: str = "prod") -> SnapshotStore:
    return SnapshotStore(store, "network", stack, encrypter=encrypter)


def key_of(rev: str, stack: str = "prod") -> str:
    return f"network/{stack}/snapshots/{rev}.json.enc"


async def test_only_who_has_the_key_can_read_it(store: MemoryStore) -> None:
    rev = await snapshots_in(store, AesEncrypter(KEY)).write(PLAIN)
    stored = await read(store, key_of(rev))
    assert b"horse" not in stored
    assert b"horse" not in b64decode(json.loads(stored)["ciphertext"])
    assert (await snapshots_in(store, AesEncrypter(KEY)).get(rev)).data == PLAIN


async def test_the_same_state_is_sealed_differently_each_time(store: MemoryStore) -> None:
    snapshots = snapshots_in(store, AesEncrypter(KEY))
    one, other = [json.loads(await read(store, key_of(await snapshots.write(PLAIN)))) for _ in range(2)]
    assert one["ciphertext"] != other["ciphertext"]
    assert one["encrypter"] == other["encrypter"]


async def test_another_key_is_named_and_shows_nothing(store: MemoryStore) -> None:
    right, wrong = AesEncrypter(KEY), AesEncrypter(OTHER)
    rev = await snapshots_in(store, right).write(PLAIN)
    with pytest.raises(WrongKeyError) as raised:
        await snapshots_in(store, wrong).get(rev)
    assert (
        str(raised.value)
        == f"network/prod/{rev} was sealed with the key {right.key_id}, and this one is {wrong.key_id}"
    )


@pytest.mark.parametrize(
    ("written_by", "read_by"), [(AesEncrypter(KEY), NoEncryption()), (NoEncryption(), AesEncrypter(KEY))]
)
async def test_what_was_sealed_in_another_way_is_not_opened(
    store: MemoryStore, written_by: Encrypter, read_by: Encrypter
) -> None:
    # Or else whoever can write into the store could put a state of his own there, without any key.
    rev = await snapshots_in(store, written_by).write(PLAIN)
    with pytest.raises(WrongKeyError, match=f"sealed by '{written_by.name}'.*, and this store opens '{read_by.name}'"):
        await snapshots_in(store, read_by).get(rev)


def flip(fields: dict[str, Any], position: int) -> None:
    data = bytearray(b64decode(fields["ciphertext"]))
    data[position] ^= 1
    fields["ciphertext"] = b64encode(data).decode()


@pytest.mark.parametrize(
    "change",
    [
        lambda fields: flip(fields, 0),
        lambda fields: flip(fields, 20),
        lambda fields: flip(fields, -1),
        lambda fields: fields.update(ciphertext=""),
        lambda fields: fields.update(ciphertext=fields["ciphertext"][:16]),
        lambda fields: fields["encrypter"].update(note="harmless"),
    ],
    ids=["nonce", "ciphertext", "tag", "nothing", "cut", "header"],
)
async def test_whatever_was_changed_is_noticed(store: MemoryStore, change: Callable[[dict[str, Any]], None]) -> None:
    snapshots = snapshots_in(store, AesEncrypter(KEY))
    rev = await snapshots.write(PLAIN)
    fields = json.loads(await read(store, key_of(rev)))
    change(fields)
    await store.put(key_of(rev), json.dumps(fields).encode())
    with pytest.raises(DamagedSnapshotError, match=f"network/prod/{rev} was changed since it was written"):
        await snapshots.get(rev)


async def test_base64_that_is_none_is_noticed(store: MemoryStore) -> None:
    snapshots = snapshots_in(store, AesEncrypter(KEY))
    rev = await snapshots.write(PLAIN)
    fields = json.loads(await read(store, key_of(rev)))
    await store.put(key_of(rev), json.dumps({**fields, "ciphertext": "?"}).encode())
    with pytest.raises(DamagedSnapshotError, match="is not a snapshot of the format"):
        await snapshots.get(rev)


async def test_a_snapshot_does_not_pass_for_another(store: MemoryStore) -> None:
    encrypter = AesEncrypter(KEY)
    ours, theirs = snapshots_in(store, encrypter), snapshots_in(store, encrypter, stack="test")
    old, new = [await ours.write(PLAIN) for _ in range(2)]
    await store.copy(key_of(old), key_of(new))
    with pytest.raises(DamagedSnapshotError, match="belongs to another stack or revision"):
        await ours.get(new)
    await store.copy(key_of(old), key_of(old, "test"))
    with pytest.raises(DamagedSnapshotError, match="belongs to another stack or revision"):
        await theirs.get(old)


@pytest.mark.parametrize("size", [0, 16, 31, 33])
def test_a_key_of_another_size(size: int) -> None:
    with pytest.raises(ValueError, match=f"a key for AES-256 has 32 bytes, not {size}"):
        AesEncrypter(b"k" * size)


def test_a_key_is_not_shown() -> None:
    encrypter = AesEncrypter(KEY)
    assert repr(encrypter) == f"AesEncrypter(key_id='{encrypter.key_id}')"
    assert encrypter.key_id not in KEY.hex()
    assert AesEncrypter(OTHER).key_id != encrypter.key_id
