"""What passes between a web server's face and a protocol: heads of requests and of responses, without I/O."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rindle.protocols.errors import MalformedHeaderError, MalformedRequestError


class Headers:
    """The headers of a request. Names are compared without case; a value that comes twice is never guessed at."""

    def __init__(self, raw: Iterable[tuple[bytes, bytes]]) -> None:
        self._values: dict[str, list[str]] = {}
        for name, value in raw:
            self._values.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1").strip(" \t"))

    def __contains__(self, name: str) -> bool:
        return name.lower() in self._values

    def find(self, name: str) -> str | None:
        """The value, or None; MalformedHeaderError if there are several."""
        values = self._values.get(name.lower())
        if values is None:
            return None
        if len(values) > 1:
            raise MalformedHeaderError(name, "this header must not come twice")
        return values[0]

    def join(self, name: str) -> str:
        """All values of a header that is a list, joined by commas."""
        return ",".join(self._values.get(name.lower(), ()))


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestHead:
    """A request without its body.

    ``upload_id`` is the last segment of the path as it came, None for the collection. ``owner`` is who asks, as the
    host's authorize function said.
    """

    method: str
    upload_id: str | None
    owner: str
    headers: Headers

    @property
    def body_length(self) -> int | None:
        """What Content-Length announces; None when the body is chunked, 0 when there is none.

        MalformedRequestError for both at once: proxies disagree on which one counts (RFC 9112 §6.1).
        """
        chunked = "transfer-encoding" in self.headers
        length = self.headers.find("Content-Length")
        if length is None:
            return None if chunked else 0
        if chunked:
            msg = "Content-Length and Transfer-Encoding must not come together."
            raise MalformedRequestError(msg)
        if not (length.isascii() and length.isdigit()):
            raise MalformedHeaderError("Content-Length", "must be a number of bytes")
        return int(length)


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponseHead:
    """A response, whole: our bodies are short texts."""

    status: int
    headers: Sequence[tuple[str, str]] = ()
    body: bytes = b""
