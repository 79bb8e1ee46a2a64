import hashlib
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rindle.objectstore.payload import crc64nvme
from rindle.uploads.checksum import CHECKSUM_ALGORITHMS, Checksum

# The published check values for the ASCII digits 1 to 9 (CRC-32/ISO-HDLC, CRC-32C, CRC-64/NVME).
DIGITS = b"123456789"
EXPECTED = {
    "sha1": hashlib.sha1(DIGITS).digest(),
    "sha256": hashlib.sha256(DIGITS).digest(),
    "sha512": hashlib.sha512(DIGITS).digest(),
    "md5": hashlib.md5(DIGITS).digest(),
    "crc32": bytes.fromhex("cbf43926"),
    "crc32c": bytes.fromhex("e3069283"),
}


@pytest.mark.parametrize("algorithm", CHECKSUM_ALGORITHMS)
def test_every_algorithm_knows_its_own_digest_in_any_pieces_and_no_other(algorithm: str) -> None:
    right = Checksum(algorithm, EXPECTED[algorithm]).verifier()
    for piece in (DIGITS[:1], DIGITS[1:7], b"", DIGITS[7:]):
        right.update(piece)
    assert right.matches()
    right.update(b"0")
    assert not right.matches()


@pytest.mark.parametrize(
    ("algorithm", "value"), [("sha3", b"x" * 32), ("sha1", b"short"), ("crc32", b"x" * 8), ("", b"")]
)
def test_what_no_digest_can_be_is_refused(algorithm: str, value: bytes) -> None:
    with pytest.raises(ValueError, match=r"checksum"):
        Checksum(algorithm, value)


def test_our_rolling_crc_is_crc64nvme() -> None:
    assert crc64nvme(DIGITS) == 0xAE8B14860A799888


@given(st.binary(max_size=200), st.integers(0, 200))
def test_crcs_run_on_from_where_they_were(data: bytes, cut: int) -> None:
    assert crc64nvme(data[cut:], crc64nvme(data[:cut])) == crc64nvme(data)
    verifier = Checksum("crc32", zlib.crc32(data).to_bytes(4, "big")).verifier()
    verifier.update(data[:cut])
    verifier.update(data[cut:])
    assert verifier.matches()
