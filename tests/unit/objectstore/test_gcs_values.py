from datetime import UTC, datetime
from typing import cast

import pytest
from aiohttp.abc import AbstractStreamWriter

from rindle.objectstore.errors import IntegrityError
from rindle.objectstore.gcs.bodies import ObjectBody, PartBody, checksum
from rindle.objectstore.gcs.values import (
    attributes_of,
    checksum_of,
    headers_of,
    listed_meta,
    meta_of,
    metadata_of,
    read_tags,
    resource_of,
    spell_checksum,
    spell_tags,
)
from rindle.objectstore.payload import BytesPayload, Payload
from rindle.objectstore.transfer import RequestBody
from rindle.objectstore.types import Attributes
from rindle.testing.payloads import FailingPayload, MislabelledPayload, SourceFailedError

ATTRIBUTES = Attributes(content_type="text/plain", cache_control="no-store", metadata={"a": "ü", "c": "d"})
TAGS = {"kind": "test", "ö": "ä"}
# RFC 3720, B.4: CRC-32C of 32 bytes of zeroes.
ZEROES, CRC32C_OF_ZEROES = bytes(32), 0x8A9136AA


def test_attributes_come_back_however_they_are_written() -> None:
    resource = resource_of(ATTRIBUTES, TAGS, writer="somebody")
    names = {"contentType": "Content-Type", "cacheControl": "Cache-Control"}
    by_json = {names[name]: value for name, value in resource.items() if name != "metadata"}
    by_json |= {f"X-Goog-Meta-{name.title()}": value for name, value in resource["metadata"].items()}
    for headers in (by_json, headers_of(ATTRIBUTES, TAGS)):
        assert attributes_of(headers) == ATTRIBUTES
        assert read_tags(metadata_of(headers)["rindle-tags"]) == TAGS


def test_an_object_without_a_content_type_has_none() -> None:
    assert resource_of(Attributes(), {}) == {"contentType": "binary/octet-stream", "metadata": {}}
    assert headers_of(Attributes(), {}) == {"Content-Type": "binary/octet-stream"}
    assert attributes_of({"content-type": "binary/octet-stream"}.copy()) == Attributes(content_type=None)


@pytest.mark.parametrize("text", [None, "", "no JSON", "[1]", '"text"', "null"])
def test_what_are_no_tags_is_none(text: str | None) -> None:
    assert read_tags(text) == {}
    assert read_tags(spell_tags({})) == {}


def test_a_checksum_has_its_greatest_byte_first() -> None:
    assert spell_checksum(CRC32C_OF_ZEROES) == "ipE2qg=="
    for spelt in ("crc32c=ipE2qg==,md5=x==", "md5=x==, crc32c=ipE2qg=="):
        assert checksum_of({"x-goog-hash": spelt}) == CRC32C_OF_ZEROES
    for spelt in ("", "md5=x==", "crc32c=!"):
        assert checksum_of({"x-goog-hash": spelt}) is None


def test_an_object_is_its_generation() -> None:
    headers = {
        "x-goog-generation": "17",
        "x-goog-stored-content-length": "3",
        "Last-Modified": "Sat, 21 Nov 2026 18:19:51 GMT",
    }
    instant = datetime(2026, 11, 21, 18, 19, 51, tzinfo=UTC)
    meta = meta_of("key", headers, versions=True)
    assert (meta.size, meta.last_modified, meta.e_tag, meta.version) == (3, instant, "17", "17")
    assert meta_of("key", headers, versions=False).version is None
    listed = listed_meta("key", {"size": "3", "updated": "2026-11-21T19:19:51+01:00", "generation": "17"})
    assert (listed.size, listed.last_modified, listed.e_tag) == (3, instant, "17")


class Wire:
    def __init__(self) -> None:
        self.written = b""

    async def write(self, chunk: bytes) -> None:
        self.written += chunk


async def sent(body: RequestBody) -> bytes:
    wire = Wire()
    try:
        await body.write(cast(AbstractStreamWriter, wire))
    finally:
        assert len(wire.written) <= len(body)
    assert len(wire.written) == len(body) == body.size
    return wire.written


def object_body(payload: Payload) -> ObjectBody:
    return ObjectBody({"contentType": "a/b", "name": "é"}, payload, boundary="bound", key="key", patience=60)


async def test_an_object_is_sent_with_what_is_to_be_known_of_it() -> None:
    body = object_body(BytesPayload(b"some ", b"bytes"))
    expected = (
        b'--bound\r\nContent-Type: application/json; charset=UTF-8\r\n\r\n{"contentType": "a/b", "name": "\\u00e9"}\r\n'
        b"--bound\r\nContent-Type: a/b\r\n\r\nsome bytes\r\n--bound--\r\n"
    )
    for _ in range(2):
        assert await sent(body) == expected
    assert b"\r\n\r\n\r\n--bound--" in await sent(object_body(BytesPayload()))


async def test_an_object_whose_payload_fails_is_never_whole() -> None:
    for payload, error in (
        (FailingPayload(b"x"), SourceFailedError),
        (MislabelledPayload(b"x", size=2), IntegrityError),
    ):
        with pytest.raises(error):
            await sent(object_body(payload))


async def test_the_checksum_of_a_part_is_made_while_it_is_sent() -> None:
    body = PartBody(BytesPayload(ZEROES[:10], ZEROES[10:]), key="key", patience=60)
    for _ in range(2):
        assert await sent(body) == ZEROES
        assert body.crc32c == CRC32C_OF_ZEROES
    with pytest.raises(IntegrityError):
        await sent(PartBody(BytesPayload(ZEROES, crc64nvme=1), key="key", patience=60))


async def test_a_payload_is_checked_while_its_checksum_is_made() -> None:
    assert await checksum(BytesPayload(ZEROES[:10], ZEROES[10:]), key="key") == CRC32C_OF_ZEROES
    for wrong in (BytesPayload(ZEROES, crc64nvme=1), MislabelledPayload(ZEROES, size=31)):
        with pytest.raises(IntegrityError):
            await checksum(wrong, key="key")
