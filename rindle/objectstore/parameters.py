"""The parameters of a store's URL: each read by its own rule, unknown ones refused with the nearest name."""

import math
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import Any
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from rindle.errors import ConfigurationError
from rindle.objectstore.errors import InvalidKeyError
from rindle.objectstore.keys import validate_key

Rule = Callable[[str], object]
"""From a parameter's text to its value; ValueError says what it must be."""


def read_parameters(parts: SplitResult, rules: Mapping[str, Rule]) -> dict[str, Any]:
    """What the query of a URL says. ConfigurationError names a parameter, and never repeats a value."""
    found: dict[str, Any] = {}
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        rule = rules.get(name)
        if rule is None:
            nearest = get_close_matches(name, rules, n=1, cutoff=0)[0]
            msg = f"{parts.scheme}:// takes no parameter {name}; did you mean {nearest}?"
            raise ConfigurationError(msg)
        if name in found:
            msg = f"{parts.scheme}:// has the parameter {name} twice"
            raise ConfigurationError(msg)
        try:
            found[name] = rule(value)
        except ValueError as error:
            msg = f"the parameter {name} of {parts.scheme}:// must be {error}"
            raise ConfigurationError(msg) from None
    return found


def read_prefix(parts: SplitResult) -> str:
    """The path of a URL as the prefix of keys."""
    return unquote(parts.path).strip("/")


def prefix_problem(prefix: str, *, store: str) -> str | None:
    """What is wrong with a prefix that all keys are to have."""
    try:
        if prefix:
            validate_key(prefix, store=store)
    except InvalidKeyError as error:
        return f"the prefix of the keys: {error.args[0]}"
    return None


def is_endpoint(text: str, *, path: bool = False) -> bool:
    """Whether a URL can be the one that a service is reached under, with a ``path`` or without one."""
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        return False
    plain = (path or parts.path in {"", "/"}) and not parts.query and not parts.fragment and "@" not in parts.netloc
    return parts.scheme in {"http", "https"} and bool(parts.hostname) and port != 0 and plain


def text(value: str) -> str:
    """Any text that is not empty."""
    if not value.strip():
        msg = "given, or left out"
        raise ValueError(msg)
    return value


def yes_or_no(value: str) -> bool:
    """``true`` or ``false``."""
    found = {"true": True, "false": False}.get(value.lower())
    if found is None:
        msg = "true or false"
        raise ValueError(msg)
    return found


def one_of(*values: str) -> Callable[[str], str]:
    """One of these."""

    def rule(value: str) -> str:
        if value not in values:
            msg = f"one of {', '.join(values)}"
            raise ValueError(msg)
        return value

    return rule


def count(value: str) -> int:
    """A whole number, not 0."""
    if not (value.isascii() and value.isdigit() and int(value)):
        msg = "a whole number, 1 or more"
        raise ValueError(msg)
    return int(value)


def seconds(value: str) -> float:
    """How long."""
    try:
        found = float(value)
    except ValueError:
        found = math.nan
    if not 0 < found < math.inf:
        msg = "a number of seconds"
        raise ValueError(msg)
    return found
