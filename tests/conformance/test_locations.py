"""Location: where a client finds the upload again, whatever stands between."""

import pytest

from tests.http import TUS, Response, id_of
from tests.serving import RunningServer, StartServer


async def create(server: RunningServer, *headers: tuple[str, str]) -> Response:
    return await server.client.post(("Upload-Length", "5"), *headers)


FORWARDED = [
    ("X-Forwarded-Proto", "https"),
    ("X-Forwarded-Host", "up.example"),
    ("X-Forwarded-Prefix", "/api"),
    ("Forwarded", 'proto=https;host="up.example"'),
]


async def test_case_16_a_location_is_a_path_that_resolves_behind_any_proxy(server: RunningServer) -> None:
    response = await create(server, *FORWARDED)
    assert response.location.startswith("/files/")
    assert (await server.client.head(response.location)).status == 200
    slashed = await server.client.request("POST", "/files/", [("Upload-Length", "5")])
    assert slashed.location.startswith("/files/")
    assert (await server.client.head(slashed.location)).status == 200


async def test_case_16_an_absolute_location_has_the_host_that_was_asked(start_server: StartServer) -> None:
    server = await start_server(location="absolute")
    for host, expected in (
        ("test.example", "test.example"),
        ("test.example:80", "test.example"),
        ("test.example:8080", "test.example:8080"),
        ("[2001:db8::1]:8080", "[2001:db8::1]:8080"),
    ):
        response = await create(server, ("Host", host), *FORWARDED)
        assert response.location.startswith(f"http://{expected}/files/"), host
        assert (await server.client.head(f"/files/{id_of(response.location)}")).status == 200


@pytest.mark.parametrize(
    ("headers", "collection"),
    [
        ([("X-Forwarded-Proto", "https")], "https://test.example/files"),
        ([("X-Forwarded-Proto", "https, http")], "https://test.example/files"),
        ([("X-Forwarded-Host", "up.example")], "http://up.example/files"),
        ([("X-Forwarded-Host", "up.example:8443, inner")], "http://up.example:8443/files"),
        ([("X-Forwarded-Prefix", "/api/v1")], "http://test.example/api/v1/files"),
        ([("X-Forwarded-Prefix", "/api/")], "http://test.example/api/files"),
        (FORWARDED[:3], "https://up.example/api/files"),
        ([("X-Forwarded-Proto", "https"), ("X-Forwarded-Host", "up.example:443")], "https://up.example/files"),
        ([("Forwarded", "for=192.0.2.60;proto=https;host=up.example")], "https://up.example/files"),
        ([("Forwarded", 'for="[2001:db8::1]:4711";Proto=HTTPS;Host="up.example:8443"')], "https://up.example:8443/files"),
        ([("Forwarded", 'host="up.example:443";proto=https, for=10.0.0.1')], "https://up.example/files"),
        ([("Forwarded", 'host="[2001:db8::1]:8443" ; proto=https')], "https://[2001:db8::1]:8443/files"),
        ([("Forwarded", "proto=https"), ("X-Forwarded-Proto", "http")], "https://test.example/files"),
    ],
)  # fmt: skip
async def test_case_16_a_trusted_proxy_says_how_it_was_asked(
    start_server: StartServer, headers: list[tuple[str, str]], collection: str
) -> None:
    server = await start_server(location="absolute", trust_forwarded=True)
    response = await create(server, *headers)
    assert response.location == f"{collection}/{id_of(response.location)}"
    assert (await server.client.head(f"/files/{id_of(response.location)}")).status == 200


async def test_case_16_a_trusted_prefix_is_part_of_a_relative_location(start_server: StartServer) -> None:
    server = await start_server(trust_forwarded=True)
    response = await create(server, *FORWARDED)
    assert response.location.startswith("/api/files/")
    assert (await server.client.head(response.location.removeprefix("/api"))).status == 200


async def test_what_no_proxy_says_is_not_believed(start_server: StartServer) -> None:
    server = await start_server(location="absolute", trust_forwarded=True)
    for header in (
        ("X-Forwarded-Proto", "javascript"),
        ("X-Forwarded-Proto", ""),
        ("X-Forwarded-Host", "up.example/evil"),
        ("X-Forwarded-Host", "user@up.example"),
        ("X-Forwarded-Host", ""),
        ("X-Forwarded-Prefix", "//evil.example"),
        ("X-Forwarded-Prefix", "/a b"),
        ("X-Forwarded-Prefix", "https://evil.example"),
        ("X-Forwarded-Prefix", "/"),
        ("Forwarded", "host=up.example/evil"),
        ("Forwarded", ";;=;"),
    ):
        response = await create(server, header)
        assert response.location.startswith("http://test.example/files/"), header


async def test_the_public_url_wins_over_everything(start_server: StartServer) -> None:
    server = await start_server(public_url="https://up.example/here/", location="absolute", trust_forwarded=True)
    response = await create(server, *FORWARDED[:2], ("X-Forwarded-Host", "evil.example"))
    assert response.location == f"https://up.example/here/{id_of(response.location)}"


async def test_a_host_that_is_no_host_is_never_repeated(start_server: StartServer) -> None:
    server = await start_server(location="absolute")
    port = server.client.port
    for host in ("evil.example/path", "user@evil.example", "a b", ""):
        response = await create(server, ("Host", host))
        assert response.location.startswith(f"http://127.0.0.1:{port}/files/"), host


async def test_two_hosts_are_400_and_nothing_is_created(start_server: StartServer) -> None:
    server = await start_server(location="absolute")
    before = await server.state()
    async with server.client.connect() as connection:
        sent = [TUS, ("Host", "one.example"), ("Host", "two.example"), ("Upload-Length", "5")]
        await connection.send_head("POST", "/files", sent)
        response = await connection.read_response()
    assert response.status == 400
    assert await server.state() == before
