"""The composition root: settings in, wired parts out. Shared by the app, the reaper and the commands."""

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from rindle.asgi.app import RunningService, UploadApp
from rindle.asgi.cors import CorsOptions
from rindle.asgi.endpoint import Authorize, EndpointOptions
from rindle.asgi.health import Check
from rindle.asgi.urls import UrlOptions
from rindle.db.admin import UploadAdmin
from rindle.db.engine import Database, DatabaseOptions
from rindle.db.listening import Listener
from rindle.db.repository import SqlUploadRepository
from rindle.db.schema import create_schema, require_schema, schema_state
from rindle.errors import ConfigurationError, RindleError
from rindle.objectstore.base import MultipartStore
from rindle.objectstore.disk import DiskExecutor
from rindle.objectstore.errors import InvalidKeyError
from rindle.objectstore.types import Capabilities
from rindle.objectstore.urls import open_store
from rindle.objectstore.wrappers.meter import metered
from rindle.observability.observer import NOBODY, Observer
from rindle.reaper.service import Reaper, ReaperOptions
from rindle.settings import Settings, StateSettings, load_settings
from rindle.snapshots import Encrypter, NoEncryption, SnapshotStore
from rindle.uploads.body import BodyPace
from rindle.uploads.engine import UploadEngine
from rindle.uploads.leases import LeaseOptions
from rindle.uploads.node import NodeIdentity
from rindle.uploads.observing import meter_for
from rindle.uploads.options import EngineOptions
from rindle.uploads.tail import Tails

logger = logging.getLogger(__name__)
if TYPE_CHECKING:
    from rindle.observability.metrics import Metrics

_MEASURE_SECONDS = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Components:
    """Everything, wired. Opened and closed as one by :func:`open_components`."""

    settings: Settings
    store: MultipartStore
    database: Database
    repository: SqlUploadRepository
    admin: UploadAdmin
    tails: Tails
    engine: UploadEngine
    reaper: Reaper
    observer: Observer

    @property
    def checks(self) -> Mapping[str, Check]:
        """What must be well for requests to be served."""
        return {"database": self._check_database, "store": self._check_store, "tails": self._check_tails}

    async def _check_database(self) -> None:
        await require_schema(self.database)

    async def _check_store(self) -> None:
        await self.store.list_page(limit=1)

    async def _check_tails(self) -> None:
        folder = self.tails.node.root
        if not os.access(folder, os.W_OK | os.X_OK):
            msg = f"the folder for tails {folder} is not writable"
            raise ConfigurationError(msg)


@asynccontextmanager
async def open_records(settings: Settings) -> AsyncIterator[UploadAdmin]:
    """Open the records alone, for those who only ask; neither store nor tails are touched."""
    if settings.database is None:
        make_folder(settings.data)
    database = Database(settings.database_url, DatabaseOptions(pool_size=2))
    try:
        await _prepare_schema(database, settings.database_url)
        yield UploadAdmin(database)
    finally:
        await database.aclose()


@asynccontextmanager
async def open_snapshots(settings: StateSettings, *, writing: bool) -> AsyncIterator[SnapshotStore]:
    """Open the snapshots of one stack. ``writing``: see first that the store can be written to as they need it.

    ConfigurationError, in one line, for what cannot be used.
    """
    url, factory, stack = (_require_state(settings, name) for name in ("store", "factory", "stack"))
    async with open_store(url, **settings.store_options) as store:
        try:
            snapshots = SnapshotStore(store, factory, stack, prefix=settings.prefix, encrypter=_encrypter(settings))
        except InvalidKeyError as error:
            msg = f"the names of factory and stack must be parts of a key: {error}"
            raise ConfigurationError(msg) from error
        if writing:
            await store.prepare()
        yield snapshots


def _require_state(settings: StateSettings, name: str) -> str:
    value: str | None = getattr(settings, name)
    if value is None:
        variable = f"{StateSettings.model_config['env_prefix']}{name.upper()}"
        msg = f"say which {name} the snapshots are of: --{name}, {variable}, or state_{name} in the settings file"
        raise ConfigurationError(msg)
    return value


def _encrypter(settings: StateSettings) -> Encrypter:
    # Loaded when they are asked for: they need libraries that others do without.
    try:
        if settings.key_bytes is not None:
            from rindle.snapshots.aes import AesEncrypter  # noqa: PLC0415

            return AesEncrypter(settings.key_bytes)
        if settings.kms_key_id is not None:
            from rindle.snapshots.kms import KmsEncrypter  # noqa: PLC0415

            return KmsEncrypter(settings.kms_key_id)
    except ModuleNotFoundError as error:
        extra = "kms" if settings.kms_key_id else "encryption"
        msg = f"sealed snapshots need more libraries: pip install 'rindle-uploads[{extra}]'"
        raise ConfigurationError(msg) from error
    return NoEncryption()


@asynccontextmanager
async def open_components(
    settings: Settings, *, serving: bool = True, observer: Observer = NOBODY
) -> AsyncIterator[Components]:
    """Open whatever the settings name, and close it in the end, letting running uploads keep what they have.

    Without ``serving``, this process takes no uploads, and makes no folder for their tails where there is none.

    An SQLite database is made and upgraded on the way; PostgreSQL, which others use too, only by command.
    ConfigurationError, in one line, for what cannot be used. ``observer`` is told what goes on.
    """
    async with AsyncExitStack() as stack:
        if settings.store is None or settings.database is None or (serving and settings.tails is None):
            make_folder(settings.data)
        database = Database(settings.database_url, DatabaseOptions(pool_size=settings.database_pool_size))
        stack.push_async_callback(database.aclose)
        listener = _make_listener(settings, database)
        await _prepare_schema(database, settings.database_url)
        store = await stack.enter_async_context(await _open_store(settings))
        if observer is not NOBODY:
            store = metered(store, meter_for(observer))
        await store.prepare()
        _require_publishing(settings, store.capabilities)
        for drawback in _drawbacks(store, settings.expires_in):
            logger.warning("%s: %s", store.name, drawback)
        folder = settings.tails_folder
        if not serving and not folder.is_dir():
            folder = Path(stack.enter_context(TemporaryDirectory(prefix="rindle-")))
        node = NodeIdentity(folder, name=settings.node_name)
        stack.callback(node.close)
        disk = DiskExecutor("tails")
        stack.push_async_callback(disk.aclose)
        tails = Tails(node, disk)
        repository = SqlUploadRepository(
            database,
            lease_ttl=settings.lease_ttl,
            expires_in=settings.expires_in,
            listener=listener,
            observer=observer,
        )
        engine = UploadEngine(
            store=store, repository=repository, tails=tails, options=_engine_options(settings), observer=observer
        )
        stack.push_async_callback(engine.aclose, spill=serving)
        reaper = Reaper(
            engine=engine,
            store=store,
            repository=repository,
            tails=tails,
            options=ReaperOptions(
                interval=settings.reap_interval, grace=settings.stray_after, retention=settings.purge_after
            ),
            observer=observer,
        )
        yield Components(
            settings=settings,
            store=store,
            database=database,
            repository=repository,
            admin=UploadAdmin(database),
            tails=tails,
            engine=engine,
            reaper=reaper,
            observer=observer,
        )


def create_app(
    settings: Settings | None = None, *, authorize: Authorize | None = None, metrics: "Metrics | None" = None
) -> UploadApp:
    """The ASGI app for these settings; without any, for those of the environment and of the file that it names.

    Nothing is opened before the app starts.

    ``authorize`` says who asks, before a byte of any body is read; without it everybody who knows an upload's URL may
    use it. ``metrics`` counts, in the host's registry, whatever the settings say; without it the settings decide.
    """
    chosen = load_settings({}) if settings is None else settings
    counting = metrics or make_metrics(chosen)
    return _make_app(chosen, lambda: open_components(chosen, observer=counting or NOBODY), authorize, counting)


def serve_components(
    components: Components, *, authorize: Authorize | None = None, metrics: "Metrics | None" = None
) -> UploadApp:
    """The ASGI app for components that the caller has opened, with the same metrics, and closes after the app."""
    return _make_app(components.settings, lambda: nullcontext(components), authorize, metrics)


def make_metrics(settings: Settings) -> "Metrics | None":
    """What counts, if the settings want it. ConfigurationError if what that needs is not installed."""
    return load_metrics(settings) if settings.metrics else None


def load_metrics(settings: Settings) -> "Metrics":
    """What counts, whether the settings want it or not."""
    try:
        from rindle.observability.metrics import Metrics  # noqa: PLC0415 - an extra
    except ModuleNotFoundError as error:
        msg = f"metrics need a package that is not installed ({error.name}): pip install 'rindle-uploads[prometheus]'"
        raise ConfigurationError(msg) from error
    return Metrics(store=settings.store_url.partition(":")[0])


def _make_app(
    settings: Settings,
    open_them: Callable[[], AbstractAsyncContextManager[Components]],
    authorize: Authorize | None,
    metrics: "Metrics | None",
) -> UploadApp:
    @asynccontextmanager
    async def start() -> AsyncIterator[RunningService]:
        async with AsyncExitStack() as stack:
            components = await stack.enter_async_context(open_them())
            await stack.enter_async_context(components.reaper.running())
            if metrics is not None:
                await stack.enter_async_context(_measuring(components.engine))
            yield RunningService(engine=components.engine, checks=components.checks)

    return UploadApp(
        start,
        path=settings.path,
        options=_endpoint_options(settings, authorize),
        observer=metrics or NOBODY,
        metrics=metrics.app if metrics is not None and settings.metrics and settings.metrics_port is None else None,
    )


@asynccontextmanager
async def _measuring(engine: UploadEngine) -> AsyncIterator[None]:
    """Measure what no event tells of, now and then: a scrape then waits for no disk, and every process has its say."""

    async def measure() -> None:
        while True:
            with contextlib.suppress(RindleError):  # a disk that fails is told of by whoever needs it
                await engine.measure()
            await asyncio.sleep(_MEASURE_SECONDS)

    task = asyncio.create_task(measure())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def _make_listener(settings: Settings, database: Database) -> Listener | None:
    if settings.database_listen is None:
        return Listener(settings.database_url, database) if database.dialect == "postgresql" else None
    url = settings.database_listen.get_secret_value()
    try:
        return None if url == "off" else Listener(url, database)
    except ConfigurationError as error:
        msg = f"database_listen: {error}"
        raise ConfigurationError(msg) from error


async def _prepare_schema(database: Database, url: str) -> None:
    if database.in_memory:
        await create_schema(database)
    elif database.dialect == "sqlite" and await schema_state(database) in ("empty", "behind"):
        from rindle.db.migrate import upgrade  # noqa: PLC0415 - alembic takes half a second, and is seldom needed

        await asyncio.to_thread(upgrade, url)
    else:
        await require_schema(database)


async def _open_store(settings: Settings) -> MultipartStore:
    store = open_store(settings.store_url, **settings.store_options)
    if not isinstance(store, MultipartStore):
        msg = f"the store {settings.store_url} cannot assemble objects from parts, which uploads need"
        raise ConfigurationError(msg)
    return store


def _require_publishing(settings: Settings, capabilities: Capabilities) -> None:
    template = settings.publish_to
    if template is None or settings.publish_overwrite or "{id}" in template:
        return
    if not (capabilities.copy_create and capabilities.attributes):
        msg = (
            f"the store cannot copy to {template} without replacing what stands there;"
            " put {id} into publish_to, or set publish_overwrite"
        )
        raise ConfigurationError(msg)


def _drawbacks(store: MultipartStore, expires_in: timedelta | None) -> Iterator[str]:
    """What an operator should know of uploads into this store."""
    limits = store.part_limits
    if limits.kept_for is not None and (expires_in is None or expires_in >= limits.kept_for):
        yield (
            f"the service drops what is unfinished for {limits.kept_for}, and with it the upload: "
            "let expires_in be shorter, or tell the service to keep it for longer"
        )
    if not store.capabilities.list_multiparts and limits.kept_for is None:
        yield "unfinished multiparts cannot be found: what a process begins that dies at once is there for good"
    if limits.exhaustive:
        yield (
            "an object is made of all parts or none: an upload of deferred length fails if its client, after a fault, "
            "ends before what it had sent already"
        )


def make_folder(path: Path) -> None:
    """Make the data folder where it is missing. ConfigurationError if it cannot be made or written to."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        msg = f"the data folder {path} cannot be made: {error.strerror}; choose another with --data"
        raise ConfigurationError(msg) from error
    if not os.access(path, os.W_OK | os.X_OK):
        msg = f"the data folder {path} is not writable; make it so, or choose another with --data"
        raise ConfigurationError(msg)


def _engine_options(settings: Settings) -> EngineOptions:
    return EngineOptions(
        max_size=settings.max_size,
        part_size=settings.part_size,
        deferred_size=settings.deferred_size,
        parts_in_flight=settings.parts_in_flight,
        memory_budget=settings.memory_budget,
        max_appends=settings.max_appends,
        least_free=settings.least_free,
        key_root=settings.key_prefix,
        usecase=settings.usecase,
        publish_to=settings.key_template(),
        overwrite=settings.publish_overwrite,
        completion_timeout=settings.completion_timeout,
        shutdown_grace=settings.shutdown_grace,
        terminate_complete=settings.terminate_complete,
        tails_in_store=settings.tail_durability == "object",
        spill_after=settings.spill_after,
        rewind=settings.allow_rewind,
        pace=BodyPace(idle_timeout=settings.idle_timeout, min_rate=settings.min_rate),
        leases=LeaseOptions(ttl=settings.lease_ttl, handover_timeout=settings.handover_timeout),
    )


def _endpoint_options(settings: Settings, authorize: Authorize | None) -> EndpointOptions:
    return EndpointOptions(
        expires=settings.expires_in is not None,
        authorize=authorize,
        cors=CorsOptions(origins=settings.cors_origins, credentials=settings.cors_credentials),
        urls=UrlOptions(
            location=settings.location,
            public_url=settings.public_url,
            trust_forwarded=settings.trust_forwarded,
        ),
    )
