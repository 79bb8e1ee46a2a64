"""X-HTTP-Method-Override: for clients whose way lets no PATCH through."""

import pytest

from tests.http import OCTETS
from tests.serving import RunningServer


def override(method: str) -> tuple[str, str]:
    return ("X-HTTP-Method-Override", method)


async def assert_overridden(server: RunningServer, method: str) -> None:
    upload = await server.client.create(10)
    sent = [override("PATCH"), OCTETS, ("Upload-Offset", "0")]
    response = await server.client.request(method, upload, sent, b"hello")
    assert (response.status, response.offset) == (204, 5)
    response = await server.client.request(method, upload, [override("patch"), OCTETS, ("Upload-Offset", "3")], b"x")
    assert (response.status, response.offset) == (409, 5)
    response = await server.client.request(method, upload, [override("HEAD")])
    assert (response.status, response.offset, response.body) == (200, 5, b"")
    response = await server.client.request(method, upload, [override("DELETE")])
    assert response.status == 204
    assert (await server.client.head(upload)).status == 410
    response = await server.client.request(method, upload, [override("HEAD")])
    assert (response.status, response.body) == (410, b"")


async def test_case_50_a_post_is_what_its_override_says(server: RunningServer) -> None:
    await assert_overridden(server, "POST")


async def test_case_51_a_get_is_what_its_override_says(server: RunningServer) -> None:
    await assert_overridden(server, "GET")


@pytest.mark.parametrize("method", ["PUT", "DELETE", "OPTIONS"])
async def test_any_request_is_what_its_override_says(server: RunningServer, method: str) -> None:
    await assert_overridden(server, method)


async def test_an_override_may_make_a_creation(server: RunningServer) -> None:
    response = await server.client.request("PUT", "/files", [override("POST"), ("Upload-Length", "5")])
    assert response.status == 201


async def test_a_head_that_is_overridden_has_no_body_all_the_same(server: RunningServer) -> None:
    upload = await server.client.create(10)
    async with server.client.connect() as connection:
        for _ in range(2):
            sent = [("Tus-Resumable", "1.0.0"), override("PATCH"), OCTETS, ("Upload-Offset", "3")]
            await connection.send_head("HEAD", upload, sent)
            response = await connection.read_response(method="HEAD")
            assert (response.status, response.offset) == (409, 0)


async def test_an_override_that_no_resource_has_is_405(server: RunningServer) -> None:
    upload = await server.client.create(10)
    before = await server.state()
    for method in ("TRACE", "POST", "é", "PATCH, DELETE"):
        assert (await server.client.request("POST", upload, [override(method)])).status == 405, method
    assert (await server.client.request("POST", "/files", [override("PATCH")])).status == 405
    assert await server.state() == before
