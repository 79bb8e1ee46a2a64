"""What ops/ ships to deploy rindle with: files that their programs accept, and that say of rindle what is so."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import aioboto3
import click
import kubernetes_validate
import pytest
import yaml

from rindle.cli.main import cli
from rindle.settings import PREFIX, Settings
from tests.acceptance.process import RINDLE, ROOT
from tests.required import missing
from tests.s3 import S3Server

OPS = ROOT / "ops"
COMPOSE = OPS / "docker" / "compose.yaml"
MANIFESTS = [document for document in yaml.safe_load_all((OPS / "kubernetes" / "rindle.yaml").read_text()) if document]
UNITS = sorted((OPS / "systemd").iterdir())
VERSIONS = ["1.29", "1.31"]


def parse(words: list[str]) -> None:
    """Fail if these are not words that the command line takes."""
    command: click.Command = cli
    context = click.Context(cli, info_name="rindle")
    while isinstance(command, click.Group):
        name, *words = words
        found = command.get_command(context, name)
        assert found is not None, name
        command = found
    command.make_context(command.name, list(words))


def commands() -> Iterator[tuple[str, list[str]]]:
    """Every rindle command line in the files, with where it stands."""
    for unit in UNITS:
        for line in re.findall(r"^ExecStart=/opt/rindle/bin/rindle (.*)$", unit.read_text(), re.MULTILINE):
            yield unit.name, line.split()
    for manifest in MANIFESTS:
        for container in containers(manifest):
            yield manifest["kind"], container["args"]
    for name, service in yaml.safe_load(COMPOSE.read_text())["services"].items():
        if service.get("image") == "rindle":
            yield f"compose {name}", service.get("command", ["serve"])
    yield "Dockerfile", json.loads(re.findall(r"^CMD (\[.*\])$", dockerfile(), re.MULTILINE)[0])


def containers(manifest: dict[str, Any]) -> Iterator[dict[str, Any]]:
    spec = manifest.get("spec", {})
    pod = spec.get("jobTemplate", {}).get("spec", spec).get("template", {}).get("spec", {})
    yield from pod.get("initContainers", [])
    yield from pod.get("containers", [])


def dockerfile() -> str:
    return (OPS / "docker" / "Dockerfile").read_text()


def test_every_command_line_is_one() -> None:
    found = list(commands())
    assert len(found) == 10
    for _, words in found:
        parse(words)


def test_every_setting_is_one() -> None:
    names = {
        name
        for path in OPS.rglob("*")
        if path.is_file()
        for name in re.findall(rf"\b{PREFIX}([A-Z_]+)\b", path.read_text())
    }
    assert names
    assert {name.lower() for name in names} - {"config"} <= set(Settings.model_fields)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("manifest", MANIFESTS, ids=lambda manifest: manifest["kind"])
def test_kubernetes_takes_the_manifests(manifest: dict[str, Any], version: str) -> None:
    kubernetes_validate.validate(manifest, version, strict=True)


def test_pods_are_restricted_and_end_after_what_arrived_is_kept() -> None:
    (node,) = [manifest for manifest in MANIFESTS if manifest["kind"] == "StatefulSet"]
    (settings,) = [manifest["data"] for manifest in MANIFESTS if manifest["kind"] == "ConfigMap"]
    pod = node["spec"]["template"]["spec"]
    grace = int(settings["RINDLE_SHUTDOWN_GRACE"].removesuffix("s"))
    (container,) = pod["containers"]
    pause = int(container["lifecycle"]["preStop"]["exec"]["command"][1])
    assert pod["terminationGracePeriodSeconds"] > grace + pause
    for manifest in MANIFESTS:
        for one in containers(manifest):
            assert one["securityContext"]["capabilities"] == {"drop": ["ALL"]}
            assert one["securityContext"]["readOnlyRootFilesystem"]
            assert "memory" in one["resources"]["limits"]


def test_the_balancer_of_the_compose_file_finds_its_nodes() -> None:
    composed = yaml.safe_load(COMPOSE.read_text())
    addresses = {
        service["networks"]["rindle"]["ipv4_address"]
        for name, service in composed["services"].items()
        if name.startswith("node-")
    }
    named = re.findall(r"^    server \S+ ([0-9.]+):8080", (OPS / "haproxy" / "rindle.cfg").read_text(), re.MULTILINE)
    assert addresses == set(named)
    for service in composed["services"].values():
        for volume in service.get("volumes", []):
            source = volume.partition(":")[0]
            assert source in composed["volumes"] or (COMPOSE.parent / source).is_file()


def test_the_image_gets_what_it_copies() -> None:
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = [
        line.split()[1:-1] for line in dockerfile().splitlines() if line.startswith("COPY ") and "--from" not in line
    ]
    for source in (name for names in copied for name in names):
        assert (ROOT / source).exists()
        assert source in allowed
    assert "USER 10001:10001" in dockerfile()


def test_systemd_takes_the_units(tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        missing("systemd", "there is no systemd-analyze")
    for unit in UNITS:
        (tmp_path / unit.name).write_text(unit.read_text().replace("/opt/rindle/bin/rindle", RINDLE[0]))
    checked = subprocess.run(
        [analyze, "verify", "--man=no", "--recursive-errors=one", *(str(tmp_path / unit.name) for unit in UNITS)],
        check=False,
        capture_output=True,
        text=True,
    )
    assert (checked.returncode, checked.stderr) == (0, "")


def test_the_grace_of_systemd_is_longer_than_the_servers() -> None:
    (stop,) = re.findall(r"^TimeoutStopSec=(\d+)s$", (OPS / "systemd" / "rindle.service").read_text(), re.MULTILINE)
    assert timedelta(seconds=int(stop)) > Settings.model_fields["shutdown_grace"].default


async def test_s3_takes_the_lifecycle_rule_and_it_is_longer_than_uploads_live(moto: S3Server) -> None:
    rule = json.loads((OPS / "s3" / "lifecycle.json").read_text())
    days = rule["Rules"][0]["AbortIncompleteMultipartUpload"]["DaysAfterInitiation"]
    assert timedelta(days=days) > Settings.model_fields["expires_in"].default
    bucket = await moto.new_bucket()
    sdk = aioboto3.Session().client("s3", endpoint_url=moto.endpoint)
    async with sdk as client, moto.store(bucket, "a/prefix") as store:
        assert await store.find_multipart_expiry() is None
        await client.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration=rule)
        assert await store.find_multipart_expiry() == timedelta(days=days)
        rule["Rules"][0]["Filter"]["Prefix"] = "another/"
        await client.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration=rule)
        assert await store.find_multipart_expiry() is None


def test_the_policy_is_the_one_of_the_documents() -> None:
    shipped = json.loads((OPS / "s3" / "policy.json").read_text())
    (told,) = re.findall(
        r"^```json\n(.*?)^```$", (ROOT / "docs" / "how-to" / "s3.md").read_text(), re.MULTILINE | re.DOTALL
    )
    actions = {action for statement in shipped["Statement"] for action in statement["Action"]}
    said = {action for statement in json.loads(told)["Statement"] for action in statement["Action"]}
    assert actions - said == {"s3:GetLifecycleConfiguration"}  # which only the doctor asks for
    assert said <= actions
