"""What web pages may do, said on every response."""

import pytest

from tests.http import OCTETS, Response
from tests.serving import RunningServer, StartServer

ORIGIN = ("Origin", "https://app.example")
PREFLIGHT = [
    ORIGIN,
    ("Access-Control-Request-Method", "PATCH"),
    ("Access-Control-Request-Headers", "content-type, tus-resumable, upload-offset"),
]


def names(response: Response, header: str) -> set[str]:
    (value,) = response.all(header)
    return {name.strip().lower() for name in value.split(",")}


async def test_case_03_a_preflight_is_told_of_all_methods_and_headers(server: RunningServer) -> None:
    upload = await server.client.create(5)
    for target in ("/files", "/files/", upload):
        response = await server.client.request("OPTIONS", target, PREFLIGHT, tus=False)
        assert response.status == 204
        assert response.all("access-control-allow-origin") == ["*"]
        assert names(response, "access-control-allow-methods") >= {"post", "head", "patch", "delete", "options"}
        assert names(response, "access-control-allow-headers") >= {
            "authorization",
            "content-type",
            "tus-resumable",
            "upload-checksum",
            "upload-concat",
            "upload-defer-length",
            "upload-length",
            "upload-metadata",
            "upload-offset",
            "x-http-method-override",
            "x-request-id",
            "x-requested-with",
        }
        assert int(response.headers["access-control-max-age"]) > 0


async def test_a_page_may_read_every_header_of_the_protocol(server: RunningServer) -> None:
    upload = await server.client.create(5, ("Upload-Metadata", "a YQ=="), ("Upload-Concat", "partial"))
    own = {"location", "retry-after", "rindle-error"}
    for response in (
        await server.client.request("POST", "/files", [ORIGIN, ("Upload-Length", "5")]),
        await server.client.request("HEAD", upload, [ORIGIN]),
        await server.client.patch(upload, 3, b"", ORIGIN),
        await server.client.request("OPTIONS", upload, [ORIGIN]),
        await server.client.request("DELETE", upload, [ORIGIN], tus=False),
    ):
        exposed = names(response, "access-control-expose-headers")
        needed = {name for name, _ in response.raw_headers if name in own or name.startswith(("upload-", "tus-"))}
        assert needed <= exposed


async def test_only_the_origins_that_are_named_may(start_server: StartServer) -> None:
    server = await start_server(cors_origins=["https://app.example", "https://b.example"], cors_credentials=True)
    created = await server.client.post(("Upload-Length", "5"), ORIGIN)
    assert created.all("access-control-allow-origin") == ["https://app.example"]
    assert created.all("access-control-allow-credentials") == ["true"]
    assert created.all("vary") == ["Origin"]
    for origin in ("https://app.example.evil.example", "https://APP.example", "http://app.example", "null", ""):
        for response in (
            await server.client.post(("Upload-Length", "5"), ("Origin", origin)),
            await server.client.request("OPTIONS", "/files", [("Origin", origin), *PREFLIGHT[1:]]),
        ):
            assert response.all("access-control-allow-origin") == [], origin
            assert response.all("access-control-allow-credentials") == [], origin
            assert response.all("vary") == ["Origin"]


async def test_cors_may_be_left_to_the_host(start_server: StartServer) -> None:
    server = await start_server(cors_origins="")
    response = await server.client.request("OPTIONS", "/files", PREFLIGHT)
    assert not [name for name, _ in response.raw_headers if name.startswith("access-control")]
    assert "vary" not in response.headers


@pytest.mark.parametrize("origins", ["*", "https://app.example"])
async def test_errors_carry_the_headers_too_and_once(start_server: StartServer, origins: str) -> None:
    server = await start_server(cors_origins=origins)
    upload = await server.client.create(5)
    for response in (
        await server.client.post(ORIGIN),
        await server.client.request("POST", "/files", [ORIGIN], tus=False),
        await server.client.request("HEAD", "/files/unknown", [ORIGIN]),
        await server.client.patch(upload, 3, b"x", ORIGIN),
        await server.client.request("PATCH", upload, [ORIGIN, ("Upload-Offset", "0")], b"x"),
        await server.client.request("GET", upload, [ORIGIN]),
        await server.client.request("POST", "/files", [ORIGIN, OCTETS, ("Upload-Length", "1")], b"xx"),
    ):
        assert response.status >= 400
        assert response.all("access-control-allow-origin") == [origins], response
        assert len(response.all("access-control-expose-headers")) == 1
