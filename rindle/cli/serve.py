"""`rindle serve`."""

import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import click

from rindle.asgi.app import METRICS_PATH
from rindle.bootstrap import create_app, make_metrics
from rindle.cli.logs import set_up_logging
from rindle.cli.options import settings_from, settings_options
from rindle.cli.server import bind, listen_for_signals, run, serving, url_at, url_of
from rindle.settings import Settings

if TYPE_CHECKING:
    from rindle.observability.metrics import Metrics

logger = logging.getLogger("rindle.serve")


@click.command()
@settings_options()
def serve(**flags: Any) -> None:  # noqa: ANN401 - one for each setting
    """Run the upload server.

    With nothing set: on this machine only, records in SQLite and objects in files, all under ./rindle-data.
    Every flag is also an environment variable (in brackets) and a key of the settings file.
    """
    settings = settings_from(flags)
    set_up_logging(settings)
    listener = bind(settings.host, settings.port)
    try:
        run(_serve(settings, listener))
    finally:
        listener.close()


async def _serve(settings: Settings, listener: socket.socket) -> None:
    metrics = make_metrics(settings)
    app = create_app(settings, metrics=metrics)
    grace = settings.shutdown_grace.total_seconds()
    url = url_of(listener)
    async with (
        _serving_metrics(metrics, settings, url) as metrics_url,
        app.lifespan(),
        serving(app, listener, grace=grace) as server,
    ):
        asked_to_stop = listen_for_signals(server)
        _say_ready(settings, url + settings.path, metrics_url)
        await asked_to_stop.wait()
        _say_stopping(settings)


@asynccontextmanager
async def _serving_metrics(metrics: "Metrics | None", settings: Settings, url: str) -> AsyncIterator[str | None]:
    """Serve metrics on their own port, if they have one; where they are, if they are anywhere."""
    if metrics is None or settings.metrics_port is None:
        yield None if metrics is None else url + METRICS_PATH
        return
    async with metrics.serving(settings.metrics_host, settings.metrics_port) as port:
        yield url_at(settings.metrics_host, port) + METRICS_PATH


def _say_ready(settings: Settings, endpoint: str, metrics_url: str | None) -> None:
    if settings.log_format == "console":
        click.echo(_banner(settings, endpoint, metrics_url))
    else:
        logger.info("rindle takes tus uploads at %s", endpoint, extra={"url": endpoint, "metrics_url": metrics_url})


def _say_stopping(settings: Settings) -> None:
    text = "stopping: uploads keep what has arrived"
    if settings.log_format == "console":
        click.echo(text, err=True)
    else:
        logger.info(text)


def _banner(settings: Settings, endpoint: str, metrics_url: str | None) -> str:
    lines = [
        f"rindle takes tus uploads at   {endpoint}",
        f"records and tails are under   {settings.data.absolute()}"
        if settings.store
        else f"everything is kept under      {settings.data.absolute()}",
        *([f"metrics are at                {metrics_url}"] if metrics_url else []),
        "",
        "try it:",
        f"  curl -i -X POST {endpoint} -H 'Tus-Resumable: 1.0.0' -H 'Upload-Length: 6' \\",
        "       -H 'Content-Type: application/offset+octet-stream' --data-binary hello!",
    ]
    if settings.store is None and settings.database is None:
        lines += ["", "These are development defaults: one machine, no authentication. See the README for production."]
    return "\n".join(lines)
