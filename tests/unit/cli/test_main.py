import sys
from importlib import import_module

import click
import pytest
from click.testing import CliRunner

import rindle.cli.main
from rindle.cli.main import cli, main
from rindle.errors import ConfigurationError, RindleError
from rindle.objectstore.errors import StoreTimeoutError
from rindle.uploads.errors import DatabaseUnavailableError, UploadNotFoundError


def test_every_command_is_found_and_says_what_the_list_says() -> None:
    listed = CliRunner().invoke(cli, ["--help"]).output
    context = click.Context(cli)
    for name in cli.list_commands(context):
        command = cli.get_command(context, name)
        assert command is not None
        assert command.name == name
        assert name in listed


def test_a_command_that_is_meant_is_named() -> None:
    result = CliRunner().invoke(cli, ["srve"])
    assert result.exit_code == 2
    assert "No such command 'srve'. Did you mean 'serve'?" in result.output


def test_a_command_that_nobody_can_guess() -> None:
    result = CliRunner().invoke(cli, ["xyzzy"])
    assert result.exit_code == 2
    assert "No such command 'xyzzy'." in result.output


def test_without_a_command_it_helps() -> None:
    result = CliRunner().invoke(cli, [])
    assert result.exit_code == 2
    assert "Commands:" in result.output


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (RindleError("it failed"), 1),
        (ConfigurationError("mend this"), 3),
        (DatabaseUnavailableError("no answer"), 4),
        (StoreTimeoutError("no answer", store="s3"), 4),
        (UploadNotFoundError("x"), 5),
    ],
)
def test_what_the_operator_can_mend_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception, code: int
) -> None:
    def fail() -> None:
        raise error

    monkeypatch.setattr(rindle.cli.main, "cli", fail)
    with pytest.raises(SystemExit) as exited:
        main()
    assert exited.value.code == code
    assert capsys.readouterr().err == f"error: {error}\n"


def test_what_nobody_foresaw_is_shown_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["rindle"])
    monkeypatch.setattr(rindle.cli.main, "cli", lambda: import_module("nowhere"))
    with pytest.raises(ModuleNotFoundError):
        main()
