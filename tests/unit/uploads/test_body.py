import asyncio
from collections.abc import Iterable
from datetime import timedelta

import pytest

from rindle.uploads.body import BodyPace, BodyReader, ReadChunk
from rindle.uploads.errors import ClientDisconnectedError, DrainingError, ReadTimeoutError

PACE = BodyPace()


def source(chunks: Iterable[bytes | BaseException]) -> ReadChunk:
    left = iter(chunks)

    async def read_chunk() -> bytes | None:
        await asyncio.sleep(0)
        chunk = next(left, None)
        if isinstance(chunk, BaseException):
            raise chunk
        return chunk

    return read_chunk


async def read_all(body: BodyReader) -> bytes:
    parts = []
    while (chunk := await body.read()) is not None:
        parts.append(chunk)
    return b"".join(parts)


async def test_a_body_that_ends_is_complete() -> None:
    body = BodyReader(source([b"ab", b"", b"c"]), declared=3, pace=PACE)
    assert await read_all(body) == b"abc"
    assert body.complete
    assert body.ended is None
    assert body.received == 3


async def test_a_disconnect_ends_the_body_and_is_remembered() -> None:
    body = BodyReader(source([b"ab", ClientDisconnectedError()]), declared=None, pace=PACE)
    assert await read_all(body) == b"ab"
    assert not body.complete
    assert isinstance(body.ended, ClientDisconnectedError)


async def test_fewer_bytes_than_announced_are_no_end() -> None:
    body = BodyReader(source([b"ab"]), declared=3, pace=PACE)
    assert await read_all(body) == b"ab"
    assert isinstance(body.ended, ClientDisconnectedError)


@pytest.mark.parametrize("chunks", [[b"abcd"], [b"abc", b"d"], [b"a", b"b", b"c", b"d", b"e"]])
async def test_what_goes_past_the_limit_is_cut_off_and_said(chunks: list[bytes]) -> None:
    body = BodyReader(source(chunks), declared=None, pace=PACE)
    body.limit(3)
    assert await read_all(body) == b"abc"
    assert body.overrun
    assert body.received == 3


async def test_exactly_the_limit_is_no_overrun() -> None:
    body = BodyReader(source([b"ab", b"c"]), declared=None, pace=PACE)
    body.limit(3)
    assert await read_all(body) == b"abc"
    assert not body.overrun
    assert body.complete


async def test_a_stop_ends_a_body_that_waits_for_its_client() -> None:
    waiting = asyncio.Event()

    async def never() -> bytes | None:
        waiting.set()
        await asyncio.Event().wait()
        return None

    body = BodyReader(never, declared=None, pace=PACE)
    reading = asyncio.create_task(read_all(body))
    await waiting.wait()
    reason = DrainingError(None)
    body.stop(reason)
    body.stop(ReadTimeoutError())
    assert await reading == b""
    assert body.ended is reason


async def test_a_stop_between_chunks_ends_the_body_at_the_next() -> None:
    body = BodyReader(source([b"ab", b"cd"]), declared=None, pace=PACE)
    assert await body.read() == b"ab"
    body.stop(DrainingError(None))
    assert await body.read() is None
    assert await body.read() is None


async def test_a_stop_after_the_end_changes_nothing() -> None:
    body = BodyReader(source([b"ab"]), declared=2, pace=PACE)
    await read_all(body)
    body.stop(DrainingError(None))
    assert body.complete


async def test_a_cancellation_of_somebody_elses_is_no_end_of_the_body() -> None:
    waiting = asyncio.Event()

    async def never() -> bytes | None:
        waiting.set()
        await asyncio.Event().wait()
        return None

    body = BodyReader(never, declared=None, pace=PACE)
    reading = asyncio.create_task(read_all(body))
    await waiting.wait()
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    body.close()


async def test_a_client_that_sends_nothing_is_cut_off() -> None:
    pace = BodyPace(idle_timeout=timedelta(milliseconds=20))

    async def never() -> bytes | None:
        await asyncio.Event().wait()
        return None

    body = BodyReader(never, declared=None, pace=pace)
    assert await body.read() is None
    assert isinstance(body.ended, ReadTimeoutError)


async def test_a_client_that_drips_is_cut_off_and_its_bytes_are_counted() -> None:
    pace = BodyPace(min_rate=1_000_000, rate_window=timedelta(milliseconds=50))

    async def drip() -> bytes | None:
        await asyncio.sleep(0.005)
        return b"a"

    body = BodyReader(drip, declared=None, pace=pace)
    came = await read_all(body)
    assert isinstance(body.ended, ReadTimeoutError)
    assert body.received == len(came) > 0


@pytest.mark.invariant("I22")
async def test_time_in_which_the_server_does_not_read_is_not_held_against_the_client() -> None:
    pace = BodyPace(idle_timeout=timedelta(milliseconds=20), min_rate=1000, rate_window=timedelta(milliseconds=20))
    body = BodyReader(source([b"ab", b"c"]), declared=3, pace=pace)
    assert await body.read() == b"ab"
    await asyncio.sleep(0.1)  # the store is slow
    assert await read_all(body) == b"c"
    assert body.complete


async def test_a_drain_reads_no_more_than_it_was_told() -> None:
    body = BodyReader(source([b"a" * 10] * 100), declared=None, pace=PACE)
    await body.drain(35)
    assert body.received == 40
    body.close()
