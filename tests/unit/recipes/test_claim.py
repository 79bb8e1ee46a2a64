import asyncio

import pytest

from rindle.objectstore.base import ObjectStore
from rindle.objectstore.errors import UnsupportedOperationError
from rindle.objectstore.ext import exists, read
from rindle.objectstore.memory import MemoryStore
from rindle.objectstore.types import Attributes, Capabilities
from rindle.recipes import try_claim
from rindle.testing.faults import FaultyStore
from tests.stores import lose_answers


async def test_the_first_one_has_it(any_store: ObjectStore) -> None:
    claimed = await try_claim(any_store, "claims/one", b"me", attributes=Attributes(content_type="text/plain"))
    assert claimed is not None
    assert await try_claim(any_store, "claims/one", b"you") is None
    async with await any_store.get("claims/one") as found:
        assert await found.read() == b"me"
        assert (found.meta.e_tag, found.attributes.content_type) == (claimed.e_tag, "text/plain")


async def test_of_fifty_at_once_one_has_it() -> None:
    store = MemoryStore()
    claims = await asyncio.gather(*(try_claim(store, "key", b"%d" % number) for number in range(50)))
    (winner,) = [number for number, claimed in enumerate(claims) if claimed]
    assert await read(store, "key") == b"%d" % winner


async def test_who_hears_nothing_of_his_claim_has_it_all_the_same(faulty: FaultyStore) -> None:
    lose_answers(faulty)
    assert await try_claim(faulty, "key", b"same") is not None
    assert await try_claim(faulty, "key", b"same") is None


async def test_a_store_without_conditional_writes() -> None:
    store = MemoryStore()
    store.capabilities = Capabilities(attributes=True)
    with pytest.raises(UnsupportedOperationError, match="put_create"):
        await try_claim(store, "key", b"")
    assert not await exists(store, "key")
