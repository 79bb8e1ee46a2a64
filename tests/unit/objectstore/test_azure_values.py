import re
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rindle.objectstore.azure.journal import journal_of, new_block, new_ref, read_parts, ref_of, spell_part
from rindle.objectstore.azure.reading import meta_of, request_headers
from rindle.objectstore.azure.values import (
    attribute_headers,
    attributes_of,
    check_name,
    read_name,
    spell_checksum,
    spell_name,
    tag_headers,
)
from rindle.objectstore.errors import InvalidKeyError, MultipartNotFoundError
from rindle.objectstore.payload import crc64nvme
from rindle.objectstore.types import Attributes, ByteRange, GetOptions, MultipartRef, PartMeta

IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)


@given(st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_categories=["Lu"]), min_size=1))
def test_any_name_of_metadata_becomes_an_identifier_and_comes_back(name: str) -> None:
    assert IDENTIFIER.fullmatch(spell_name(name))
    assert read_name(spell_name(name)) == name


@pytest.mark.parametrize("name", ["to_be", "created_by", "hdi_isfolder", "a_", "_2", "_zz", "a_61"])
def test_the_names_of_others_stay_as_they_are(name: str) -> None:
    assert read_name(name) == name


def test_no_name_is_the_writers_mark() -> None:
    marked = attribute_headers(Attributes(metadata={"rindle_writer": "mine"}), writer="ours")
    assert marked["x-ms-meta-rindle_writer"] == "ours"
    assert attributes_of(marked).metadata == {"rindle_writer": "mine"}


def test_attributes_come_back_from_headers_however_they_are_written() -> None:
    attributes = Attributes(content_type="text/plain", cache_control="no-store", metadata={"a-b": "ü", "c": "d"})
    sent = attribute_headers(attributes)
    answered = {name.removeprefix("x-ms-blob-").title(): value for name, value in sent.items()}
    assert attributes_of(answered) == attributes


def test_an_object_without_a_content_type_has_none() -> None:
    assert attribute_headers(Attributes())["x-ms-blob-content-type"] == "binary/octet-stream"
    assert attributes_of({"Content-Type": "binary/octet-stream"}) == Attributes()


def test_tags_are_a_query() -> None:
    assert tag_headers({"a b": "c&d", "e": ""}) == {"x-ms-tags": "a%20b=c%26d&e="}
    assert tag_headers({}) == {}


def test_a_checksum_has_its_least_byte_first() -> None:
    assert crc64nvme(b"123456789") == 0xAE8B14860A799888
    assert spell_checksum(crc64nvme(b"123456789")) == "iJh5CoYUi64="


@pytest.mark.parametrize("key", ["a\\b", "a.", "a./b", "a...", ".rindle/x", ".rindle"])
def test_keys_that_the_service_would_take_for_others_are_refused(key: str) -> None:
    with pytest.raises(InvalidKeyError):
        check_name(key)


@pytest.mark.parametrize("key", [".rindled", "a/.rindle/b", "..a", "a.b", ".a"])
def test_other_keys_are_not(key: str) -> None:
    check_name(key)


class TestJournal:
    def test_it_lies_under_its_multiparts_key(self) -> None:
        ref = new_ref("a/b c", root="prefix/")
        journal = journal_of(ref, root="prefix/")
        assert journal == f".rindle/multiparts/prefix/a/b c/{ref.multipart_id}"
        assert ref_of(journal, root="prefix/") == ref

    @pytest.mark.parametrize("multipart_id", ["", "x", "0" * 31, "0" * 33, "../../x", "é" * 32, "A" * 32])
    def test_what_is_no_id_has_none(self, multipart_id: str) -> None:
        with pytest.raises(MultipartNotFoundError):
            journal_of(MultipartRef("key", multipart_id), root="")

    @pytest.mark.parametrize("name", ["", "x", "0" * 32, f".rindle/multiparts/{'0' * 32}", ".rindle/multiparts/a/b"])
    def test_what_is_none_has_no_ref(self, name: str) -> None:
        assert ref_of(name, root="") is None

    def test_a_key_must_leave_room_for_its_name(self) -> None:
        room = 1024 - len("prefix/.rindle/multiparts//") - 32
        new_ref("k" * room, root="prefix/")
        with pytest.raises(InvalidKeyError, match="by 3 characters"):
            new_ref("k" * (room + 3), root="prefix/")

    def test_blocks_are_of_one_length_and_one_attempt(self) -> None:
        blocks = [new_block(number) for number in (1, 1, 10_000)]
        assert {len(block) for block in blocks} == {38}
        assert len(set(blocks)) == 3

    def test_the_last_attempt_at_a_part_counts(self) -> None:
        attempts = [
            PartMeta(part_number=number, size=size, e_tag=new_block(number), crc64nvme=crc)
            for number, size, crc in ((7, 1, 0), (1, 2, 2**64 - 1), (7, 3, None), (7, 3, 5))
        ]
        parts = read_parts(b"".join(map(spell_part, attempts)))
        assert list(parts.items()) == [(1, attempts[1]), (7, attempts[3])]

    def test_a_line_that_was_written_twice_is_one(self) -> None:
        part = PartMeta(part_number=1, size=1, e_tag=new_block(1))
        assert read_parts(spell_part(part) * 2) == {1: part}


class TestReading:
    def test_what_is_asked(self) -> None:
        assert request_headers(GetOptions(range=ByteRange(2, 5))) == {"x-ms-range": "bytes=2-4"}
        assert request_headers(GetOptions(if_none_match="x")) == {"If-None-Match": '"x"'}
        assert request_headers(GetOptions(if_none_match='"x", "y"')) == {}
        assert request_headers(GetOptions(if_none_match="x", if_match="y")) == {}

    def test_what_is_answered(self) -> None:
        headers = {"Content-Length": "3", "Last-Modified": "Sat, 21 Nov 2026 18:19:51 GMT", "ETag": '"0x1"'}
        meta = meta_of("key", {**headers, "x-ms-version-id": "v"}, versions=True)
        instant = datetime(2026, 11, 21, 18, 19, 51, tzinfo=UTC)
        assert (meta.size, meta.last_modified, meta.e_tag, meta.version) == (3, instant, "0x1", "v")
        assert meta_of("key", {**headers, "Content-Range": "bytes 2-4/10"}, versions=False).size == 10
