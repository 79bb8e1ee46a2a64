"""A tus client to be killed: ``python -m tests.acceptance.raw_client '{"port": ...}'``.

Asks for the offset, sends the rest of a pattern in one PATCH, and starts over when the server says that the offset has
moved. Says ``sent <position>`` when it passes ``report_at``, stops sending at ``hold_at`` (for good), and says
``complete`` in the end. Exits with 3 when the connection ends early.
"""

import contextlib
import json
import signal
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import BinaryIO

from tests.acceptance.pattern import Pattern
from tests.http import OCTETS, TUS, encode_head

CONNECTION_LOST = 3
_ASK_AGAIN = (409, 423, 503)


@dataclass(frozen=True)
class Order:
    port: int
    location: str
    seed: int
    size: int
    report_at: int
    hold_at: int


def upload(order: Order) -> None:
    pattern = Pattern(order.seed, order.size)
    while (offset := find_offset(order)) < order.size:
        status = send_rest(order, pattern, offset)
        if status != 204 and status not in _ASK_AGAIN:
            raise SystemExit(f"the server answered {status} at offset {offset}")
    print("complete", flush=True)


def find_offset(order: Order) -> int:
    with socket.create_connection(("127.0.0.1", order.port)) as connection:
        connection.sendall(encode_head("HEAD", order.location, [TUS]))
        with connection.makefile("rb") as answer:
            status, headers = read_head(answer)
    if status != 200:
        raise SystemExit(f"HEAD was answered {status}")
    return int(headers["upload-offset"])


def send_rest(order: Order, pattern: Pattern, offset: int) -> int:
    length = ("Content-Length", str(order.size - offset))
    head = encode_head("PATCH", order.location, [TUS, OCTETS, ("Upload-Offset", str(offset)), length])
    with socket.create_connection(("127.0.0.1", order.port)) as connection:
        connection.sendall(head)
        with contextlib.suppress(ConnectionError):  # refused while sending: the answer may be there all the same
            send_body(order, connection, pattern, offset)
        with connection.makefile("rb") as answer:
            status, _ = read_head(answer)
    return status


def send_body(order: Order, connection: socket.socket, pattern: Pattern, position: int) -> None:
    for block in pattern.read(position):
        connection.sendall(block[: max(0, order.hold_at - position)])
        before, position = position, position + len(block)
        if before < order.report_at <= position:
            print("sent", min(position, order.hold_at), flush=True)
        if position >= order.hold_at:
            signal.pause()


def read_head(answer: BinaryIO) -> tuple[int, Mapping[str, str]]:
    status_line = answer.readline()
    if not status_line:
        raise ConnectionResetError
    headers = {}
    while line := answer.readline().strip():
        name, _, value = line.decode("latin-1").partition(":")
        headers[name.lower()] = value.strip()
    return int(status_line.split()[1]), headers


if __name__ == "__main__":
    try:
        upload(Order(**json.loads(sys.argv[1])))
    except ConnectionError:
        sys.exit(CONNECTION_LOST)
