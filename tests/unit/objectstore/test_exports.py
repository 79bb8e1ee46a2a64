import subprocess
import sys
from importlib import import_module

import pytest

import rindle
import rindle.objectstore


@pytest.mark.parametrize("package", [rindle, rindle.objectstore], ids=lambda package: package.__name__)
def test_what_a_package_names_is_there_and_comes_from_where_type_checkers_look(package: object) -> None:
    assert isinstance(package, type(rindle))
    for name in package.__all__:
        assert getattr(package, name) is not None
    for name, home in package._HOMES.items():
        module = import_module(home if package is rindle else f"{package.__name__}.{home}")
        assert getattr(package, name) is getattr(module, name)
        assert name in package.__all__
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        getattr(package, "Nothing")  # noqa: B009 - what a type checker would not let pass


def test_whoever_wants_one_store_loads_no_other_and_no_server() -> None:
    code = (
        "import sys, rindle\n"
        "from rindle.objectstore import NotFoundError, PutOptions, read\n"
        "rindle.open_store('memory://')\n"
        "print(*{name.partition('.')[0] for name in sys.modules})"
    )
    output = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    heavy = {"aiohttp", "aioboto3", "azure", "botocore", "fsspec", "google", "pydantic", "sqlalchemy", "starlette"}
    assert heavy.isdisjoint(output.split())
