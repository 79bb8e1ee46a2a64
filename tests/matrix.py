"""What the contract suites have shown of each store, as a table: ``pytest --store-matrix=FILE`` (``make stores``).

A row is a feature, proved by the tests named for it; a column is a store: the test class's ``column``, where
``{store}`` stands for the parameter of its ``store`` fixture, or else the class's name. An empty one is none. The cells
come from what the tests did in this run and what the stores they ran on declared, and from nothing else.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import pytest

from rindle.objectstore.base import ObjectStore
from rindle.testing.objectstore import ObjectStoreContract

PROPERTY = "rindle store"
MARKERS = re.compile(r"(<!-- measured: stores -->\n).*?(<!-- end -->)", re.DOTALL)
PROVED, REFUSED, FAILED, NOT_RUN = "✓", "refused", "**failed**", "not run"

Declared = Mapping[str, Any]


def always(_declared: Declared) -> bool:
    return True


def declares(*names: str) -> Callable[[Declared], bool]:
    return lambda declared: all(declared[name] for name in names)


@dataclass(frozen=True)
class Feature:
    """``is_declared``: by the store's capabilities; where it is not, the tests prove that it is refused."""

    name: str
    is_declared: Callable[[Declared], bool]
    tests: tuple[str, ...]


FEATURES: Sequence[Feature] = (
    Feature(
        "put, get, head",
        always,
        (
            "test_what_is_put_is_read_back",
            "test_an_object_may_be_empty",
            "test_put_get_head_and_listing_agree_about_an_object",
            "test_a_put_replaces_the_object_whole",
            "test_an_absent_object_is_not_found",
            "test_a_get_of_the_head_alone_gives_no_bytes",
        ),
    ),
    Feature(
        "all or nothing: writes that fail, are cancelled, or are read meanwhile",
        always,
        (
            "test_a_write_whose_payload_fails_leaves_the_old_object",
            "test_a_write_whose_payload_fails_leaves_nothing_under_a_new_key",
            "test_a_write_under_way_is_not_seen_and_when_cancelled_never_was",
            "test_a_cancelled_write_leaves_nothing_under_a_new_key",
            "test_a_payload_of_another_size_than_it_said_is_refused",
            "test_a_reader_sees_one_version_whatever_is_written_meanwhile",
        ),
    ),
    Feature(
        "wrong bytes are refused (CRC-64/NVME)",
        always,
        (
            "test_bytes_that_are_not_those_of_the_digest_are_refused",
            "test_bytes_that_are_those_of_the_digest_are_taken",
        ),
    ),
    Feature(
        "put: create (if-none-match)",
        declares("put_create"),
        (
            "test_create_writes_what_is_not_there",
            "test_create_changes_nothing_where_the_key_is_taken",
            "test_create_after_delete_succeeds",
            "test_of_many_who_create_one_wins",
        ),
    ),
    Feature(
        "put: update (if-match)",
        declares("put_update"),
        (
            "test_update_replaces_the_version_it_names",
            "test_update_changes_nothing_where_there_is_another_version",
            "test_update_does_not_bring_back_what_was_deleted",
            "test_of_many_updates_none_is_lost",
        ),
    ),
    Feature("get: a version", declares("versions"), ("test_a_version_is_refused_where_there_are_none",)),
    Feature("get: if_match", always, ("test_if_match_is_for_the_version_one_knows",)),
    Feature("get: if_none_match", always, ("test_if_none_match_is_for_a_version_one_does_not_know",)),
    Feature("get: if_modified_since", always, ("test_if_modified_since_is_for_what_came_later",)),
    Feature("get: if_unmodified_since", always, ("test_if_unmodified_since_is_for_what_was_there_before",)),
    Feature(
        "get: ranges",
        always,
        (
            "test_a_range_gives_these_bytes",
            "test_a_range_after_the_end_is_an_error",
            "test_an_empty_object_has_no_ranges",
            "test_ranges_come_in_the_order_asked_for",
        ),
    ),
    Feature(
        "bodies: bytes, paths, files, iterators",
        always,
        ("test_a_body_may_be_given_in_many_ways", "test_a_payload_of_many_chunks_is_one_object"),
    ),
    Feature(
        "streams of any length",
        declares("part_limits"),
        (
            "test_a_stream_is_put_in_parts_or_refused",
            "test_a_stream_that_raises_leaves_what_was_there",
            "test_a_stream_that_is_cancelled_leaves_what_was_there",
        ),
    ),
    Feature(
        "streams that create",
        declares("put_create", "complete_create"),
        ("test_a_stream_that_creates_leaves_what_is_there",),
    ),
    Feature(
        "reading as a stream, into a file",
        always,
        ("test_a_large_object_is_streamed_in_order", "test_an_object_is_downloaded_to_a_file"),
    ),
    Feature(
        "list: in order, by prefix, in pages, from a key on",
        always,
        (
            "test_a_listing_is_in_the_order_of_the_utf8_bytes",
            "test_a_prefix_is_text_and_not_a_folder",
            "test_pages_give_every_key_once_in_order",
            "test_a_listing_starts_after_a_key",
            "test_start_after_and_prefix_both_hold",
            "test_what_is_put_between_two_pages_is_on_the_second",
            "test_thousands_of_keys_come_in_pages",
        ),
    ),
    Feature(
        "reads and lists that see all that was written",
        lambda declared: declared["consistency"] != "eventual",
        ("test_whoever_asks_to_see_all_that_was_written_sees_it",),
    ),
    Feature(
        "list: with a delimiter",
        always,
        (
            "test_a_delimiter_shows_the_direct_children",
            "test_pages_with_a_delimiter_give_every_child_once",
            "test_a_prefix_without_objects_is_not_shown",
        ),
    ),
    Feature(
        "delete",
        always,
        (
            "test_delete_removes_and_may_be_repeated",
            "test_delete_leaves_the_neighbours",
        ),
    ),
    Feature(
        "delete many, an answer for each",
        always,
        ("test_delete_many_answers_for_each_key_in_order",),
    ),
    Feature(
        "copy, rename",
        always,
        (
            "test_a_copy_has_the_bytes_and_stands_alone",
            "test_a_copy_replaces_the_target",
            "test_a_copy_of_nothing_is_not_found_and_leaves_the_target",
            "test_a_copy_has_the_attributes_and_tags",
            "test_a_rename_moves_an_object",
        ),
    ),
    Feature(
        "copy, rename: if not exists",
        declares("copy_create"),
        (
            "test_a_copy_that_creates_leaves_what_is_there",
            "test_a_rename_that_creates_leaves_both_where_the_target_is_taken",
        ),
    ),
    Feature(
        "attributes",
        declares("attributes"),
        (
            "test_attributes_come_back_as_they_were_given",
            "test_a_put_replaces_the_attributes_too",
            "test_a_stream_has_attributes_and_tags",
            "test_attributes_and_tags_become_the_objects",
        ),
    ),
    Feature(
        "tags",
        declares("tags"),
        (
            "test_tags_come_back_as_they_were_given",
            "test_new_tags_replace_the_old_ones_and_nothing_else",
            "test_an_absent_object_has_no_tags",
        ),
    ),
    Feature(
        "signed URLs",
        declares("signed_urls"),
        ("test_a_signed_url_lets_its_holder_read", "test_a_signed_url_lets_its_holder_write_look_or_delete"),
    ),
    Feature(
        "keys of any characters; what is no key",
        always,
        (
            "test_a_key_may_hold_any_characters",
            "test_what_no_store_could_keep_apart_is_no_key",
            "test_a_key_that_differs_in_case_is_another",
        ),
    ),
    Feature(
        "multipart: complete, replace, abort",
        declares("part_limits"),
        (
            "test_parts_are_joined_by_number_and_not_by_arrival",
            "test_nothing_is_seen_before_completion",
            "test_a_part_put_again_replaces_the_one_before",
            "test_the_e_tag_of_a_replaced_part_is_refused_and_the_multipart_stays",
            "test_an_absent_part_is_refused_and_the_multipart_stays",
            "test_completing_again_does_not_touch_the_object",
            "test_a_completed_multipart_takes_no_more_parts",
            "test_an_aborted_multipart_is_gone",
            "test_a_multipart_that_never_was_is_gone_too",
        ),
    ),
    Feature(
        "multipart: gone on with by another process",
        declares("part_limits"),
        ("test_a_handle_outlives_the_instance_that_made_it", "test_parts_are_listed_by_number"),
    ),
    Feature(
        "multipart: create",
        declares("complete_create"),
        (
            "test_a_completion_that_creates_leaves_what_is_there",
            "test_of_many_who_complete_to_create_one_wins",
        ),
    ),
    Feature(
        "multipart: copies as parts",
        declares("copy_part"),
        (
            "test_a_part_may_be_a_copy_of_an_object_or_a_range_of_it",
            "test_a_copy_of_what_is_not_there_is_refused",
        ),
    ),
    Feature(
        "multipart: list the unfinished",
        declares("list_multiparts"),
        ("test_unfinished_multiparts_are_listed_by_prefix",),
    ),
)
_NAMED = {test for feature in FEATURES for test in feature.tests}
THE_REST = "all else in the contract"
_FIRST_COLUMNS = ("memory", "local disk")


@dataclass(frozen=True)
class Run:
    """One test on one store. ``declared`` is None if it did not come as far as having one."""

    test: str
    outcome: str
    declared: Declared | None


class Matrix:
    """What this run has shown, in the process that reports."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._runs: defaultdict[str, list[Run]] = defaultdict(list)

    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        """Run what has a column, and nothing else."""
        config.hook.pytest_deselected(items=[item for item in items if not _column(item)])
        items[:] = [item for item in items if _column(item)]

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        if report.when == "call" or not report.passed:
            store = getattr(item, "funcargs", {}).get("store")
            declared = asdict(store.capabilities) if isinstance(store, ObjectStore) else None
            if declared is not None:
                declared["part_limits"] = declared["part_limits"] is not None
            test = getattr(item, "originalname", item.name)
            report.user_properties.append((PROPERTY, [_column(item), test, report.outcome, declared]))
        return report

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        for name, value in report.user_properties:
            if name == PROPERTY:
                column, test, outcome, declared = cast("list[Any]", value)
                self._runs[column].append(Run(test, outcome, declared))

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        table = self.table()
        terminalreporter.section("stores")
        terminalreporter.write_line(table)
        text = self.path.read_text()
        self.path.write_text(MARKERS.sub(lambda found: f"{found[1]}{table}\n{found[2]}", text))

    def table(self) -> str:
        columns = sorted(self._runs, key=lambda name: (name not in _FIRST_COLUMNS, name.lower()))
        rest = {run.test for runs in self._runs.values() for run in runs} - _NAMED
        features = [*FEATURES, Feature(THE_REST, always, tuple(rest))]
        rows = [[feature.name, *(cell(feature, self._runs[column]) for column in columns)] for feature in features]
        lines = [["", *columns], ["---"] * (len(columns) + 1), *rows]
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def cell(feature: Feature, runs: Iterable[Run]) -> str:
    """What the tests of one feature have shown of one store."""
    found = [run for run in runs if run.test in feature.tests]
    outcomes = [run.outcome for run in found]
    if "failed" in outcomes:
        return FAILED
    if "passed" not in outcomes:
        return NOT_RUN
    if not all(feature.is_declared(run.declared) for run in found if run.declared is not None):
        return REFUSED
    skipped = outcomes.count("skipped")
    return f"{PROVED} but for {skipped} of {len(found)}" if skipped else PROVED


def _column(item: pytest.Item) -> str:
    kind = getattr(item, "cls", None)
    if not isinstance(kind, type) or not issubclass(kind, ObjectStoreContract):
        return ""
    name: str = getattr(kind, "column", kind.__name__.removeprefix("Test"))
    parameters = item.callspec.params if hasattr(item, "callspec") else {}
    return name.format(store=parameters.get("store"))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--store-matrix", metavar="FILE", help="run the contract suites of stores, and write into it what they show"
    )


def pytest_configure(config: pytest.Config) -> None:
    name = config.getoption("--store-matrix")
    if name is None:
        return
    path = Path(name)
    if not hasattr(config, "workerinput") and MARKERS.search(path.read_text()) is None:
        msg = f"{path} has no place for the table: <!-- measured: stores --> and <!-- end -->, each on a line"
        raise pytest.UsageError(msg)
    config.pluginmanager.register(Matrix(path), "store-matrix")
