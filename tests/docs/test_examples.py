"""What containers, clusters and releases are told: parsed, or run with stand-ins."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from accelerate.commands.launch import launch_command_parser
from programs import ROOT

WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))


def read_yaml(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


# ── releases ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_has_jobs_of_steps_that_bash_reads(path: Path) -> None:
    workflow = read_yaml(path)
    # YAML 1.1 reads the key `on` as true.
    assert workflow["name"] == path.stem and workflow[True] and workflow["permissions"]
    for job in workflow["jobs"].values():
        assert ("runs-on" in job) != ("uses" in job)
        for step in job.get("steps", []):
            assert ("run" in step) != ("uses" in step)
            assert re.fullmatch(r"[\w-]+/[\w-]+@[\w/.]+", step.get("uses", "a/b@c"))
            check = subprocess.run(["bash", "-n"], input=step.get("run", ""), text=True)
            assert check.returncode == 0, step


def test_only_a_tag_uploads_and_without_a_key() -> None:
    upload = read_yaml(ROOT / ".github/workflows/release.yml")["jobs"]["upload"]
    assert upload["if"] == "startsWith(github.ref, 'refs/tags/v')" and upload["needs"] == "build"
    assert upload["permissions"] == {"id-token": "write"}
    assert not any("secrets." in path.read_text() for path in WORKFLOWS)


@pytest.mark.slow
def test_the_release_builds_and_checks(tmp_path: Path) -> None:
    """The workflow's own steps, in a copy of what git would hand out."""
    steps = read_yaml(ROOT / ".github/workflows/release.yml")["jobs"]["build"]["steps"]
    by_name = {step["name"]: step["run"] for step in steps if "name" in step}
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, tmp_path / name)
    programs = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    for name in ("Build", "Check"):
        result = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", by_name[name]],
            cwd=tmp_path,
            env=os.environ | {"PATH": programs},
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-2000:]
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith("METADATA"))
        metadata = archive.read(name).decode()
    assert "Project-URL: Documentation, https://" in metadata


def test_the_citation_names_this_version() -> None:
    version = re.search(r'__version__ = "(.+)"', (ROOT / "src/tercet/version.py").read_text())
    citation = read_yaml(ROOT / "CITATION.cff")
    assert version and citation["version"] == version[1]
    assert citation["license"] == "Apache-2.0" and citation["authors"] and citation["message"]


# ── containers ───────────────────────────────────────────────────────────────────────────────────


def test_the_dockerfile_is_one_that_docker_reads() -> None:
    """Its instructions are Docker's, its stages exist, and its shell commands are shell."""
    text = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE)
    lines = [line for line in text.replace("\\\n", " ").splitlines() if line.strip()]
    known = {"ARG", "FROM", "WORKDIR", "COPY", "RUN", "ENV", "VOLUME", "USER", "ENTRYPOINT", "CMD"}
    assert {line.split()[0] for line in lines} <= known
    stages = re.findall(r"^FROM \S+ AS (\w+)$", text, re.MULTILINE)
    assert set(re.findall(r"--from=(\w+)", text)) <= set(stages)
    for line in lines:
        word, _, rest = line.partition(" ")
        if word == "RUN":
            assert subprocess.run(["sh", "-n"], input=rest, text=True).returncode == 0, rest
        if word in ("ENTRYPOINT", "CMD"):
            assert isinstance(yaml.safe_load(rest), list)
    # Without an instruction's value an earlier image's root would run the programs.
    assert lines[-3].startswith("USER ") and lines[-3] != "USER root"


@pytest.mark.parametrize(
    ("device", "index"), [("cpu", "whl/cpu"), ("cuda", "pypi.org/simple"), ("tpu", None)]
)
def test_the_dockerfile_installs_the_torch_of_its_argument(
    device: str, index: str | None, tmp_path: Path
) -> None:
    """Its last RUN of pip, with a pip that only says what it is asked for."""
    text = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
    (command,) = re.findall(r"^RUN (case .*)$", text, re.MULTILINE)
    (tmp_path / "pip").write_text('#!/bin/sh\necho "pip $*"\n')
    (tmp_path / "pip").chmod(0o755)
    given = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "DEVICE": device, "EXTRAS": "weaviate"}
    result = subprocess.run(["sh", "-c", command], env=given, capture_output=True, text=True)
    if index is None:
        assert result.returncode == 2 and "cpu or cuda, not tpu" in result.stderr
    else:
        assert index in result.stdout.splitlines()[0] and "torch" in result.stdout
        assert result.stdout.splitlines()[1].endswith("[weaviate]")


def test_the_image_gets_what_the_wheel_is_made_of() -> None:
    kept = {
        line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line[0] == "!"
    }
    assert {"setup.cfg", "pyproject.toml", "src", "data", "modeling", "retrieval"} <= kept
    assert all((ROOT / name).exists() for name in kept)


def test_the_compose_file_has_a_server_and_a_studio() -> None:
    compose = read_yaml(ROOT / "docker-compose.yml")
    server, studio = compose["services"]["weaviate"], compose["services"]["studio"]
    # scripts/weaviate.sh starts what has no profile, and every port is the loopback's.
    assert "profiles" not in server and studio["profiles"] == ["studio"]
    assert all(port.startswith("127.0.0.1:") for port in server["ports"])
    assert studio["network_mode"] == "host" and "ports" not in studio
    for service in (server, studio):
        named = [volume.split(":")[0] for volume in service["volumes"]]
        assert {name for name in named if name != "."} <= set(compose["volumes"])


# ── clusters ─────────────────────────────────────────────────────────────────────────────────────

_STANDINS = {
    "scontrol": "printf 'node7\\nnode8\\n'",
    # Once for each node, as srun does.
    "srun": 'shift; for SLURM_NODEID in 0 1; do export SLURM_NODEID; "$@"; done',
    "accelerate": 'printf "%s\\n" "$*"',
}


def test_the_slurm_script_starts_a_launcher_a_node(tmp_path: Path) -> None:
    for name, body in _STANDINS.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{body}\n")
        (tmp_path / name).chmod(0o755)
    given = {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "SLURM_JOB_NODELIST": "node[7-8]",
        "SLURM_NNODES": "2",
        "SLURM_GPUS_ON_NODE": "4",
        "SLURM_JOB_ID": "31",
    }
    command = ["bash", str(ROOT / "examples/slurm.sh"), "a recipe.yaml", "--seed", "7"]
    result = subprocess.run(command, env=given, cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    ranks = []
    for line in result.stdout.splitlines():
        assert line.endswith("adapt a recipe.yaml --seed 7")
        asked = launch_command_parser().parse_args(line.split()[1:])
        assert asked.num_processes == 8 and asked.num_machines == 2 and asked.module
        assert asked.main_process_ip == "node7" and asked.training_script == "tercet"
        ranks.append(asked.machine_rank)
    assert ranks == [0, 1]
    nothing = subprocess.run(command[:2], env=given, capture_output=True, text=True)
    assert nothing.returncode == 2 and "usage: sbatch" in nothing.stderr


def test_the_kubernetes_job_starts_a_launcher_a_pod() -> None:
    service, job = yaml.safe_load_all((ROOT / "examples/kubernetes-job.yaml").read_text())
    assert service["kind"] == "Service" and job["kind"] == "Job"
    spec = job["spec"]
    (container,) = spec["template"]["spec"]["containers"]
    assert container["command"] == ["accelerate", "launch"]
    ranked = [arg.replace("$(JOB_COMPLETION_INDEX)", "1") for arg in container["args"]]
    asked = launch_command_parser().parse_args(ranked)
    assert asked.num_machines == spec["completions"] == spec["parallelism"]
    gpus = container["resources"]["limits"]["nvidia.com/gpu"]
    assert asked.num_processes == asked.num_machines * gpus
    assert asked.main_process_ip == f"{job['metadata']['name']}-0.{service['metadata']['name']}"
    assert spec["template"]["spec"]["subdomain"] == service["metadata"]["name"]
    volumes = {volume["name"] for volume in spec["template"]["spec"]["volumes"]}
    assert {mount["name"] for mount in container["volumeMounts"]} == volumes


def test_the_single_file_script_names_its_dependencies() -> None:
    text = (ROOT / "examples/adapt.py").read_text()
    found = re.match(r"# /// script\n((?:#.*\n)+?)# ///\n", text)
    assert found
    block = tomllib.loads(re.sub(r"^# ?", "", found[1], flags=re.MULTILINE))
    assert block == {"requires-python": ">=3.11", "dependencies": ["tercet"]}
