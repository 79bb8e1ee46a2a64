"""Parts of a machine that some tests need and it may lack: PostgreSQL, nginx, HAProxy, emulators, Node.js, curl..."""

import os
from typing import NoReturn

import pytest

REQUIRED = frozenset(filter(None, os.environ.get("RINDLE_TEST_REQUIRE", "").split(",")))
"""Parts that must be there, by the environment's word; CI names all of them."""


def missing(part: str, message: str) -> NoReturn:
    """Skip the test, saying why; where the part is required, fail."""
    if part in REQUIRED:
        pytest.fail(f"{message} (RINDLE_TEST_REQUIRE names {part})", pytrace=False)
    pytest.skip(message)
