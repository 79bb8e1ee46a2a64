import asyncio

import pytest

from rindle.observability.context import RequestContext, choose_request_id, current_request, serving


@pytest.mark.parametrize("given", ["a", "x" * 64, "1-5759e988-bd862e3fe1be46a994272793", "dGVzdA==", "a.b_c~d:e/f+g@h"])
def test_an_id_that_is_sane_is_kept(given: str) -> None:
    assert choose_request_id(given) == given


@pytest.mark.parametrize(
    "given", [None, "", " ", "a b", "a\n", "\na", "x" * 65, '"', "\\", "a%b", "é", "a\x1b[31m", "\u2028"]
)
def test_any_other_is_replaced_by_one_that_nobody_else_has(given: str | None) -> None:
    made = {choose_request_id(given) for _ in range(100)}
    assert len(made) == 100
    assert all(len(one) == 16 and int(one, 16) >= 0 for one in made)


async def test_tasks_of_a_request_know_it_and_others_do_not() -> None:
    async def look() -> RequestContext | None:
        return current_request()

    request = RequestContext(request_id="a", protocol="tus")
    with serving(request):
        ours = asyncio.create_task(look())
        request.upload_id = "known later"
    theirs = asyncio.create_task(look())
    assert await ours is request
    assert await theirs is None
