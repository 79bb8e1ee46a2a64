import pytest

from rindle.buckets.errors import InvalidBucketNameError
from rindle.buckets.names import validate_bucket_name


@pytest.mark.parametrize("name", ["abc", "a" * 63, "my-bucket.example.org", "1-2", "a--b", "192.168.5", "a.-b"])
def test_names(name: str) -> None:
    assert validate_bucket_name(name) == name


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("", "3 to 63 characters, not 0"),
        ("ab", "3 to 63 characters, not 2"),
        ("a" * 64, "3 to 63 characters, not 64"),
        ("Bucket", "without 'B'"),
        ("my_bucket", "without '_'"),
        ("my bucket", "without ' '"),
        ("bücket", "without 'ü'"),
        ("abc\n", r"without '\n'"),
        ("bucket/*", "without '/'"),
        ("arn:aws:s3:::x", "without ':'"),
        ("-abc", "begins and ends"),
        ("abc.", "begins and ends"),
        ("a..b", "no two dots"),
        ("192.168.5.4", "IP address"),
        ("xn--abc", "begin with xn-- are reserved"),
        ("sthree-abc", "begin with sthree- are reserved"),
        ("amzn-s3-demo-abc", "begin with amzn-s3-demo- are reserved"),
        ("abc-s3alias", "end with -s3alias are reserved"),
        ("abc--ol-s3", "end with --ol-s3 are reserved"),
        ("abc.mrap", "end with .mrap are reserved"),
        ("abc--x-s3", "end with --x-s3 are reserved"),
        ("abc--table-s3", "end with --table-s3 are reserved"),
    ],
)
def test_what_no_bucket_is_called(name: str, said: str) -> None:
    with pytest.raises(InvalidBucketNameError) as caught:
        validate_bucket_name(name)
    assert str(caught.value).startswith(f"a bucket cannot be called {name!r}: ")
    assert said in str(caught.value)
