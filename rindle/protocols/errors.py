"""Requests that a protocol refuses before any engine is asked.

::

    ProtocolError
    ├── MalformedHeaderError          a header that is not what its grammar says, is missing, or comes twice
    ├── MalformedRequestError         headers that contradict each other
    ├── HeaderTooLargeError
    ├── UnsupportedVersionError
    ├── UnsupportedMediaTypeError
    ├── MethodNotAllowedError
    ├── BodyForbiddenError            a body where the protocol allows none
    ├── NotAuthenticatedError         who is asking is not known
    └── NotPermittedError             who is asking may not
"""

import logging
from collections.abc import Sequence
from typing import ClassVar

from rindle.errors import RindleError


class ProtocolError(RindleError):
    """The request itself is wrong; nothing was done. The message says what, and what would be right."""

    code = "bad_request"
    log_level: ClassVar[int] = logging.INFO

    def __init__(self, public_message: str) -> None:
        super().__init__(public_message)
        self.public_message = public_message


class MalformedHeaderError(ProtocolError):
    """A header is missing, repeated, or not what its grammar says."""

    code = "malformed_header"

    def __init__(self, name: str, fault: str) -> None:
        super().__init__(f"{name}: {fault}")
        self.name = name


class MalformedRequestError(ProtocolError):
    """Headers that contradict each other."""

    code = "malformed_request"


class HeaderTooLargeError(ProtocolError):
    """A header is longer than this server keeps."""

    code = "header_too_large"


class UnsupportedVersionError(ProtocolError):
    """A version of the protocol that this server does not speak."""

    code = "unsupported_version"


class UnsupportedMediaTypeError(ProtocolError):
    """A body of another type, or in a coding that offsets cannot count."""

    code = "unsupported_media_type"


class MethodNotAllowedError(ProtocolError):
    """``allowed`` are the methods that this resource has."""

    code = "method_not_allowed"

    def __init__(self, allowed: Sequence[str]) -> None:
        super().__init__(f"This method cannot be used here; use {', '.join(allowed)}.")
        self.allowed = tuple(allowed)


class BodyForbiddenError(ProtocolError):
    """A body where the protocol allows none."""

    code = "body_forbidden"


class NotAuthenticatedError(ProtocolError):
    """Raise this from an ``authorize`` function for a request without good credentials.

    ``challenge`` says how to give them (``WWW-Authenticate``, RFC 9110 §11.6.1).
    """

    code = "not_authenticated"

    def __init__(
        self, public_message: str = "Credentials are missing or not valid.", *, challenge: str = "Bearer"
    ) -> None:
        super().__init__(public_message)
        self.challenge = challenge


class NotPermittedError(ProtocolError):
    """Raise this from an ``authorize`` function for a request that its sender may not make."""

    code = "not_permitted"

    def __init__(self, public_message: str = "You may not do this.") -> None:
        super().__init__(public_message)
