"""The files for Ray's cluster launcher: Ray's schema and preparation, our rules, and faults that they must find."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

FOLDER = Path(__file__).parents[2] / "cluster/manifests/launcher"
NAMES = ("aws", "gcp", "onprem")
RAY = metadata.version("ray")

Document = dict[str, Any]


def load(name: str) -> Document:
    return yaml.safe_load((FOLDER / f"{name}.yaml").read_text())


def find_faults(document: Document) -> list[str]:
    """List violations of our rules: a token per node, the dashboard on loopback, the locked image, valid limits."""
    found = []
    starts = document["head_start_ray_commands"] + document["worker_start_ray_commands"]
    starts = [command for command in starts if "ray start" in command]
    if len(starts) != 2 or not all("RAY_AUTH_MODE=token" in command for command in starts):
        found.append("token mode")
    if not any(path.endswith("/.ray/auth_token") for path in document.get("file_mounts", {})):
        found.append("token file")
    head = next(command for command in starts if "--head" in command)
    if "--dashboard-host=127.0.0.1" not in head:
        found.append("dashboard")
    image = document.get("docker", {}).get("image")
    if image is not None and not re.fullmatch(rf".+:{re.escape(RAY)}", image):
        found.append("image")
    for node in document.get("available_node_types", {}).values():
        if node["min_workers"] > node["max_workers"]:
            found.append("limits")
        if not node["node_config"]:
            found.append("node")
    if document.get("min_workers", 0) > document["max_workers"]:
        found.append("limits")
    return found


@pytest.mark.parametrize("name", NAMES)
def test_a_file_is_accepted_by_ray_and_our_rules(name: str) -> None:
    prepared = prepare_config(load(name))
    validate_config(prepared)
    assert find_faults(load(name)) == []
    workers = sum(node.get("max_workers", 0) for node in prepared["available_node_types"].values())
    assert workers >= 2
    # the launcher's defaults would install an unreleased Ray
    commands = str([prepared[key] for key in ("setup_commands", "head_setup_commands", "worker_setup_commands")])
    assert "ray-wheels" not in commands


def change(name: str, mutate: Callable[[Document], None]) -> Document:
    document = load(name)
    before = copy.deepcopy(document)
    mutate(document)
    assert document != before
    return document


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "mutate",
    [
        lambda d: d.update(max_worker=3),
        lambda d: d["auth"].update(ssh_usr="ubuntu"),
        lambda d: d.update(max_workers="two"),
        lambda d: d.pop("provider"),
        lambda d: d.update(idle_timeout_minutes=-1),
    ],
    ids=["misspelt key", "misspelt key inside", "words for a number", "no provider", "negative time"],
)
def test_rays_schema_finds_a_fault(name: str, mutate: Callable[[Document], None]) -> None:
    document = change(name, mutate)
    with pytest.raises((jsonschema.ValidationError, KeyError, AttributeError, TypeError)):
        validate_config(prepare_config(document))


@pytest.mark.parametrize("name", ["aws", "gcp"])
def test_rays_preparation_finds_contradictory_limits(name: str) -> None:
    document = change(name, lambda d: d["available_node_types"]["gpu"].update(min_workers=3))
    with pytest.raises(ValueError, match="max_workers"):
        validate_config(prepare_config(document))
    assert find_faults(document) == ["limits"]
    document = change(name, lambda d: d.update(head_node_type="chief"))
    with pytest.raises((ValueError, KeyError)):
        validate_config(prepare_config(document))


def _replace(key: str, old: str, new: str) -> Callable[[Document], None]:
    def mutate(document: Document) -> None:
        document[key] = [command.replace(old, new) for command in document[key]]

    return mutate


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("mutate", "rule"),
    [
        (_replace("worker_start_ray_commands", "RAY_AUTH_MODE=token ", ""), "token mode"),
        (_replace("head_start_ray_commands", "RAY_AUTH_MODE=token", "RAY_AUTH_MODE=disabled"), "token mode"),
        (_replace("head_start_ray_commands", "127.0.0.1", "0.0.0.0"), "dashboard"),
        (lambda d: d.update(file_mounts={"/home/ray/data": "~/data"}), "token file"),
    ],
    ids=["no token on workers", "authentication off", "public dashboard", "no token file"],
)
def test_our_rules_find_a_fault(name: str, mutate: Callable[[Document], None], rule: str) -> None:
    assert rule in find_faults(change(name, mutate))


@pytest.mark.parametrize("name", ["aws", "gcp"])
def test_our_rules_find_another_image(name: str) -> None:
    assert find_faults(change(name, lambda d: d["docker"].update(image="REGISTRY/ungan-dist:2.59.0"))) == ["image"]
    assert find_faults(change(name, lambda d: d["docker"].update(image="REGISTRY/ungan-dist:latest"))) == ["image"]
