"""What a bucket may be called."""

import re
from collections.abc import Iterator

from rindle.buckets.errors import InvalidBucketNameError

_SHORTEST, _LONGEST = 3, 63
_IS_IP_ADDRESS = re.compile(r"\d+\.\d+\.\d+\.\d+", re.ASCII)
_STRANGE = re.compile(r"[^a-z0-9.-]")
_RESERVED_STARTS = ("xn--", "sthree-", "amzn-s3-demo-")
_RESERVED_ENDS = ("-s3alias", "--ol-s3", ".mrap", "--x-s3", "--table-s3")


def validate_bucket_name(name: str) -> str:
    """The name; InvalidBucketNameError says which of S3's rules it breaks.

    The rules are those for new general purpose buckets:
    https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html
    """
    for problem in _problems(name):
        msg = f"a bucket cannot be called {name!r}: {problem}"
        raise InvalidBucketNameError(msg)
    return name


def _problems(name: str) -> Iterator[str]:
    if not _SHORTEST <= len(name) <= _LONGEST:
        yield f"a name has {_SHORTEST} to {_LONGEST} characters, not {len(name)}"
    if strange := _STRANGE.search(name):
        yield f"a name consists of lower-case letters, digits, dots and hyphens, without {strange[0]!r}"
    if name.strip(".-") != name:
        yield "a name begins and ends with a letter or a digit"
    if ".." in name:
        yield "a name has no two dots in a row"
    if _IS_IP_ADDRESS.fullmatch(name):
        yield "a name does not look like an IP address"
    yield from (f"names that begin with {start} are reserved" for start in _RESERVED_STARTS if name.startswith(start))
    yield from (f"names that end with {end} are reserved" for end in _RESERVED_ENDS if name.endswith(end))
