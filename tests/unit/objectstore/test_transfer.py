"""What a request with a payload as its body sends, and what it does not."""

import asyncio
from typing import Any, cast

import pytest
from aiohttp.abc import AbstractStreamWriter

from rindle.objectstore.errors import IntegrityError, StoreTimeoutError
from rindle.objectstore.payload import BytesPayload, Payload, crc64nvme
from rindle.objectstore.s3.values import spell_checksum
from rindle.objectstore.transfer import RequestBody, checksum
from rindle.testing.payloads import FailingPayload, MislabelledPayload, SourceFailedError

CHUNKS = [bytes([number]) * 70_000 for number in range(9)]


class Wire:
    """Keeps what is written, as the very objects."""

    def __init__(self) -> None:
        self.written: list[bytes] = []

    async def write(self, chunk: bytes) -> None:
        self.written.append(chunk)


async def sent(body: RequestBody) -> list[bytes]:
    wire = Wire()
    await body.write_with_length(cast(AbstractStreamWriter, wire), len(body))
    return wire.written


def body_of(payload: Payload, *, digest: bool = True, patience: float = 60) -> RequestBody:
    return RequestBody(payload, store="s3", key="key", digest=digest, patience=patience)


async def test_chunks_are_sent_as_they_are_and_again_from_the_start() -> None:
    body = body_of(BytesPayload(*CHUNKS))
    for _ in range(2):
        body.seek(0)
        written = await sent(body)
        assert all(one is other for one, other in zip(written, CHUNKS, strict=True))
    assert (len(body), body.size, body.tell()) == (630_000, 630_000, 0)


async def test_a_body_does_not_become_whole_before_its_digest_is_right() -> None:
    wrong = body_of(BytesPayload(*CHUNKS, crc64nvme=1))
    wire = Wire()
    with pytest.raises(IntegrityError):
        await wrong.write(cast(AbstractStreamWriter, wire))
    assert 0 < sum(map(len, wire.written)) < 630_000
    assert isinstance(wrong.failed.result(), IntegrityError)
    assert await sent(body_of(BytesPayload(*CHUNKS, crc64nvme=1), digest=False)) == CHUNKS


@pytest.mark.parametrize("size", [629_999, 630_001])
async def test_a_body_of_another_size_than_it_said_does_not_become_whole(size: int) -> None:
    wire = Wire()
    with pytest.raises(IntegrityError):
        await body_of(MislabelledPayload(b"".join(CHUNKS), size=size)).write(cast(AbstractStreamWriter, wire))
    assert sum(map(len, wire.written)) < size


async def test_what_the_payload_raises_is_kept() -> None:
    body = body_of(FailingPayload(b"begun"))
    for _ in range(2):
        with pytest.raises(SourceFailedError):
            await sent(body)
    assert isinstance(body.failed.result(), SourceFailedError)


async def test_what_breaks_on_the_wire_is_not_the_payloads() -> None:
    class Cut:
        async def write(self, _: bytes) -> None:
            raise ConnectionResetError

    body = body_of(BytesPayload(*CHUNKS))
    with pytest.raises(ConnectionResetError):
        await body.write(cast(AbstractStreamWriter, Cut()))
    assert not body.failed.done()


async def test_nobody_reads_it_as_a_file() -> None:
    body = body_of(BytesPayload(b"x"))
    for read in (body.read, body.decode):
        with pytest.raises(NotImplementedError):
            cast(Any, read)()


async def test_a_checksum_is_the_payloads_own_or_made() -> None:
    known = BytesPayload(b"123456789", crc64nvme=0xAE8B14860A799888)
    assert await checksum(known, store="s3", key="key") == known.crc64nvme
    assert await checksum(BytesPayload(b"1234", b"56789"), store="s3", key="key") == known.crc64nvme
    assert spell_checksum(crc64nvme(b"123456789")) == "rosUhgp5mIg="
    with pytest.raises(IntegrityError):
        await checksum(MislabelledPayload(b"1", size=2), store="s3", key="key")


async def test_a_wire_that_takes_nothing_is_given_up() -> None:
    class Stuck:
        async def write(self, _: bytes) -> None:
            await asyncio.Event().wait()

    body = body_of(BytesPayload(*CHUNKS), patience=0.01)
    with pytest.raises(TimeoutError):
        await body.write(cast(AbstractStreamWriter, Stuck()))
    assert not body.failed.done()  # it may be tried again


async def test_a_service_that_does_not_want_the_body_is_given_up() -> None:
    body = body_of(BytesPayload(*CHUNKS), patience=0.01)
    body.offer()
    assert isinstance(await body.failed, StoreTimeoutError)
    wanted = body_of(BytesPayload(*CHUNKS))
    wanted.offer()
    await sent(wanted)
    assert not wanted.failed.done()
