"""What is between an administrator and IAM: a proxy that notes every action and fails where a test says so."""

import asyncio
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import parse_qsl

from typing_extensions import override

from tests.s3_proxy import Request, S3Proxy

Fields = dict[str, str]


@dataclass(frozen=True)
class IamFault:
    """What happens to the next request for an action: an answer that the service knows nothing of; ``lose``: the
    service does it, and its answer is lost; ``hold``: it does it, and nobody hears anything any more."""

    action: str
    answer: tuple[int, str] | None = None
    how: Literal["lose", "hold"] = "lose"


@dataclass
class IamProxy(S3Proxy):
    """For S3's calls too, of which it refuses those that ``fail`` names."""

    iam_faults: list[IamFault] = field(default_factory=list)
    actions: list[str] = field(default_factory=list)
    held_action: asyncio.Event = field(default_factory=asyncio.Event)

    def refuse(self, *actions: str, status: int = 403, code: str = "AccessDenied") -> None:
        self.iam_faults += [IamFault(action, answer=(status, code)) for action in actions]

    @override
    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().rstrip().split("\r\n")
        method, target, _ = line.split(" ")
        headers = {name.lower(): value for name, _, value in (each.partition(": ") for each in lines)}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        request = Request(method, target, headers, body)
        self.requests.append(request)
        fields = dict(parse_qsl(body.decode(errors="replace"), keep_blank_values=True))
        action = fields.get("Action", "")
        fault = next((fault for fault in self.iam_faults if fault.action == action), None)
        if fault is not None:
            self.iam_faults.remove(fault)
        if action:
            self.actions.append(action)
        refusal = self._take(request)
        if refusal is not None and refusal.answer is not None:
            answer = http_answer(*refusal.answer)
        elif fault is not None and fault.answer is not None:
            answer = iam_error(*fault.answer)
        else:
            answer = await self.answer(request, fields)
        if fault is not None and fault.answer is None:
            if fault.how == "hold":
                self.held_action.set()
                await self._hold(writer)
            writer.transport.abort()
            return
        writer.write(answer)
        await writer.drain()

    async def answer(self, request: Request, fields: Fields) -> bytes:  # noqa: ARG002 - for who answers IAM itself
        return self.rewrite(request, await self._forward(request))


def http_answer(status: int, body: bytes) -> bytes:
    head = f"HTTP/1.1 {status} Some\r\nContent-Type: text/xml\r\nConnection: close\r\nContent-Length: {len(body)}"
    return head.encode() + b"\r\n\r\n" + body


def iam_error(status: int, code: str) -> bytes:
    said = f"<Error><Type>Sender</Type><Code>{code}</Code><Message>as the test wants it</Message></Error>"
    return http_answer(status, f"<ErrorResponse>{said}<RequestId>0</RequestId></ErrorResponse>".encode())
