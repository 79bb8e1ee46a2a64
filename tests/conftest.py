"""Fixtures for all tests."""

import os
import signal
from collections.abc import Iterator

import pytest

import tests.required  # noqa: F401 - it reads the environment before this hides it

# Before anything reads settings: what the developer has set must not decide how tests end.
for _name in [name for name in os.environ if name.startswith("RINDLE_")]:
    if _name != "RINDLE_TEST_REQUIRE":
        del os.environ[_name]

# A shell that runs tests in the background lets them ignore ctrl-C, and all processes that they start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# The assertions of the public suites explain themselves here, as those of any test do. Before anything imports them.
pytest.register_assert_rewrite("rindle.testing")

pytest_plugins = [
    "tests.azure",
    "tests.databases",
    "tests.gcs",
    "tests.matrix",
    "tests.s3",
    "tests.serving",
    "tests.stores",
]


@pytest.fixture(scope="session", autouse=True)
def environment_without_settings() -> Iterator[None]:
    """Hide what only the tests themselves read. Not earlier: the workers of pytest-xdist inherit it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("RINDLE_TEST_REQUIRE", raising=False)
        yield
