"""A request that will be refused is refused before its body is asked for, and says why in one way."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import Message

from rindle.protocols.errors import NotAuthenticatedError, NotPermittedError
from tests.http import CHUNKED, OCTETS, TUS, Response, encode_chunk
from tests.serving import RunningServer, StartServer

MIB = 1 << 20


@dataclass(frozen=True)
class Refusal:
    status: int
    code: str
    method: str
    target: str
    headers: tuple[tuple[str, str], ...] = ()
    tus: bool = True
    for_length: bool = False
    """Whether it is the announced length of the body that is wrong."""

    @property
    def sent(self) -> list[tuple[str, str]]:
        return [*([TUS] if self.tus else []), *self.headers]


async def check_user(request: Request) -> str:
    match request.headers.get("x-user", ""):
        case "nobody":
            raise NotAuthenticatedError
        case "banned":
            raise NotPermittedError
        case "stranger":
            raise HTTPException(401, "Who are you?", headers={"WWW-Authenticate": 'Basic realm="x"'})
        case "child":
            raise HTTPException(403, "Not for you.")
        case "trouble":
            msg = "the key ring /etc/keys on host db.internal is gone"
            raise LookupError(msg)
        case name:
            return name


@pytest.fixture
async def server(start_server: StartServer) -> RunningServer:
    return await start_server(authorize=check_user, max_size=1000, part_size=500)


def offset(number: object) -> tuple[str, str]:
    return ("Upload-Offset", str(number))


def length(number: object) -> tuple[str, str]:
    return ("Upload-Length", str(number))


@dataclass(frozen=True)
class Uploads:
    """One upload in each of the conditions that get in the way."""

    part: str
    final: str
    active: str
    short: str
    complete: str
    gone: str
    finalizing: str
    elsewhere: str


async def prepare(server: RunningServer) -> Uploads:
    client = server.client
    part = await client.create(5, ("Upload-Concat", "partial"), body=b"hello")
    uploads = Uploads(
        part=part,
        final=(await client.post(("Upload-Concat", f"final;{part}"))).location,
        active=await client.create(10, body=b"he"),
        short=await client.create(6, body=b"he"),
        complete=await client.create(5, body=b"hello"),
        gone=await client.create(10),
        finalizing=await client.create(10),
        elsewhere=await client.create(10, body=b"he"),
    )
    await client.delete(uploads.gone)
    await server.change_row(
        uploads.finalizing,
        "state = 'finalizing', upload_offset = 10, lease_token = 'token', lease_holder = 'other/x', "
        "lease_until = '9999-01-01T00:00:00.000Z'",
    )
    await server.change_row(uploads.elsewhere, "tail_node = 'other'")
    return uploads


async def refusals(server: RunningServer) -> AsyncIterator[Refusal]:
    """One for each way to be refused; every one of them announces a body of five bytes."""
    made = await prepare(server)
    upload, complete, finalizing = made.active, made.complete, made.finalizing

    def patch(status: int, code: str, target: str, *headers: tuple[str, str], **more: bool) -> Refusal:
        return Refusal(status, code, "PATCH", target, headers, **more)

    def post(status: int, code: str, *headers: tuple[str, str], **more: bool) -> Refusal:
        return Refusal(status, code, "POST", "/files", headers, **more)

    yield patch(400, "malformed_header", upload, OCTETS, offset("x"))
    yield patch(400, "malformed_header", upload, OCTETS, offset(2), offset(2))
    yield patch(400, "malformed_header", upload, OCTETS, offset(2), ("Upload-Checksum", "sha1"))
    yield patch(400, "length_mismatch", upload, OCTETS, offset(2), length(11))
    yield post(400, "malformed_request", OCTETS)
    yield post(400, "malformed_header", OCTETS, length(5), ("Upload-Metadata", "a  b"))
    yield post(401, "not_authenticated", OCTETS, length(5), ("X-User", "nobody"))
    yield patch(401, "not_authenticated", upload, OCTETS, offset(2), ("X-User", "nobody"))
    yield Refusal(401, "not_authenticated", "DELETE", upload, (("X-User", "nobody"),))
    yield patch(403, "not_permitted", upload, OCTETS, offset(2), ("X-User", "banned"))
    yield post(401, "not_authenticated", OCTETS, length(5), ("X-User", "stranger"))
    yield patch(403, "not_permitted", upload, OCTETS, offset(2), ("X-User", "child"))
    yield Refusal(403, "upload_complete", "DELETE", complete)
    yield post(403, "body_forbidden", ("Upload-Concat", f"final;{made.part}"))
    yield patch(403, "upload_is_final", made.final, OCTETS, offset(5))
    yield patch(404, "upload_not_found", f"/files/{'0' * 32}", OCTETS, offset(0))
    yield patch(404, "upload_not_found", "/files/..", OCTETS, offset(0))
    yield patch(404, "upload_not_found", upload, OCTETS, offset(2), ("X-User", "another"))
    yield Refusal(404, "upload_not_found", "DELETE", upload, (("X-User", "another"),))
    yield Refusal(405, "method_not_allowed", "PUT", upload)
    yield patch(409, "offset_mismatch", upload, OCTETS, offset(1))
    yield patch(410, "upload_gone", made.gone, OCTETS, offset(0))
    yield patch(412, "unsupported_version", upload, OCTETS, offset(2), tus=False)
    yield post(412, "unsupported_version", OCTETS, length(5), tus=False)
    yield patch(413, "length_exceeded", made.short, OCTETS, offset(2), for_length=True)
    yield patch(413, "length_exceeded", complete, OCTETS, offset(5), for_length=True)
    yield patch(413, "max_size_exceeded", upload, OCTETS, offset(996), for_length=True)
    yield post(413, "length_exceeded", OCTETS, length(4), for_length=True)
    yield post(413, "max_size_exceeded", OCTETS, length(1001))
    yield patch(415, "unsupported_media_type", upload, ("Content-Type", "text/plain"), offset(2))
    yield patch(415, "unsupported_media_type", upload, OCTETS, ("Content-Encoding", "gzip"), offset(2))
    yield patch(423, "upload_finalizing", finalizing, OCTETS, offset(10))
    yield Refusal(423, "upload_finalizing", "DELETE", finalizing)
    yield post(431, "header_too_large", OCTETS, length(5), ("Upload-Metadata", f"a {'YWFh' * 3000}"))
    yield patch(500, "internal_error", upload, OCTETS, offset(2), ("X-User", "trouble"))
    yield patch(503, "tus_tail_missing", made.elsewhere, OCTETS, offset(2))
    server.app.drain()
    yield patch(503, "server_draining", upload, OCTETS, offset(2))
    yield post(503, "server_draining", OCTETS, length(5))


def assert_refused(response: Response, refusal: Refusal) -> None:
    assert (response.status, response.code) == (refusal.status, refusal.code), refusal


@pytest.mark.invariant("I13", "I14")
async def test_case_98_the_body_is_not_asked_for_before_the_refusal_is_sent(server: RunningServer) -> None:
    async for refusal in refusals(server):
        before = await server.state()
        for framing in (("Content-Length", "5"), CHUNKED):
            if framing == CHUNKED and refusal.for_length:
                continue
            response, asked = await ask_with_canary(server, refusal, framing)
            assert_refused(response, refusal)
            assert not asked, refusal
        assert await server.state() == before, refusal


async def ask_with_canary(server: RunningServer, refusal: Refusal, framing: tuple[str, str]) -> tuple[Response, bool]:
    """What the app answers, and whether it asked for the body before it did."""
    sent: list[Message] = []
    asked = False

    async def receive() -> Message:
        nonlocal asked
        asked = asked or not sent
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    headers = [(name.lower().encode(), value.encode()) for name, value in [*refusal.sent, framing]]
    scope: dict[str, Any] = {"type": "http", "method": refusal.method, "path": refusal.target, "headers": headers}
    await server.app(scope, receive, send)
    raw = [(name.decode(), value.decode()) for name, value in sent[0]["headers"]]
    body = b"".join(message["body"] for message in sent[1:])
    return Response(sent[0]["status"], dict(raw), raw, body), asked


@pytest.mark.invariant("I13")
async def test_who_waits_to_be_told_to_continue_is_refused_instead(server: RunningServer) -> None:
    async for refusal in refusals(server):
        server.tap.received = 0  # what made the uploads that are refused
        async with server.client.connect() as connection:
            sent = [*refusal.sent, ("Expect", "100-continue"), ("Content-Length", "5")]
            await connection.send_head(refusal.method, refusal.target, sent)
            response = await connection.read_interim()
            assert_refused(response, refusal)
            assert response.headers["connection"] == "close", refusal
            assert await connection.read_to_end() == b""
        assert server.tap.received == 0


@pytest.mark.invariant("I19")
async def test_every_refusal_says_the_same_code_in_a_header_in_text_and_in_json(server: RunningServer) -> None:
    origin = ("Origin", "https://app.example")
    secrets = [str(server.data), "/etc", "internal.", socket.gethostname(), server.parts.tails.node.id, "127.0.0.1"]
    secrets += ["test.example", "uploads/", "sqlite", "Traceback", "LookupError", ".tail"]
    async for refusal in refusals(server):
        answers = {}
        for kind in ("application/json", "application/problem+json, */*;q=0.1", "text/plain", "*/*", None):
            accept = [] if kind is None else [("Accept", kind)]
            headers = [*refusal.sent, origin, *accept]
            answers[kind] = await server.client.request(refusal.method, refusal.target, headers, b"12345", tus=False)
        for kind, response in answers.items():
            assert_refused(response, refusal)
            for name in ("tus-resumable", "access-control-allow-origin", "access-control-expose-headers"):
                assert len(response.all(name)) == 1, (name, refusal)
            assert response.headers["cache-control"] == "no-store"
            assert ("retry-after" in response.headers) == (response.status in {423, 503, 507}), refusal
            text = response.body.decode()
            assert not [secret for secret in secrets if secret in text], text
            if kind is not None and "json" in kind:
                assert response.headers["content-type"] == "application/problem+json"
                problem = json.loads(text)
                assert (problem["code"], problem["status"]) == (response.code, response.status)
                assert problem["type"].endswith(response.code)
                assert problem["title"]
                assert problem["detail"]
            else:
                assert response.headers["content-type"] == "text/plain; charset=utf-8"
                assert text.startswith(f"{response.code}: ")
                assert text.endswith("\n")


async def test_a_refused_head_has_no_body_and_is_never_a_5xx(server: RunningServer) -> None:
    async for refusal in refusals(server):
        headers = [header for header in refusal.headers if header[0] == "X-User"]
        for sent in (headers, [*headers, ("X-HTTP-Method-Override", "HEAD"), ("Accept", "application/json")]):
            method = "HEAD" if sent is headers else "POST"
            response = await server.client.request(method, refusal.target, sent)
            assert response.status < 500, refusal
            assert response.body == b"", refusal
            if refusal.status >= 500 and refusal.code != "server_draining":
                assert response.status == 423, refusal
                assert response.headers["retry-after"]


@pytest.mark.parametrize("framing", ["length", "chunked"])
async def test_who_is_refused_and_goes_on_sending_is_heard_out_for_some_mib_only(
    server: RunningServer, framing: str
) -> None:
    upload = await server.client.create(10)
    before = await server.state()
    taken = server.tap.received
    block = bytes(MIB) if framing == "length" else encode_chunk(bytes(MIB))
    async with server.client.connect() as connection:

        async def send_on() -> int:
            for number in range(2048):
                try:
                    await connection.send(block)
                except ConnectionError:
                    return number
            return 2048

        await connection.begin_patch(upload, 3, length=2048 * MIB if framing == "length" else None)
        sending = asyncio.create_task(send_on())
        response = await connection.read_response()
        assert response.status == (413 if framing == "length" else 409)
        assert response.headers["connection"] == "close"
        await connection.read_to_end()
        assert await sending < 64
    assert 0 < server.tap.received - taken <= 9 * MIB
    assert await server.state() == before


async def test_who_sends_a_little_after_a_refusal_gets_the_answer_and_no_reset(server: RunningServer) -> None:
    upload = await server.client.create(900)
    async with server.client.connect() as connection:
        await connection.begin_patch(upload, 3, length=800)
        await connection.send(bytes(400))
        response = await connection.read_response()
        assert (response.status, response.offset) == (409, 0)
        await connection.send(bytes(400))
        assert await connection.read_to_end() == b""
