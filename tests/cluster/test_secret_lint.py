"""No secret in a manifest, and a lint that finds one."""

from __future__ import annotations

import secrets
from pathlib import Path

import pytest
import yaml

from ungan_dist.cluster.secret_lint import find_secrets

ROOT = Path(__file__).parents[2]
FILES = sorted(path for path in (ROOT / "cluster").rglob("*") if path.is_file() and path.suffix != ".pyc")


def test_there_is_something_to_read() -> None:
    assert len(FILES) > 10


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_no_file_of_the_cluster_folder_holds_a_secret(path: Path) -> None:
    text = path.read_text()
    assert find_secrets(text) == []
    if path.suffix == ".yaml":
        assert find_secrets(yaml.safe_load(text)) == []


@pytest.mark.parametrize(
    "content",
    [
        {"env_vars": {"RAY_AUTH_TOKEN": "abc"}},
        {"env_vars": {"AWS_SECRET_ACCESS_KEY": "abc"}},
        {"env_vars": {"HF_TOKEN": "abc"}},
        {"env": [{"name": "DB_PASSWORD", "value": "abc"}]},
        {"deep": [{"password": "abc"}]},
        {"harmless": "AKIA" + "ABCDEFGH12345678"},
        {"harmless": secrets.token_hex(32)},
        {"harmless": "ghp_" + "a1" * 18},
        {"pip": ["git+https://somebody:word@example.com/repository"]},
        "-----BEGIN OPENSSH PRIVATE KEY-----",
    ],
)
def test_a_secret_is_found_and_not_repeated(content: object) -> None:
    (found,) = find_secrets(content)
    assert "holds" in found
    for value in ("abc", "AKIA", "somebody:word"):
        assert value not in found


@pytest.mark.parametrize(
    "content",
    [
        {"env_vars": {"RAY_AUTH_TOKEN_PATH": "/home/ray/.ray/auth_token", "RAY_AUTH_MODE": "token"}},
        {"env": [{"name": "RAY_AUTH_TOKEN", "valueFrom": {"secretKeyRef": {"name": "a", "key": "b"}}}]},
        {"auth": {"ssh_private_key": "~/.ssh/id_ed25519"}},
        {"authOptions": {"mode": "token", "secretName": "ungan-token"}},
        {"working_dir": "gcs://_ray_pkg_1a2b3c4d5e6f7a8b.zip"},
        {"MetadataOptions": {"HttpTokens": "required"}},
        "https://example.com:8265/path@2",
        {},
    ],
)
def test_a_reference_is_no_secret(content: object) -> None:
    assert find_secrets(content) == []
