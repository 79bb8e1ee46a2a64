from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
from typing_extensions import override

from benchmarks.client import UnexpectedAnswerError
from benchmarks.endpoints import Folders, Place
from benchmarks.measure import Result, Sample, compare
from benchmarks.pattern import Pattern
from benchmarks.processes import Cores, Process, ServerFailedError
from benchmarks.report import Figure, as_json, figures_of, ratio_of, table_of
from benchmarks.servers import Launch, Running, Server
from benchmarks.workloads import Heads, Job, Workload

_SIZE = 1000


class NoServer(Server):
    """One that does not listen: jobs write where it would."""

    def __init__(self, name: str, *, starts: bool = True) -> None:
        self.name = name
        self.starts = starts

    @override
    def version(self) -> str:
        return self.name

    @override
    def launch(self, place: Place, folder: Path, *, part_size: int) -> Launch:
        raise NotImplementedError

    @override
    @asynccontextmanager
    async def running(
        self, place: Place, folder: Path, *, part_size: int, cores: frozenset[int]
    ) -> AsyncIterator[Running]:
        if not self.starts:
            msg = "it did not start"
            raise ServerFailedError(msg)
        folder.mkdir(parents=True)
        log = folder / "log"
        log.write_text("what it said")
        yield Running(self.name, str(place.folder), Process(0), log)


class Writing(Workload):
    """Writes a pattern to the folder that is the server's URL, as ``write`` does it."""

    name = "writing"
    title = "writing"
    size = _SIZE

    def __init__(self, write: Callable[[Path, Pattern], Awaitable[None]]) -> None:
        self.write = write

    @override
    async def prepare(self, url: str, stack: AsyncExitStack) -> Job:
        pattern = Pattern(1, _SIZE)
        return Job(lambda: self.write(Path(url), pattern), [pattern])

    @override
    def smaller(self) -> "Writing":
        return self


async def run(
    folder: Path, write: Callable[[Path, Pattern], Awaitable[None]], *servers: Server, rounds: int = 1
) -> list[Result]:
    none: frozenset[int] = frozenset()
    return await compare(
        Writing(write),
        servers,
        Folders(folder),
        scratch=folder / "scratch",
        cores=Cores(none, none),
        rounds=rounds,
        part_size=1,
    )


async def write_all(folder: Path, pattern: Pattern) -> None:
    (folder / "object").write_bytes(b"".join(pattern.chunks()))


async def test_a_round_counts_when_what_was_sent_is_there(tmp_path: Path) -> None:
    (result,) = await run(tmp_path, write_all, NoServer("server"), rounds=2)
    assert [sample.fault for sample in result.samples] == [None, None]
    assert not list((tmp_path / "server").iterdir()), "what was written is forgotten"


async def test_a_round_in_which_a_byte_changed_does_not_count(tmp_path: Path) -> None:
    async def write_wrong(folder: Path, pattern: Pattern) -> None:
        data = bytearray(b"".join(pattern.chunks()))
        data[_SIZE // 2] ^= 1
        (folder / "object").write_bytes(data)

    (result,) = await run(tmp_path, write_wrong, NoServer("server"))
    assert result.samples[0].fault == "1 of 1 objects are not what was sent"
    assert figures_of(result) == {}
    assert "1 of 1 rounds do not count: 1 of 1 objects are not what was sent" in table_of([result])


async def test_a_round_that_failed_is_told_with_what_the_server_said(tmp_path: Path) -> None:
    async def fail(_folder: Path, _pattern: Pattern) -> None:
        msg = "PATCH: 500"
        raise UnexpectedAnswerError(msg)

    (result,) = await run(tmp_path, fail, NoServer("server"))
    (fault,) = [sample.fault for sample in result.samples]
    assert fault is not None
    assert "PATCH: 500" in fault
    assert "what it said" in fault


async def test_servers_take_turns_in_changing_order_and_one_that_does_not_start_is_told(tmp_path: Path) -> None:
    turns: list[str] = []

    async def write(folder: Path, pattern: Pattern) -> None:
        turns.append(folder.name)
        await write_all(folder, pattern)

    servers = [NoServer("one"), NoServer("two"), NoServer("broken", starts=False)]
    results = await run(tmp_path, write, *servers, rounds=2)
    assert turns == ["one", "two", "one", "two", "two", "one"]
    assert [len(result.samples) for result in results] == [2, 2, 1]
    assert results[2].samples[0].fault == "it did not start"


def result_of(name: str, *samples: Sample) -> Result:
    return Result(Heads("head", units=100, connections=1, bytes_there=1), NoServer(name), samples)


def test_figures_are_of_what_counts_and_compared_round_by_round() -> None:
    calls = Counter({"HeadObject": 300})
    base = result_of("base", *(Sample(seconds=1, cpu=cpu) for cpu in (0.125, 0.25, 0.5)))
    other = result_of(
        "other",
        Sample(seconds=1, cpu=0.25, calls=calls),
        Sample(fault="lost"),
        Sample(seconds=2, cpu=0.5, database_cpu=1.0, calls=calls),
    )
    figures = figures_of(other)
    assert figures["CPU-ms/request"] == Figure(2.5, 3.75, 5.0)
    assert figures["requests/s"] == Figure(50.0, 75.0, 100.0)
    assert figures["store calls/request"] == Figure(3.0, 3.0, 3.0)
    assert ratio_of(other, base) == Figure(2.0, 2.5, 3.0)
    assert as_json([other])[0]["samples"][1]["fault"] == "lost"
    assert "| other " in table_of([base, other])


def test_every_upload_has_bytes_of_its_own_and_any_cut_of_them_is_the_same() -> None:
    size = 3 << 20
    first, second = Pattern(1, size), Pattern(2, size)
    whole = b"".join(first.chunks())
    assert len(whole) == size
    assert b"".join([*first.chunks(0, 12345), *first.chunks(12345)]) == whole
    assert first.digest != second.digest
    assert first.digest == Pattern(1, size).digest


@pytest.mark.parametrize(("figure", "spelled"), [(Figure(1, 2, 3), "2.0 (1.0–3.0)"), (Figure(2, 2.01, 2), "2.0")])  # noqa: RUF001 - a range
def test_a_figure_that_never_differed_is_one_number(figure: Figure, spelled: str) -> None:
    assert figure.spell(1) == spelled
