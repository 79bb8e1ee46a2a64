"""Does the store take, give back and drop what uploads need of it?"""

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from time import perf_counter

from rindle.bootstrap import Components
from rindle.cli.checks.finding import Finding, error, ok, warn
from rindle.cli.output import spell_age
from rindle.errors import RindleError
from rindle.objectstore.base import MultipartStore
from rindle.objectstore.ext import read
from rindle.objectstore.types import MultipartOptions

_DATA = secrets.token_bytes(1024)
_SLOW_S = 0.5
_CONDITIONS = ("put_create", "put_update", "copy_create", "complete_create")


async def check_store(components: Components) -> AsyncIterator[Finding]:
    """The components are open: the store has been prepared, so that credentials and bucket are good."""
    store = components.store
    key = f"{components.settings.key_prefix}.doctor/{secrets.token_hex(8)}"
    try:
        took = await _time_object(store, key)
    except RindleError as fault:
        yield error("store", f"an object cannot be put, read and deleted: {fault}", "allow all three under the prefix")
        return
    done = f"{store.name}: an object put, read and deleted in {took * 1000:.0f} ms"
    yield warn("store", done, "uploads wait for that: run nearer to the store") if took > _SLOW_S else ok("store", done)
    try:
        await _try_multipart(store, key)
    except RindleError as fault:
        mend = "allow multiparts under the prefix: create, put parts, list and abort"
        yield error("multiparts", f"one cannot be begun, filled and aborted: {fault}", mend)
        return
    yield ok("multiparts", "one was begun, filled and aborted")
    yield _check_conditions(store)
    yield await _check_expiry(components)


async def _time_object(store: MultipartStore, key: str) -> float:
    began = perf_counter()
    async with _removed(store, key):
        await store.put(key, _DATA)
        if await read(store, key) != _DATA:
            raise RindleError("what was read is not what was put")
    return perf_counter() - began


@asynccontextmanager
async def _removed(store: MultipartStore, key: str) -> AsyncIterator[None]:
    try:
        yield
    finally:
        await store.delete(key)


async def _try_multipart(store: MultipartStore, key: str) -> None:
    options = MultipartOptions(part_size=max(len(_DATA), store.part_limits.min_size))
    ref = await store.create_multipart(key, options)
    try:
        await store.put_part(ref, 1, _DATA)
    finally:
        await store.abort_multipart(ref)


def _check_conditions(store: MultipartStore) -> Finding:
    missing = [name for name in _CONDITIONS if not getattr(store.capabilities, name)]
    if not missing:
        return ok("conditions", "puts, copies and completions can be conditional")
    mend = "uploads do without"
    if "copy_create" in missing:
        mend += "; publish_to needs {id} in it"
    if {"put_create", "put_update"} & {*missing}:
        mend += "; locks and counters need another store"
    return warn("conditions", f"the store does not do {', '.join(missing)}", mend)


async def _check_expiry(components: Components) -> Finding:
    """A rule of the bucket's that drops multiparts is a net below the reaper; too short, it loses uploads."""
    check = "lifecycle"
    try:
        after = await components.store.find_multipart_expiry()
    except RindleError as fault:
        return warn(check, f"the rules of the bucket cannot be read: {fault}", "allow it, or look at them yourself")
    lives = components.settings.expires_in or timedelta.max
    if after is None:
        return ok(check, "the store drops no multiparts by itself; the reaper does")
    said = f"the store drops multiparts after {spell_age(after)}"
    if after <= lives:
        kept = "for ever" if components.settings.expires_in is None else f"for {spell_age(lives)}"
        mend = f"uploads are kept {kept} and longer while they grow: make the rule longer, or expires_in shorter"
        return error(check, said, mend)
    return ok(check, said)
