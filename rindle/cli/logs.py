"""Where log lines go: stderr, and only from commands; a library leaves that to its app."""

import asyncio
import logging


def set_up_logging(level: str) -> None:
    """Log from this level on."""
    logging.basicConfig(level=level.upper(), format="%(asctime)s %(levelname)-7s %(name)s: %(message)s")
    for chatty in ("alembic", "uvicorn", "aiosqlite", "aiobotocore", "botocore", "azure", "google", "urllib3"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    logging.getLogger("uvicorn.error").addFilter(_is_no_cancellation)


def _is_no_cancellation(record: logging.LogRecord) -> bool:
    # A request that a shutdown cuts off is one that failed, to uvicorn.
    return not (record.exc_info and isinstance(record.exc_info[1], asyncio.CancelledError))
