import pytest
from botocore.utils import parse_timestamp

from rindle.objectstore.s3.client import parse_instant


@pytest.mark.parametrize(
    "said",
    [
        "2026-11-21T18:16:06.123Z",
        "2026-11-21T18:16:06Z",
        "2026-11-21T18:16:06+01:00",
        "2026-11-21T18:16:06",
        "20261121T181606Z",
        "Sat, 21 Nov 2026 18:16:06 GMT",
        "Sat, 21 Nov 2026 18:16:06 -0000",
        "Saturday, November 21 2026 18:16:06 GMT",
        "1700000000",
        1700000000,
        1700000000.5,
    ],
)
def test_instants_are_those_that_the_sdk_reads(said: str | float) -> None:
    assert parse_instant(said) == parse_timestamp(said)


def test_what_is_no_instant_is_none_of_ours_either() -> None:
    with pytest.raises(ValueError, match="never"):
        parse_instant("never")
