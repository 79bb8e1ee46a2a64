"""How commands log: as the settings say; a library leaves that to its app."""

import asyncio
import logging

from rindle.observability import logs
from rindle.settings import Settings


def set_up_logging(settings: Settings) -> None:
    """Log to stderr, in the form and from the level on that the settings say."""
    logs.set_up(settings.log_level, settings.log_format, access=settings.access_log)
    logging.getLogger("uvicorn.error").addFilter(_is_no_cancellation)


def _is_no_cancellation(record: logging.LogRecord) -> bool:
    # A request that a shutdown cuts off is one that failed, to uvicorn.
    return not (record.exc_info and isinstance(record.exc_info[1], asyncio.CancelledError))
