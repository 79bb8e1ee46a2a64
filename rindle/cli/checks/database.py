"""Is the database there, current, safe, and does its clock agree with ours?"""

from collections.abc import AsyncIterator
from datetime import timedelta
from time import perf_counter

from rindle.bootstrap import Components
from rindle.cli.checks.finding import Finding, error, ok, warn
from rindle.cli.output import spell_age
from rindle.clock import utc_now

_SKEW = timedelta(seconds=5)
_SLOW_S = 0.05
_SOME = 100
_LATE = 10  # intervals of the reaper


async def check_database(components: Components) -> AsyncIterator[Finding]:
    """The components are open: it answers, and its schema is current."""
    admin = components.admin
    began = perf_counter()
    now = await admin.now()
    took = perf_counter() - began
    answered = f"{components.database.dialect} answers in {took * 1000:.0f} ms, its schema is current"
    if took > _SLOW_S:
        yield warn(
            "database", answered, "every request asks it two or three times: move it nearer, or mend the network"
        )
    else:
        yield ok("database", answered)
    skew = abs(utc_now() - now)
    if skew > _SKEW:
        yield warn(
            "clock",
            f"the database's clock and this machine's are {spell_age(skew)} apart",
            "run NTP on both; Upload-Expires and the age of stray multiparts go by them",
        )
    else:
        yield ok("clock", "this machine's agrees with the database's")
    mode = await admin.find_commit_mode()
    if mode == "off":
        forgets = "synchronous_commit is off: a crash of the database forgets what was acknowledged"
        yield error("commits", forgets, "set synchronous_commit to on, at least for rindle's role")
    elif mode is not None:
        yield ok("commits", f"synchronous_commit is {mode}")


async def check_reaper(components: Components) -> AsyncIterator[Finding]:
    """Does anybody finish and remove what no client will?"""
    last = await components.repository.find_reaped()
    mend = "run `rindle serve`, or `rindle reap --yes` from cron; see its log for why it stopped"
    if last is None:
        yield warn("reaper", "it has never run to its end", mend)
        return
    age = await components.admin.now() - last
    if age > _LATE * components.settings.reap_interval:
        yield warn("reaper", f"it ran to its end last {spell_age(age)} ago", mend)
    else:
        yield ok("reaper", f"it ran to its end {spell_age(age)} ago")
    late = await components.admin.find_failing(limit=_SOME + 1)
    if late:
        many = f"{_SOME} and more" if len(late) > _SOME else str(len(late))
        first = late[0]
        yield warn(
            "reaper",
            f"{many} uploads keep failing, such as {first.upload.id}: {first.failure}",
            "`rindle uploads show` tells the rest; it tries again by itself",
        )
