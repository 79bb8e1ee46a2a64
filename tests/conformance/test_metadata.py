"""Upload-Metadata: kept as it came, or refused."""

import base64
import re

import pytest

from tests.serving import RunningServer


def encode(value: str) -> str:
    return base64.b64encode(value.encode()).decode()


@pytest.mark.parametrize(
    "metadata",
    [
        "a YQ==,b",
        "filename d29ybGRfZG9taW5hdGlvbl9wbGFuLnBkZg==,is_confidential",
        "b,a YQ==",
        "a ,b Yg==",
        "!#$%&'*+-.^_`|~() YQ==",
    ],
)
async def test_case_17_metadata_comes_back_byte_by_byte(server: RunningServer, metadata: str) -> None:
    upload = await server.client.create(5, ("Upload-Metadata", metadata))
    assert (await server.client.head(upload)).headers["upload-metadata"] == metadata
    await server.client.patch(upload, 0, b"hello")
    assert (await server.client.head(upload)).headers["upload-metadata"] == metadata


async def test_an_upload_without_metadata_has_none(server: RunningServer) -> None:
    for upload in (await server.client.create(5), await server.client.create(5, ("Upload-Metadata", ""))):
        assert "upload-metadata" not in (await server.client.head(upload)).headers


async def refuse(server: RunningServer, *values: str, status: int) -> None:
    before = await server.state()
    for value in values:
        response = await server.client.post(("Upload-Length", "5"), ("Upload-Metadata", value))
        assert response.status == status, value
    assert await server.state() == before


async def test_case_18_what_is_not_base64_is_400(server: RunningServer) -> None:
    await refuse(server, "a YQ", "a Y*Q=", "a YR==", "a YQ==YQ==", "a YQ== YQ==", "a é", "a _-==", "a =", status=400)


async def test_case_19_a_key_that_comes_twice_is_400(server: RunningServer) -> None:
    await refuse(server, "a YQ==,a Yg==", "a YQ==,b,a", "a,a", status=400)


async def test_case_20_empty_keys_and_spaces_that_do_not_belong_are_400(server: RunningServer) -> None:
    await refuse(
        server, "a YQ==, b Yg==", "a  YQ==", ",a YQ==", "a YQ==,", "a YQ==,,b", ",", "a\tYQ==", "é YQ==", status=400
    )


@pytest.mark.invariant("I18", "I19")
async def test_case_21_text_of_any_script_comes_back_and_never_names_the_object(server: RunningServer) -> None:
    name = encode("../../Ünïcode 名前\r\n\0.txt")
    metadata = f"filename {name}"
    upload = await server.client.create(5, ("Upload-Metadata", metadata))
    await server.client.patch(upload, 0, b"hello")
    assert (await server.client.head(upload)).headers["upload-metadata"] == metadata
    row = await server.find(upload)
    assert row.key is not None
    assert re.fullmatch(f"uploads/{row.id}/[0-9a-f]{{16}}", row.key)
    found = await server.parts.store.get(row.key)
    await found.aclose()
    assert dict(found.attributes.metadata) == {"rindle-upload": row.id}


async def test_case_22_metadata_of_9_kib_is_431(server: RunningServer) -> None:
    await refuse(server, f"a {encode('x' * 6900)}", status=431)
    full = f"a {encode('x' * 6141)}"
    assert len(full) <= 8192
    upload = await server.client.create(5, ("Upload-Metadata", full))
    assert (await server.client.head(upload)).headers["upload-metadata"] == full
