"""The assertions of the public suites explain themselves here, as those of any test do."""

import pytest

pytest.register_assert_rewrite("rindle.testing")
