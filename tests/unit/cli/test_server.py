import asyncio
import logging
import socket

import pytest

from rindle.cli.logs import _is_no_cancellation
from rindle.cli.server import bind, run, url_of
from rindle.errors import ConfigurationError


@pytest.mark.parametrize(
    ("host", "reachable"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("localhost", "127.0.0.1"),
        ("0.0.0.0", "127.0.0.1"),
        ("::1", "[::1]"),
        ("::", "[::1]"),
    ],
)
def test_the_url_of_a_listener(host: str, reachable: str) -> None:
    try:
        listener = bind(host, 0)
    except ConfigurationError:
        if ":" not in host:
            raise
        pytest.skip("this machine has no IPv6")
    with listener:
        assert url_of(listener) == f"http://{reachable}:{listener.getsockname()[1]}"
        socket.create_connection(listener.getsockname()[:2]).close()


def test_a_port_is_taken_once() -> None:
    with bind("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(
            ConfigurationError, match=f"127.0.0.1 port {port}: it is in use; choose another with --port"
        ):
            bind("127.0.0.1", port)


@pytest.mark.parametrize(
    ("host", "said"),
    [("192.0.2.1", "Cannot assign requested address"), ("host.invalid", "cannot listen on host.invalid")],
)
def test_an_address_that_is_not_this_machines(host: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        bind(host, 0)


def test_a_port_beyond_all_ports() -> None:
    with pytest.raises(ConfigurationError, match="port 99999"):
        bind("127.0.0.1", 99999)


def test_what_is_run_runs_in_the_fastest_loop() -> None:
    names = []

    async def main() -> None:
        names.append(type(asyncio.get_running_loop()).__module__)

    run(main())
    assert names == ["uvloop"]


def test_a_request_that_a_shutdown_cuts_off_is_not_logged_as_an_error() -> None:
    def record(error: BaseException | None) -> logging.LogRecord:
        exc_info = None if error is None else (type(error), error, None)
        return logging.LogRecord("uvicorn.error", logging.ERROR, __file__, 1, "failed", None, exc_info)

    assert _is_no_cancellation(record(None))
    assert _is_no_cancellation(record(ValueError()))
    assert not _is_no_cancellation(record(asyncio.CancelledError()))
