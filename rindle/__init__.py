"""A resumable-upload server for Python: tus into an object store.

::

    import rindle

    uploads = rindle.create_app(rindle.Settings(data="/var/lib/rindle"))

``uploads`` is an ASGI app; see :class:`rindle.asgi.app.UploadApp` for how it joins another app.

The object store that it stands on is of use by itself: ``rindle.open_store(url)``, :mod:`rindle.objectstore`, and
:mod:`rindle.sync` for code that does not await.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rindle.asgi.app import UploadApp
    from rindle.bootstrap import create_app
    from rindle.errors import ConfigurationError, RindleError
    from rindle.objectstore.urls import open_store
    from rindle.observability.metrics import Metrics
    from rindle.protocols.errors import NotAuthenticatedError, NotPermittedError
    from rindle.settings import Settings

__all__ = [
    "ConfigurationError",
    "Metrics",
    "NotAuthenticatedError",
    "NotPermittedError",
    "RindleError",
    "Settings",
    "UploadApp",
    "create_app",
    "open_store",
]

# Loaded when they are asked for: `rindle --help`, and whoever wants the store alone, need no database and no server.
_HOMES = {
    "ConfigurationError": "rindle.errors",
    "Metrics": "rindle.observability.metrics",
    "NotAuthenticatedError": "rindle.protocols.errors",
    "NotPermittedError": "rindle.protocols.errors",
    "RindleError": "rindle.errors",
    "Settings": "rindle.settings",
    "UploadApp": "rindle.asgi.app",
    "create_app": "rindle.bootstrap",
    "open_store": "rindle.objectstore.urls",
}


def __getattr__(name: str) -> Any:  # noqa: ANN401 - a module's attribute
    home = _HOMES.get(name)
    if home is None:
        msg = f"module 'rindle' has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(import_module(home), name)
