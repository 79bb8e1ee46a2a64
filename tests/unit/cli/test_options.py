from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from rindle.cli.options import settings_from, settings_options
from rindle.cli.serve import serve
from rindle.settings import Settings


@click.command()
@settings_options()
def show(**flags: Any) -> None:
    settings = settings_from(flags)
    click.echo(f"{settings.port} {settings.cors_credentials} {settings.trust_forwarded} {settings.cors_origins}")


def run(*arguments: str) -> str:
    result = CliRunner().invoke(show, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output.strip()


def test_there_is_a_flag_for_every_setting() -> None:
    flags = {option.name for option in serve.params}
    assert flags == {"config", *Settings.model_fields}


def test_the_help_says_variable_and_default() -> None:
    text = " ".join(CliRunner().invoke(serve, ["--help"]).output.split())
    for name in Settings.model_fields:
        assert f"--{name.replace('_', '-')} " in text
        assert f"[RINDLE_{name.upper()}" in text
    for said in ("default 8080]", "default 5MiB]", "default 1d]", "default 30s]", "default false]", "default *]"):
        assert said in text
    assert "None" not in text


def test_nothing_given() -> None:
    assert run() == "8080 False False ('*',)"


def test_flags() -> None:
    given = run("--port", "1", "--trust-forwarded", "--cors-credentials", "--cors-origins", "https://a,https://b")
    assert given == "1 True True ('https://a', 'https://b')"


def test_a_flag_that_takes_back_what_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RINDLE_TRUST_FORWARDED", "true")
    assert run() == "8080 False True ('*',)"
    assert run("--no-trust-forwarded") == "8080 False False ('*',)"


def test_a_flag_that_is_empty_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RINDLE_CORS_ORIGINS", "https://a")
    assert run("--cors-origins", "") == "8080 False False ()"


def test_a_settings_file(tmp_path: Path) -> None:
    (tmp_path / "rindle.toml").write_text("port = 5")
    assert run("--config", str(tmp_path / "rindle.toml")).startswith("5 ")
