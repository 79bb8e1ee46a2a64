"""`rindle doctor --url`: what stands before the server is tried from outside, and told as it is."""

import asyncio
import json
from collections.abc import Mapping

import pytest

from tests.acceptance.process import run_rindle
from tests.integration.proxies.conftest import KIND, Cluster, MakeCluster

pytestmark = pytest.mark.long

WELL = {"location": "OK", "body limit": "OK", "buffering": "OK", "stickiness": "OK"}


async def examine(cluster: Cluster) -> tuple[int, dict[str, str], str]:
    """The exit code, the level of each check of the proxy, and what else was said."""
    data = cluster.nodes[0].data
    finished = await asyncio.to_thread(
        run_rindle, "doctor", "--json", "--data", data, "--url", cluster.balancer.endpoint
    )
    lines = [json.loads(line) for line in finished.stdout.splitlines()]
    levels = {line["check"]: line["level"] for line in lines if line["check"] in {*WELL, "proxy"}}
    said = "\n".join(f"{line['summary']} {line['mend'] or ''}" for line in lines if line["level"] != "OK")
    return finished.returncode, levels, said


@pytest.mark.parametrize("kind", KIND)
async def test_the_shipped_files_are_well(make_cluster: MakeCluster, kind: str) -> None:
    async with make_cluster(kind) as cluster:
        code, levels, said = await examine(cluster)
        assert (code, levels) == (0, WELL), said


@pytest.mark.parametrize(
    ("edits", "check", "level", "mend"),
    [
        (
            {"proxy_request_buffering off;": "proxy_request_buffering on;"},
            "buffering",
            "ERROR",
            "proxy_request_buffering off",
        ),
        ({"client_max_body_size 0;": "client_max_body_size 100m;"}, "body limit", "ERROR", "client_max_body_size 0"),
        ({"proxy_pass http://$rindle_node;": "proxy_pass http://rindle_nodes;"}, "stickiness", "WARN", "load-balancer"),
    ],
    ids=["buffering", "limit", "not_sticky"],
)
async def test_what_is_wrong_with_a_proxy_is_told_with_its_mend(
    make_cluster: MakeCluster, edits: Mapping[str, str], check: str, level: str, mend: str
) -> None:
    if check == "stickiness":
        edits = {**edits, "    hash $rindle_upload consistent;\n": ""}
    async with make_cluster("nginx", edits=edits) as cluster:
        code, levels, said = await examine(cluster)
        assert levels[check] == level, said
        assert mend in said
        assert code == (1 if level == "ERROR" else 0)
