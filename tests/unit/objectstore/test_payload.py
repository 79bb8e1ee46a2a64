import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import aclosing
from itertools import chain
from pathlib import Path

import pytest
from typing_extensions import override

from rindle.objectstore.errors import IntegrityError
from rindle.objectstore.payload import (
    BytesPayload,
    FilePayload,
    JoinedPayload,
    Payload,
    PayloadCheck,
    batches,
    crc64nvme,
)


class ClosingPayload(Payload):
    """Says whether what it opened was closed."""

    def __init__(self, chunks: int) -> None:
        super().__init__(chunks)
        self.open = False

    @override
    async def __aiter__(self) -> AsyncIterator[bytes]:
        self.open = True
        try:
            for _ in range(self.size):
                yield b"x"
        finally:
            self.open = False


async def gather(payload: Payload) -> bytes:
    return b"".join([chunk async for chunk in payload])


async def test_bytes_are_given_as_often_as_they_are_asked_for() -> None:
    payload = BytesPayload(b"one", b"", b"two")
    assert payload.size == 6
    assert [await gather(payload), await gather(payload)] == [b"onetwo", b"onetwo"]


async def test_a_file_is_given_from_an_offset_on(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"0123456789" * 300_000)
    whole = await FilePayload.of(path)
    assert (whole.size, await gather(whole)) == (3_000_000, path.read_bytes())
    assert await gather(FilePayload(path, offset=5, size=7)) == b"5678901"


async def test_a_file_that_became_shorter_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"0123")
    with pytest.raises(OSError, match="ended 6 bytes before"):
        await gather(FilePayload(path, size=10))


async def test_a_file_is_closed_whenever_its_reader_goes(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"0123")
    for turns in range(20):
        reading = asyncio.create_task(gather(FilePayload(path, size=4)))
        for _ in range(turns):
            await asyncio.sleep(0)
        reading.cancel()
        await asyncio.wait([reading])
    gc.collect()  # it warns of files that nobody has closed


async def test_payloads_are_joined_in_order(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"file")
    payload = JoinedPayload([BytesPayload(b"a"), FilePayload(path, size=4), BytesPayload(b"z")])
    assert (payload.size, await gather(payload)) == (6, b"afilez")


async def test_batches_hold_the_chunks_themselves() -> None:
    chunks = [bytes([number]) * 40 for number in range(10)]
    lists = [batch async for batch in batches(BytesPayload(*chunks), 100)]
    assert [len(batch) for batch in lists] == [3, 3, 3, 1]
    assert all(given is got for given, got in zip(chunks, chain.from_iterable(lists), strict=True))


async def test_there_are_no_batches_of_nothing() -> None:
    assert [batch async for batch in batches(BytesPayload())] == []


async def test_a_payload_left_early_is_closed_at_once() -> None:
    inner = ClosingPayload(10)
    async with aclosing(batches(JoinedPayload([BytesPayload(b"a"), inner]), 2)) as lists:
        await anext(lists)
        assert inner.open
    assert not inner.open


def check(payload: Payload, *chunks: bytes) -> None:
    checking = PayloadCheck(payload, store="memory", key="key")
    for chunk in chunks:
        checking.update([chunk])
    checking.finish()


def test_a_check_passes_the_bytes_that_were_named() -> None:
    check(BytesPayload(b"some bytes", crc64nvme=crc64nvme(b"some bytes")), b"some ", b"bytes")
    check(BytesPayload(b"some bytes"), b"else bytes")
    check(BytesPayload(crc64nvme=0))


def test_a_check_refuses_other_bytes() -> None:
    with pytest.raises(IntegrityError, match="CRC-64/NVME"):
        check(BytesPayload(b"some bytes", crc64nvme=0), b"some bytes")
    with pytest.raises(IntegrityError, match="gave 4 bytes and had said 10"):
        check(BytesPayload(b"some bytes"), b"some")


def test_a_check_refuses_surplus_bytes_before_the_end() -> None:
    checking = PayloadCheck(BytesPayload(b"some"), store="memory", key="key")
    with pytest.raises(IntegrityError, match="more than the 4 bytes"):
        checking.update([b"some", b" more"])
