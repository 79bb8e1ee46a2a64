"""`rindle serve`."""

import socket
from typing import Any

import click

from rindle.asgi.app import UploadApp
from rindle.bootstrap import create_app
from rindle.cli.logs import set_up_logging
from rindle.cli.options import settings_from, settings_options
from rindle.cli.server import bind, listen_for_signals, run, serving, url_of
from rindle.settings import Settings


@click.command()
@settings_options()
def serve(**flags: Any) -> None:  # noqa: ANN401 - one for each setting
    """Run the upload server.

    With nothing set: on this machine only, records in SQLite and objects in files, all under ./rindle-data.
    Every flag is also an environment variable (in brackets) and a key of the settings file.
    """
    settings = settings_from(flags)
    set_up_logging(settings.log_level)
    listener = bind(settings.host, settings.port)
    try:
        run(_serve(create_app(settings), settings, listener))
    finally:
        listener.close()


async def _serve(app: UploadApp, settings: Settings, listener: socket.socket) -> None:
    async with app.lifespan(), serving(app, listener, grace=settings.shutdown_grace.total_seconds()) as server:
        asked_to_stop = listen_for_signals(server)
        click.echo(_banner(settings, url_of(listener) + settings.path))
        await asked_to_stop.wait()
        click.echo("stopping: uploads keep what has arrived", err=True)


def _banner(settings: Settings, endpoint: str) -> str:
    lines = [
        f"rindle takes tus uploads at   {endpoint}",
        f"records and tails are under   {settings.data.absolute()}"
        if settings.store
        else f"everything is kept under      {settings.data.absolute()}",
        "",
        "try it:",
        f"  curl -i -X POST {endpoint} -H 'Tus-Resumable: 1.0.0' -H 'Upload-Length: 6' \\",
        "       -H 'Content-Type: application/offset+octet-stream' --data-binary hello!",
    ]
    if settings.store is None and settings.database is None:
        lines += ["", "These are development defaults: one machine, no authentication. See the README for production."]
    return "\n".join(lines)
