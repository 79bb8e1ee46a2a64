"""What stands between clients and this server: tried from outside, by the URL that clients use."""

import http.client
import ssl
from collections.abc import Iterator, Mapping
from contextlib import closing
from time import monotonic, sleep
from urllib.parse import urljoin, urlsplit

from rindle.cli.checks.finding import Finding, error, ok, warn

_LENGTH = 1 << 30
_SENT = 64 * 1024
_PATIENCE_S = 10.0
_PAUSE_S = 0.2
_APPENDS = 6
_TOO_LARGE = 413
_TUS = {"Tus-Resumable": "1.0.0"}


class _Client:
    """One request on one connection each, as a proxy may send each elsewhere."""

    def __init__(self, url: str, headers: Mapping[str, str]) -> None:
        self._url = url
        self._headers = {**_TUS, **headers}

    def connect(self, url: str) -> http.client.HTTPConnection:
        parts = urlsplit(url)
        host = parts.hostname or ""
        if parts.scheme == "https":
            context = ssl.create_default_context()
            return http.client.HTTPSConnection(host, parts.port, timeout=_PATIENCE_S, context=context)
        return http.client.HTTPConnection(host, parts.port, timeout=_PATIENCE_S)

    def ask(self, method: str, url: str, body: bytes = b"", **headers: str) -> http.client.HTTPResponse:
        with closing(self.connect(url)) as connection:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, urlsplit(url).path, body or None, {**self._headers, **named})
            response = connection.getresponse()
            response.read()
            return response

    def cut(self, url: str) -> int | None:
        """Announce a long body, send a little of it, and go; a status if there was an answer before that."""
        with closing(self.connect(url)) as connection:
            connection.putrequest("PATCH", urlsplit(url).path)
            headers = {
                **self._headers,
                "Content-Type": "application/offset+octet-stream",
                "Upload-Offset": "0",
                "Content-Length": str(_LENGTH),
            }
            for name, value in headers.items():
                connection.putheader(name, value)
            connection.endheaders(bytes(_SENT))
            connection.sock.settimeout(1.0)
            try:
                return connection.getresponse().status
            except (TimeoutError, http.client.HTTPException, ConnectionError):
                return None

    def offset(self, url: str) -> int | None:
        answer = self.ask("HEAD", url)
        return int(answer.headers.get("Upload-Offset", "-1")) if answer.status == http.client.OK else None


def check_proxy(url: str, headers: Mapping[str, str]) -> Iterator[Finding]:
    """Send an upload through it that is cut off, gone on with, and removed."""
    client = _Client(url, headers)
    try:
        created = client.ask("POST", url, Upload_Length=str(_LENGTH))
    except (OSError, http.client.HTTPException) as fault:
        yield error(
            "proxy", f"{url} does not answer: {fault}", "give --url as clients use it, with the path of uploads"
        )
        return
    location = created.headers.get("Location")
    if created.status != http.client.CREATED or location is None:
        mend = "give --url as clients use it; --header 'Authorization: ...' says who asks"
        yield error("proxy", f"POST is answered by {created.status}, not by 201 with a Location", mend)
        return
    upload = urljoin(url, location)
    yield _check_location(url, upload)
    here = urljoin(url, urlsplit(upload).path)
    try:
        yield from _check_body(client, here)
    finally:
        client.ask("DELETE", here)


def _check_location(url: str, upload: str) -> Finding:
    asked, given = urlsplit(url), urlsplit(upload)
    if (asked.scheme, asked.netloc) != (given.scheme, given.netloc):
        return error(
            "location",
            f"uploads are said to be at {given.scheme}://{given.netloc}, not at {asked.scheme}://{asked.netloc}",
            "let the proxy set X-Forwarded-Proto and -Host and set trust_forwarded, or set public_url",
        )
    return ok("location", "uploads are said to be where they were asked for")


def _check_body(client: _Client, upload: str) -> Iterator[Finding]:
    status = client.cut(upload)
    if status == _TOO_LARGE:
        mend = "take the limit off: nginx client_max_body_size 0"
        yield error("body limit", "the proxy takes no body of 1 GiB", mend)
        return
    yield ok("body limit", "a body of 1 GiB may be announced")
    offset = _wait_for_offset(client, upload)
    if not offset:
        mend = "turn it off: nginx proxy_request_buffering off; else nothing of a body that breaks off is kept"
        yield error("buffering", "the proxy keeps a body until it is whole", mend)
        return
    yield ok("buffering", "what arrives of a body that breaks off is kept")
    yield _check_stickiness(client, upload, offset)


def _wait_for_offset(client: _Client, upload: str) -> int | None:
    end = monotonic() + _PATIENCE_S
    while True:
        offset = client.offset(upload)
        if offset or monotonic() > end:
            return offset
        sleep(_PAUSE_S)


def _check_stickiness(client: _Client, upload: str, offset: int) -> Finding:
    for number in range(_APPENDS):
        answer = client.ask(
            "PATCH",
            upload,
            b"x",
            Upload_Offset=str(offset + number),
            Content_Type="application/offset+octet-stream",
        )
        if answer.status != http.client.NO_CONTENT:
            mend = "send all requests of an upload to one node (docs/how-to/load-balancer.md), or set tail_durability"
            return warn("stickiness", f"request {number + 1} was answered by {answer.status}", mend)
    return ok("stickiness", f"{_APPENDS} requests found the bytes of the one before")
