"""From samples to figures: the least, the median and the most of each, as a table to read and as JSON to keep."""

import statistics
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from benchmarks.measure import Result, Sample
from benchmarks.pattern import MIB

_GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class Figure:
    """One thing that was measured several times."""

    least: float
    median: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Figure":
        return cls(min(values), statistics.median(values), max(values))

    def spell(self, digits: int) -> str:
        """The median, and the others where they differ from it as it is written."""
        least, median, most = (f"{value:.{digits}f}" for value in (self.least, self.median, self.most))
        return median if least == most else f"{median} ({least}–{most})"  # noqa: RUF001 - a range


def figures_of(result: Result) -> dict[str, Figure]:
    """All figures of one server at one workload, by their names; of samples that count."""
    samples = [sample for sample in result.samples if sample.fault is None]
    workload = result.workload
    if not samples:
        return {}

    def over(function: Callable[[Sample], float]) -> Figure:
        return Figure.of([function(sample) for sample in samples])

    if workload.by_volume:
        gib = workload.size / _GIB
        figures = {
            "CPU-s/GiB": over(lambda sample: sample.cpu / gib),
            "database CPU-s/GiB": over(lambda sample: sample.database_cpu / gib),
            "MiB/s": over(lambda sample: workload.size / MIB / sample.seconds),
        }
    else:
        each = 1000 / workload.units
        figures = {
            f"CPU-ms/{workload.unit}": over(lambda sample: sample.cpu * each),
            f"database CPU-ms/{workload.unit}": over(lambda sample: sample.database_cpu * each),
            f"{workload.unit}s/s": over(lambda sample: workload.units / sample.seconds),
        }
    figures["RSS before, MiB"] = over(lambda sample: sample.memory / MIB)
    figures["peak RSS, MiB"] = over(lambda sample: sample.peak_memory / MIB)
    if samples[0].calls is not None:
        calls = over(lambda sample: (sample.calls or Counter()).total() / workload.units)
        figures[f"store calls/{workload.unit}"] = calls
    return figures


def ratio_of(result: Result, base: Result) -> Figure | None:
    """How much more CPU time than ``base`` a server takes, its database's included, round by round."""
    pairs = zip(result.samples, base.samples, strict=False)
    ratios = [
        (sample.cpu + sample.database_cpu) / (other.cpu + other.database_cpu)
        for sample, other in pairs
        if sample.fault is None and other.fault is None and other.cpu
    ]
    return Figure.of(ratios) if ratios else None


def table_of(results: Sequence[Result]) -> str:
    """The servers at one workload, one line each, and below them what went wrong."""
    workload, base = results[0].workload, results[0]
    rows = []
    for result in results:
        row = {"server": result.server.name}
        row |= {name: figure.spell(_digits(name, figure)) for name, figure in figures_of(result).items()}
        if (ratio := ratio_of(result, base)) is not None and result is not base:
            row[f"CPU, {base.server.name} = 1"] = ratio.spell(2)
        rows.append(row)
    return "\n".join([f"### {workload.name}: {workload.title}", "", *_lines(rows), "", *_remarks(results)])


def _digits(name: str, figure: Figure) -> int:
    if "CPU" in name:
        return 2
    return 0 if figure.median >= 10 or name.endswith("MiB") else 1  # noqa: PLR2004


def _lines(rows: Sequence[Mapping[str, str]]) -> Iterator[str]:
    names = list(dict.fromkeys(name for row in rows for name in row))
    widths = {name: max(len(name), *(len(row.get(name, "")) for row in rows)) for name in names}
    yield "| " + " | ".join(f"{name:{widths[name]}}" for name in names) + " |"
    yield "|" + "|".join("-" * (widths[name] + 2) for name in names) + "|"
    for row in rows:
        yield "| " + " | ".join(f"{row.get(name, ''):{widths[name]}}" for name in names) + " |"


def _remarks(results: Sequence[Result]) -> Iterator[str]:
    for result in results:
        counted = [sample for sample in result.samples if sample.fault is None]
        if counted and counted[0].calls is not None and result.workload.unit == "upload":
            calls = Counter({name: calls / result.workload.units for name, calls in counted[0].calls.items()})
            spelled = ", ".join(f"{calls[name]:g} {name}" for name in sorted(calls))
            yield f"- {result.server.name}: {spelled} for each upload"
        budget = result.server.memory_budget
        if counted and budget is not None and result.workload.units > 1 and result.workload.by_volume:
            grown = max(sample.peak_memory - sample.memory for sample in counted)
            verdict = "within" if grown <= budget else "MORE THAN"
            bound = f"{verdict} its budget of {budget / MIB:.0f} MiB"
            yield f"- {result.server.name}: grew by {grown / MIB:.0f} MiB, {bound}"
        for remark in dict.fromkeys(remark for sample in counted for remark in sample.remarks):
            yield f"- {result.server.name}: {remark}"
        faults = [sample.fault for sample in result.samples if sample.fault is not None]
        if faults:
            yield f"- {result.server.name}: {len(faults)} of {len(result.samples)} rounds do not count: {faults[0]}"


def as_json(results: Sequence[Result]) -> list[dict[str, Any]]:
    """Everything, for a program to read."""
    return [
        {
            "workload": result.workload.name,
            "title": result.workload.title,
            "server": result.server.name,
            "figures": {name: asdict(figure) for name, figure in figures_of(result).items()},
            "samples": [
                {field.name: getattr(sample, field.name) for field in fields(sample)} for sample in result.samples
            ],
        }
        for result in results
    ]
