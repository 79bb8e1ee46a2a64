"""What a server says of itself, and which version of the protocol it takes."""

import pytest

from tests.http import OCTETS, TUS, Response
from tests.serving import RunningServer, StartServer


def assert_discovered(response: Response) -> None:
    assert response.status == 204
    assert response.headers["tus-resumable"] == "1.0.0"
    assert response.headers["tus-version"] == "1.0.0"
    assert response.headers["tus-max-size"] == str(5 << 40)
    assert "sha1" in response.headers["tus-checksum-algorithm"].split(",")
    assert set(response.headers["tus-extension"].split(",")) == {
        "creation",
        "creation-with-upload",
        "creation-defer-length",
        "termination",
        "checksum",
        "concatenation",
        "expiration",
    }


async def test_case_01_options_names_versions_extensions_limits_and_algorithms(server: RunningServer) -> None:
    assert_discovered(await server.client.request("OPTIONS", "/files", tus=False))
    upload = await server.client.create(1)
    for target in ("/files/", upload, "/files/unknown"):
        assert_discovered(await server.client.request("OPTIONS", target, tus=False))


async def test_case_02_options_takes_no_notice_of_the_version_that_is_asked_for(server: RunningServer) -> None:
    assert_discovered(await server.client.request("OPTIONS", "/files", [("Tus-Resumable", "9")], tus=False))


async def test_extensions_that_are_switched_off_are_not_named(start_server: StartServer) -> None:
    server = await start_server(expires_in="never", max_size=1000)
    response = await server.client.request("OPTIONS", "/files", tus=False)
    assert "expiration" not in response.headers["tus-extension"]
    assert response.headers["tus-max-size"] == "1000"
    created = await server.client.post(("Upload-Length", "5"))
    assert "upload-expires" not in created.headers


async def assert_version_refused(server: RunningServer, *version: tuple[str, str]) -> None:
    before = await server.state()
    response = await server.client.request("POST", "/files", [*version, ("Upload-Length", "5")], tus=False)
    assert response.status == 412
    assert response.headers["tus-version"] == "1.0.0"
    assert response.headers["tus-resumable"] == "1.0.0"
    assert response.code == "unsupported_version"
    assert await server.state() == before


async def test_case_04_post_without_a_version_is_412_and_creates_nothing(server: RunningServer) -> None:
    await assert_version_refused(server)


@pytest.mark.parametrize("version", ["0.2.2", "1.0", "1.0.1", "2.0.0", ""])
async def test_case_05_post_of_another_version_is_412_and_creates_nothing(server: RunningServer, version: str) -> None:
    await assert_version_refused(server, ("Tus-Resumable", version))


async def test_case_06_head_needs_no_version(server: RunningServer) -> None:
    upload = await server.client.create(5)
    response = await server.client.request("HEAD", upload, tus=False)
    assert response.status == 200
    assert response.offset == 0


async def test_case_36_patch_of_another_version_is_412_and_stores_no_bytes(server: RunningServer) -> None:
    upload = await server.client.create(10)
    before = await server.state()
    for version in ([], [("Tus-Resumable", "0.2.2")], [("Tus-Resumable", "2.0.0")]):
        sent = [*version, OCTETS, ("Upload-Offset", "0")]
        response = await server.client.request("PATCH", upload, sent, b"hello", tus=False)
        assert response.status == 412, version
        assert response.headers["tus-version"] == "1.0.0"
    assert await server.state() == before


async def test_every_response_names_the_version_and_forbids_sniffing(server: RunningServer) -> None:
    upload = await server.client.create(10)
    for response in (
        await server.client.post(("Upload-Length", "1")),
        await server.client.head(upload),
        await server.client.patch(upload, 0, b"hello"),
        await server.client.patch(upload, 0, b"hello"),
        await server.client.request("GET", upload),
        await server.client.request("PUT", "/files"),
        await server.client.delete(upload),
        await server.client.head(upload),
    ):
        assert response.all("tus-resumable") == [TUS[1]], response
        assert response.all("x-content-type-options") == ["nosniff"], response


async def test_a_method_that_a_resource_does_not_have_is_405_and_the_others_are_named(server: RunningServer) -> None:
    upload = await server.client.create(10)
    before = await server.state()
    for method, target, allowed in (
        ("GET", "/files", {"OPTIONS", "POST"}),
        ("HEAD", "/files", {"OPTIONS", "POST"}),
        ("DELETE", "/files", {"OPTIONS", "POST"}),
        ("PATCH", "/files/", {"OPTIONS", "POST"}),
        ("POST", upload, {"OPTIONS", "HEAD", "PATCH", "DELETE"}),
        ("PUT", upload, {"OPTIONS", "HEAD", "PATCH", "DELETE"}),
    ):
        response = await server.client.request(method, target)
        assert response.status == 405, (method, target)
        assert set(response.headers["allow"].split(", ")) == allowed
    assert await server.state() == before
