"""What backends share: attempts, headers, and many removals at once."""

import asyncio

import pytest

from rindle.objectstore import retry
from rindle.objectstore.errors import NotFoundError, PermissionDeniedError, StoreUnavailableError, ThrottledError
from rindle.objectstore.headers import one_e_tag, read_text, spell_text
from rindle.objectstore.retry import pause_after, persist
from rindle.objectstore.tasks import delete_each

TRANSIENT = StoreUnavailableError("down", store="test")


class Attempts:
    def __init__(self, *outcomes: Exception | str) -> None:
        self.outcomes = list(outcomes)

    async def __call__(self) -> str:
        outcome = self.outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """After which attempts somebody waited; for no time."""
    waited: list[int] = []

    def pause(number: int) -> float:
        waited.append(number)
        return 0

    monkeypatch.setattr(retry, "pause_after", pause)
    return waited


async def test_what_may_succeed_is_tried_again_after_a_pause(pauses: list[int]) -> None:
    attempts = Attempts(TRANSIENT, ThrottledError("slow", store="test"), "done", "not reached")
    assert await persist(attempts, attempts=4) == "done"
    assert (pauses, attempts.outcomes) == ([1, 2], ["not reached"])


async def test_attempts_have_an_end(pauses: list[int]) -> None:
    attempts = Attempts(TRANSIENT, TRANSIENT, TRANSIENT)
    with pytest.raises(StoreUnavailableError):
        await persist(attempts, attempts=3)
    assert (pauses, attempts.outcomes) == ([1, 2], [])


@pytest.mark.parametrize(
    "error", [NotFoundError("x", store="test"), PermissionDeniedError("x", store="test"), ValueError()]
)
async def test_what_cannot_succeed_is_not_tried_again(pauses: list[int], error: Exception) -> None:
    with pytest.raises(type(error)):
        await persist(Attempts(error, "not reached"), attempts=3)
    assert pauses == []


def test_pauses_grow_and_have_a_bound() -> None:
    assert all(0.1 <= pause_after(1) <= 0.3 for _ in range(50))
    assert all(0.8 <= pause_after(4) <= 2.4 for _ in range(50))
    assert all(5 <= pause_after(60) <= 15 for _ in range(50))
    assert len({pause_after(1) for _ in range(50)}) > 40


async def test_many_are_removed_side_by_side_and_one_that_fails_stops_none() -> None:
    running: list[int] = [0, 0]

    async def delete(key: str) -> None:
        running[0] += 1
        running[1] = max(running)
        await asyncio.sleep(0)
        running[0] -= 1
        if key == "7":
            raise TRANSIENT

    results = await delete_each(delete, [str(number) for number in range(20)], at_once=3)
    assert [result.key for result in results] == [str(number) for number in range(20)]
    assert [result.key for result in results if result.error is TRANSIENT] == ["7"]
    assert sum(result.error is not None for result in results) == 1
    assert running == [0, 3]
    assert list(await delete_each(delete, [], at_once=3)) == []


@pytest.mark.parametrize(
    "value", ["", "plain", " edges ", "ü", "a\tb", "=?UTF-8?B?YQ==?=", "=?nonsense?Q?=?=", "ü" * 200]
)
def test_any_text_goes_into_a_header_and_comes_back(value: str) -> None:
    spelt = spell_text(value)
    assert spelt.isascii()
    assert spelt == spelt.strip()
    assert read_text(spelt) == value


@pytest.mark.parametrize(
    ("condition", "e_tag"), [(None, None), ("", None), ("*", None), ("a", "a"), ('"a"', "a"), ('"a", "b"', None)]
)
def test_one_e_tag_is_told_from_many(condition: str | None, e_tag: str | None) -> None:
    assert one_e_tag(condition) == e_tag
