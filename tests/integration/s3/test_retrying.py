"""A store that gives up at once, in a wrapper that does not."""

from collections.abc import AsyncIterator

import pytest

from rindle.objectstore import MultipartStore, PutOptions, UpdateVersion, put_stream, read, retrying
from rindle.objectstore.errors import AlreadyExistsError, StoreUnavailableError
from tests.s3 import SMALL_PART, S3Server
from tests.s3_proxy import Fault, S3Proxy

DATA = bytes(number % 251 for number in range(300_000))


@pytest.fixture
async def impatient(moto: S3Server, proxy: S3Proxy) -> AsyncIterator[MultipartStore]:
    async with await moto.new_store(endpoint=proxy.endpoint, attempts=1) as store:
        yield store


@pytest.fixture
def store(impatient: MultipartStore) -> MultipartStore:
    return retrying(impatient, first_pause=0)


async def test_conditional_writes_whose_answers_are_lost_know_their_objects(
    impatient: MultipartStore, store: MultipartStore, proxy: S3Proxy
) -> None:
    lost = [Fault("PUT", lose=True)] * 2  # the HTTP client has tried it once more
    proxy.faults += lost
    with pytest.raises(StoreUnavailableError):
        await impatient.put("by itself", b"mine", PutOptions(mode="create"))
    proxy.faults += lost
    created = await store.put("key", b"mine", PutOptions(mode="create"))
    assert created.e_tag == (await store.head("key")).e_tag
    proxy.faults += lost
    updated = await store.put("key", b"mine again", PutOptions(mode=UpdateVersion(created.e_tag)))
    assert await read(store, "key") == b"mine again"
    assert updated.e_tag == (await store.head("key")).e_tag
    proxy.fail("PUT", (503, "ServiceUnavailable"))
    with pytest.raises(AlreadyExistsError):
        await store.put("key", b"another's", PutOptions(mode="create"))


async def test_a_read_whose_connection_breaks_goes_on(
    impatient: MultipartStore, store: MultipartStore, proxy: S3Proxy
) -> None:
    await store.put("key", DATA)
    proxy.faults.append(Fault("GET", cut_answer=100_000))
    with pytest.raises(StoreUnavailableError):
        await read(impatient, "key")
    proxy.requests.clear()
    proxy.faults += [Fault("GET", cut_answer=100_000), Fault("GET", cut_answer=50_000)]
    assert await read(store, "key") == DATA
    ranges = [request.headers.get("range") for request in proxy.seen("GET")]
    assert len(ranges) == 3
    assert ranges[0] is None
    assert all(asked is not None and asked.endswith("-299999") for asked in ranges[1:])


async def test_a_stream_goes_on_when_the_service_is_back(store: MultipartStore, proxy: S3Proxy) -> None:
    proxy.fail("PUT ?partNumber", *[(503, "SlowDown")] * 3)
    proxy.faults.append(Fault("PUT ?partNumber", cut=1000))
    await put_stream(store, "key", [DATA], part_size=20 * SMALL_PART)
    assert await read(store, "key") == DATA
