from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import rindle.cli.demo
from rindle.cli.demo import demo
from rindle.errors import RindleError


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(demo, [str(argument) for argument in arguments])


def test_an_object_that_is_not_the_file_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def digest_of_something_else(blocks: Iterator[bytes]) -> str:
        return "" if any(blocks) else "nothing"

    monkeypatch.setattr(rindle.cli.demo, "_digest", digest_of_something_else)
    result = run("--size", "1")
    assert "DIFFERENT" in result.output
    assert isinstance(result.exception, RindleError)


def test_an_empty_file(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    result = run(tmp_path / "empty")
    assert result.exit_code == 2
    assert "is empty: there is nothing to cut" in result.output


@pytest.mark.parametrize("arguments", [["nowhere"], ["."], ["--size", "0"], ["--port", "1"]])
def test_arguments_that_make_no_sense(arguments: list[str]) -> None:
    assert run(*arguments).exit_code == 2
