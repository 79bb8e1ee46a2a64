"""The request that is being served: what its log lines and its counts have in common.

It lives in a context variable. Tasks that a request starts inherit it, and keep it when the request is over.
"""

import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

# What tools make of ids; nothing that would end a header, a log line or a query (and 64 characters are enough).
_SANE = re.compile(r"[A-Za-z0-9._~:/+=@-]{1,64}", re.ASCII)


@dataclass(slots=True, kw_only=True)
class RequestContext:
    """``upload_id``: the one it is about, once that is known. ``code``: of the error it was answered with.

    ``received``: bytes of its body that arrived.
    """

    request_id: str
    protocol: str
    upload_id: str | None = None
    code: str | None = None
    received: int = 0


_current: ContextVar[RequestContext | None] = ContextVar("rindle_request", default=None)


def current_request() -> RequestContext | None:
    """The request that this task works for, if it works for one."""
    return _current.get()


@contextmanager
def serving(request: RequestContext) -> Iterator[None]:
    """Make it the current request while the block runs."""
    token = _current.set(request)
    try:
        yield
    finally:
        _current.reset(token)


def choose_request_id(given: str | None) -> str:
    """The id that the client or a proxy gave, if it is sane, else one of 64 random bits."""
    return given if given is not None and _SANE.fullmatch(given) else secrets.token_hex(8)
