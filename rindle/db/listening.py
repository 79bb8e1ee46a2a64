"""Hearing what processes tell each other on PostgreSQL: LISTEN, on a connection of its own."""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from typing import Any

from sqlalchemy import bindparam, select
from sqlalchemy.types import Text

from rindle.db.engine import Database, DatabaseOptions
from rindle.db.errors import first_line, is_foreign
from rindle.db.leases import CHANNEL
from rindle.db.sql import notify
from rindle.errors import ConfigurationError, RindleError
from rindle.objectstore.tasks import outlast
from rindle.uploads.errors import DatabaseUnavailableError, RepositoryError
from rindle.uploads.ids import new_token
from rindle.uploads.ports import LeaseSignal, SignalReceiver

logger = logging.getLogger("rindle.db")

Hear = Callable[[str], None]

_OPTIONS = DatabaseOptions(pool_size=1, application_name="rindle-listener")
_SEND = select(notify(CHANNEL, bindparam("payload", type_=Text())))
_SIGNALS = {str(signal): signal for signal in LeaseSignal}
_ECHO_EVERY_S = 15.0  # what is lost without a sign is missed for so long
_ECHO_WITHIN_S = 5.0
_LEAST_PAUSE_S = 0.1
_MOST_PAUSE_S = 30.0


class Listener:
    """Hears the signals that are sent through a database, and finds out when it does not.

    A connection that is open proves little: a pooler may have lent it out, a failover left it behind, a network
    forgotten it. So every now and then something is sent by the way that signals are sent, and has to be heard.
    """

    def __init__(self, url: str, database: Database) -> None:
        """``url``: where to listen. ``database``: where signals are sent; the caller's to close.

        The two are one, but for a pooler that may stand before ``database``. ConfigurationError if the URL cannot be
        used, or either is not PostgreSQL.
        """
        if "sqlite" in (database.dialect, Database(url, _OPTIONS).dialect):
            raise ConfigurationError("nothing is heard through SQLite, only through PostgreSQL")
        self._url = url
        self._database = database

    async def listen(self, receiver: SignalReceiver) -> None:
        """Hand over the signals until cancelled, on as many connections as it takes, one after the other."""
        await _Hearing(self._url, self._database, receiver).go_on()


class _Hearing:
    """One call of :meth:`Listener.listen`. ``_live`` is None until it is known whether anything is heard."""

    def __init__(self, url: str, database: Database, receiver: SignalReceiver) -> None:
        self._database = database
        self._apart = Database(url, _OPTIONS)
        self._receiver = receiver
        self._live: bool | None = None
        self._pause = _LEAST_PAUSE_S
        self._echo: asyncio.Future[None] | None = None
        self._echo_payload = f"echo {new_token()}"

    async def go_on(self) -> None:
        try:
            while True:
                try:
                    await self._hear()
                except Exception as error:
                    if not (isinstance(error, RindleError) or is_foreign(error)):
                        raise
                    self._lose(error)
                await asyncio.sleep(self._pause * random.uniform(0.5, 1))  # noqa: S311 - jitter
                self._pause = min(2 * self._pause, _MOST_PAUSE_S)
        finally:
            self._receiver.set_live(live=False)
            await self._apart.aclose()

    async def _hear(self) -> None:
        """Hear on one connection until it is lost."""
        async with self._apart.engine.connect() as connection:
            try:
                driver = (await connection.get_raw_connection()).driver_connection
                await self._watch(await _LISTEN[self._apart.engine.dialect.driver](driver, self._take))
            finally:
                await connection.invalidate()  # it is not to be used again, nor waited for

    async def _watch(self, ended: asyncio.Future[None]) -> None:
        try:
            while not ended.done():
                if await self._hears_itself(ended):
                    self._gain()
                await asyncio.wait([ended], timeout=_ECHO_EVERY_S)
            ended.result()
            raise ConnectionResetError("the server closed the connection")
        finally:
            ended.cancel()
            await outlast(ended)

    async def _hears_itself(self, ended: asyncio.Future[None]) -> bool:
        """Whether what was sent was heard; False if nothing could be sent, which says nothing of hearing."""
        self._echo = asyncio.get_running_loop().create_future()
        try:
            await self._database.write(_SEND, {"payload": self._echo_payload})
        except DatabaseUnavailableError:
            return False
        await asyncio.wait([ended, self._echo], timeout=_ECHO_WITHIN_S, return_when=asyncio.FIRST_COMPLETED)
        if not (ended.done() or self._echo.done()):
            raise RepositoryError(
                f"what was sent was not heard within {_ECHO_WITHIN_S:g}s. If a pooler such as PgBouncer lends out"
                " connections for single transactions, set database_listen to a URL past it, or to 'off'"
            )
        return self._echo.done()

    def _take(self, payload: str) -> None:
        signal, _, upload_id = payload.partition(" ")
        if signal in _SIGNALS:
            self._receiver.receive(_SIGNALS[signal], upload_id)
        elif payload == self._echo_payload and self._echo is not None and not self._echo.done():
            self._echo.set_result(None)

    def _gain(self) -> None:
        self._pause = _LEAST_PAUSE_S
        if not self._live:
            if self._live is False:
                logger.info("what other processes say about leases is heard again")
            self._live = True
            self._receiver.set_live(live=True)

    def _lose(self, error: Exception) -> None:
        if self._live is not False:
            logger.warning(
                "what other processes say about leases is not heard, only found by polling: %s", first_line(error)
            )
            self._live = False
            self._receiver.set_live(live=False)


async def _listen_by_psycopg(driver: Any, hear: Hear) -> asyncio.Future[None]:  # noqa: ANN401 - drivers are not imported
    async def read() -> None:
        async for notification in driver.notifies():
            hear(notification.payload)

    await driver.execute(f'LISTEN "{CHANNEL}"')
    return asyncio.create_task(read())


async def _listen_by_asyncpg(driver: Any, hear: Hear) -> asyncio.Future[None]:  # noqa: ANN401
    ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def end(_: object) -> None:
        if not ended.done():
            ended.set_result(None)

    driver.add_termination_listener(end)
    await driver.add_listener(CHANNEL, lambda _connection, _process, _channel, payload: hear(payload))
    return ended


_LISTEN: dict[str, Callable[[Any, Hear], Awaitable[asyncio.Future[None]]]] = {
    "psycopg": _listen_by_psycopg,
    "asyncpg": _listen_by_asyncpg,
}
"""By driver: begin to hear the channel. The future ends, with an error or without, when no more will be heard."""
