"""What ops/ promises: one upload, one node; and whatever happens to nodes, clients hear nothing but "again"."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.acceptance.clients import TusJs, install_tus_js
from tests.acceptance.process import eventually
from tests.http import Connection
from tests.integration.proxies.balancers import HAProxy
from tests.integration.proxies.conftest import KIND, ODD, PART, Cluster, MakeCluster
from tests.integration.proxies.uploader import Answer, Uploader, noise

SIZE = 5 * PART + 999
EVERY_NODE = {0, 1, 2}


@asynccontextmanager
async def appending(upload: Uploader) -> AsyncIterator[Connection]:
    """A PATCH of all the rest, of which the node has committed some parts, and waits for more."""
    async with upload.client.connect() as connection:
        await connection.begin_patch(upload.location, upload.offset, length=len(upload.content) - upload.offset)
        await connection.send(upload.content[upload.offset : 3 * PART + 7])
        await upload.reach(3 * PART)
        yield connection


async def together(*work: Coroutine[Any, Any, None]) -> None:
    """All at the same time; when one fails, none of the others goes on asking."""
    async with asyncio.TaskGroup() as group:
        for one in work:
            group.create_task(one)


@pytest.mark.parametrize("kind", KIND)
def test_the_program_itself_accepts_the_shipped_file(kind: str, tmp_path: Path) -> None:
    checked = KIND[kind](tmp_path / kind, [1, 2, 3]).check()
    assert checked.returncode == 0, checked.stderr
    assert "[warn" not in checked.stderr.lower(), checked.stderr


@pytest.mark.invariant("I1")
async def test_bytes_reach_the_node_while_the_client_still_sends(cluster: Cluster) -> None:
    upload = cluster.upload(1, SIZE)
    await upload.create()
    async with appending(upload) as connection:
        connection.cut()
    # What came before the cut is kept, to the byte.
    await upload.reach(3 * PART + 7)
    await upload.look()
    assert upload.offset == 3 * PART + 7
    await upload.finish()
    assert upload.refusals == []
    cluster.assert_arrived(upload)


@pytest.mark.long
@pytest.mark.invariant("I13", "I14")
@pytest.mark.parametrize("size", [ODD, 64 * PART])
async def test_a_refusal_ahead_of_the_body_reaches_the_client(cluster: Cluster, size: int) -> None:
    upload = cluster.upload(1, SIZE)
    await upload.create(first=ODD)
    client = upload.client
    for _ in range(5):
        conflict = await client.patch(upload.location, ODD + 1, bytes(size))
        assert (conflict.status, conflict.code) == (409, "offset_mismatch")
        unknown = await client.patch(f"{upload.location[:-4]}0000", 0, bytes(size))
        assert (unknown.status, unknown.code) == (404, "upload_not_found")
    await upload.finish()
    cluster.assert_arrived(upload)


@pytest.mark.long
async def test_all_requests_of_an_upload_reach_one_node(cluster: Cluster) -> None:
    # With bytes in the creation, with none, and with requests that end with a part: of those no tail tells the node.
    begun = [cluster.upload(number, 6 * ODD) for number in range(20)]
    empty = [cluster.upload(number, 6 * ODD) for number in range(20, 40)]
    even = [cluster.upload(number, 6 * PART, chunk=PART) for number in range(40, 60)]
    nodes: set[int] = set()

    async def check(upload: Uploader) -> None:
        await upload.create(first=ODD if upload in begun else None)
        holders = {cluster.holder_of(upload.location)} if upload in begun else set()
        for _ in range(3):
            await upload.look()
            assert (await upload.step()).status == 204
            if upload not in even:
                holders.add(cluster.holder_of(upload.location))
        await upload.finish()
        assert upload.refusals == []
        served = set(cluster.balancer.nodes_of(upload.location))
        assert len(served) == 1
        assert holders <= served
        nodes.update(served)

    uploads = [*begun, *empty, *even]
    for few in range(0, len(uploads), 6):
        await together(*map(check, uploads[few : few + 6]))
    assert nodes == EVERY_NODE
    cluster.assert_arrived(*uploads)


@pytest.mark.long
@pytest.mark.invariant("I1", "I2", "I3")
async def test_a_node_that_is_killed_in_the_middle(cluster: Cluster) -> None:
    victim, *others = cluster.nodes
    at_rest = await cluster.upload_on(0, size=SIZE, seed=1)  # with a tail on the victim
    in_flight = await cluster.upload_on(0, size=SIZE, seed=2)  # with parts beyond its tail
    elsewhere = [await cluster.upload_on(number, size=SIZE, seed=3 + number) for number in (1, 2)]
    async with appending(in_flight), appending(elsewhere[0]) as one, appending(elsewhere[1]) as two:
        await victim.kill()

        # Nobody else notices.
        for connection, upload in ((one, elsewhere[0]), (two, elsewhere[1])):
            await connection.send(upload.content[3 * PART + 7 :])
            assert (await connection.read_response()).status == 204
            assert upload.refusals == []
        new = [cluster.upload(10 + number, SIZE) for number in range(8)]
        await together(*(upload.run() for upload in new))
        assert not [answer for upload in new for answer in upload.refusals if answer.method == "POST"]
        assert not [upload for upload in new if 0 in cluster.balancer.nodes_of(upload.location)]

    # What lies on the victim's disk is away; whoever asks for it is told to try again, however often.
    for _ in range(6):
        waiting = await at_rest.step()
        assert waiting.status in (502, 503), waiting
        found = await at_rest.client.head(at_rest.location)
        assert (found.status, found.code) == (423, "tus_tail_missing")
        assert "retry-after" in found.headers

    # What ended with a part goes on, on another node, and leaves a tail there.
    await in_flight.look()
    assert in_flight.offset == 3 * PART
    while (await in_flight.step()).status != 204:
        await in_flight.look()
    successor = cluster.holder_of(in_flight.location)
    assert successor != 0

    await victim.start()
    await at_rest.look()
    assert cluster.holder_of(at_rest.location) == 0
    await together(at_rest.finish(), in_flight.finish())
    # The return of its first node does not call it back.
    assert set(cluster.balancer.nodes_of(in_flight.location)[-2:]) == {successor}
    cluster.assert_arrived(at_rest, in_flight, *elsewhere, *new)
    for node in others:
        assert await node.terminate() == 0


@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.invariant("I1", "I24")
async def test_a_rolling_restart_under_upload(cluster: Cluster, tmp_path: Path) -> None:
    await restart_under_upload(cluster, tmp_path, stay=True)


@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.invariant("I1", "I24")
@pytest.mark.parametrize("kind", KIND)
async def test_a_rolling_restart_of_nodes_that_spill(make_cluster: MakeCluster, kind: str, tmp_path: Path) -> None:
    async with make_cluster(kind, "--spill-after", "1m") as cluster:
        await restart_under_upload(cluster, tmp_path, stay=False)


async def restart_under_upload(cluster: Cluster, tmp_path: Path, *, stay: bool) -> None:
    """``stay``: tails stay on the disk of a node that is stopped, and their uploads wait for it."""
    over = asyncio.Event()
    uploads: list[Uploader] = []
    browser = install_tus_js()

    async def upload_on_and_on(number: int) -> None:
        rounds = 0
        while not over.is_set() or not rounds:
            seed = 1000 * number + rounds
            # Chunks that leave tails, chunks that end with a part, and all in one.
            upload = cluster.upload(seed, 20 * ODD, chunk=(ODD, PART, 20 * ODD)[seed % 3])
            uploads.append(upload)
            await upload.create(first=ODD if number % 2 else None)
            await upload.finish()
            rounds += 1

    async def upload_with_tus_js() -> None:
        source = tmp_path / "source"
        source.write_bytes(noise(99, 40 * ODD))
        first = True
        while first or not over.is_set():
            first = False
            await assert_uploads(browser, cluster, source)

    async with asyncio.TaskGroup() as clients:
        for number in range(5):
            clients.create_task(upload_on_and_on(number))
        clients.create_task(upload_with_tus_js())
        for number, node in enumerate(cluster.nodes):
            # One that the node has in hand when it is asked to stop, so that every node has something to keep.
            in_hand = await cluster.upload_on(number, size=SIZE, seed=-1 - number)
            async with appending(in_hand) as connection:
                stopping = asyncio.create_task(node.terminate())
                answer = await connection.read_response()
                assert (answer.status, answer.code) == (503, "server_draining")
            assert await stopping == 0
            uploads.append(in_hand)
            finishing = clients.create_task(in_hand.finish())
            if stay:
                assert cluster.holder_of(in_hand.location) == number
                await eventually(lambda upload=in_hand: upload.refusals != [], "its client is told to wait")  # type: ignore[misc]
            else:
                await finishing  # elsewhere, with the node still down
            await node.start()
            await finishing
        over.set()

    cluster.assert_arrived(*uploads)
    assert len(uploads) > 8


async def assert_uploads(browser: TusJs, cluster: Cluster, source: Path) -> None:
    """tus-js-client brings a file over without ever starting again."""
    options = {"chunkSize": ODD, "retryDelays": [100] * 300}
    async with browser.running(cluster.balancer.endpoint, source, options=options) as run:
        location = (await run.wait_for("success"))["url"]
    responses = [event for event in run.events if event["event"] == "response"]
    assert [event["status"] for event in responses if event["method"] == "POST"][-1:] == [201]
    assert {event["status"] for event in responses if event["method"] == "HEAD"} <= {200, 423}
    assert {event["status"] for event in responses if event["method"] == "PATCH"} <= {204, 409, 423, 502, 503, 504}
    assert cluster.content_of(location) == source.read_bytes()


@pytest.mark.long
async def test_clients_keep_their_uploads_when_no_node_lives(cluster: Cluster) -> None:
    upload = cluster.upload(1, SIZE)
    await upload.create(first=ODD)
    for node in cluster.nodes:
        await node.kill()
    for _ in range(2):
        found = await upload.client.head(upload.location)
        assert (found.status, found.headers["tus-resumable"]) == (423, "1.0.0")
        assert "retry-after" in found.headers
        assert (await upload.step()).status == 503
    assert (await upload.client.post(("Upload-Length", "1"))).status == 503
    await asyncio.gather(*(node.start() for node in cluster.nodes))
    await upload.look()
    await upload.finish()
    cluster.assert_arrived(upload)


@pytest.mark.long
@pytest.mark.parametrize("kind", KIND)
async def test_only_the_load_balancer_says_how_it_was_reached(make_cluster: MakeCluster, kind: str) -> None:
    async with make_cluster(kind, "--trust-forwarded", "--location", "absolute") as cluster:
        created = await cluster.balancer.client.post(
            ("Upload-Length", "1"),
            ("Host", "uploads.example"),
            ("Forwarded", "host=evil.example;proto=https"),
            ("X-Forwarded-Host", "evil.example"),
            ("X-Forwarded-Proto", "https"),
            ("X-Forwarded-Prefix", "/evil"),
        )
        url = urlsplit(created.location)
        assert (url.scheme, url.netloc, url.path[:7]) == ("http", "uploads.example", "/files/")
        assert (await cluster.balancer.client.request("GET", "/readyz")).status == 404


@pytest.mark.long
async def test_haproxy_sends_nothing_new_to_a_node_that_is_not_ready(make_cluster: MakeCluster) -> None:
    async with make_cluster("haproxy") as cluster:
        tails = cluster.nodes[0].data / "tails"
        tails.rename(tails.with_name("gone"))
        await eventually(lambda: "Server rindle/n1 is DOWN" in cluster.balancer.log, "HAProxy notices")
        uploads = [cluster.upload(number, SIZE) for number in range(12)]
        for upload in uploads:
            await upload.run()
            assert 0 not in cluster.balancer.nodes_of(upload.location)
            assert upload.refusals == []
        tails.with_name("gone").rename(tails)
        await eventually(lambda: "Server rindle/n1 is UP" in cluster.balancer.log, "HAProxy notices again")
        on_it = await cluster.upload_on(0, size=SIZE)
        await on_it.finish()
        cluster.assert_arrived(*uploads, on_it)


@pytest.mark.long
@pytest.mark.parametrize("how", ["reload", "restart"])
async def test_haproxy_finds_every_node_again(make_cluster: MakeCluster, how: str) -> None:
    async with make_cluster("haproxy") as cluster:
        uploads = [cluster.upload(number, SIZE) for number in range(12)]
        for upload in uploads:
            await upload.create(first=ODD)
        assert isinstance(cluster.balancer, HAProxy)
        if how == "reload":
            await cluster.balancer.reload()
        else:
            await cluster.balancer.stop()
            await cluster.balancer.start()
        for upload in uploads:
            await upload.look()
            await upload.finish()
        refused = {answer for upload in uploads for answer in upload.refusals}
        # A reload hands what was learned over. A restart forgets it; then nodes that lack the bytes are asked too.
        assert refused == (set() if how == "reload" else {Answer("HEAD", 423, "tus_tail_missing")})
        cluster.assert_arrived(*uploads)
