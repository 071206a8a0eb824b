"""The secret lint finds secrets, and the cluster folder has none."""

from __future__ import annotations

from pathlib import Path

import pytest

from ungan_dist.cluster.secret_lint import find_secrets

ROOT = Path(__file__).parents[2]
FILES = sorted(path for path in (ROOT / "cluster").rglob("*") if path.is_file() and path.suffix != ".pyc")


def test_there_are_files_to_check() -> None:
    assert len(FILES) > 10


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_no_file_of_the_cluster_folder_contains_a_secret(path: Path) -> None:
    assert find_secrets(path.read_text()) == []


@pytest.mark.parametrize(
    "text",
    [
        "RAY_AUTH_TOKEN: abc",
        "export AWS_SECRET_ACCESS_KEY=abc",
        '{"env_vars": {"HF_TOKEN": "abc"}}',
        "- {name: DB_PASSWORD, value: abc}",
        "AKIA" + "ABCDEFGH12345678",
        "0123456789abcdef" * 4,  # the form of a Ray token
        "ghp_" + "a1" * 18,
        "git+https://somebody:word@example.com/repository",
        "git+https://somebody:wo:rd@example.com/repository",
        "s3://bucket/runs?endpoint_override=http%3A%2F%2Fsomebody%3Aword%40host",
        "abfs://container/runs?sv=1&sas=abc",
        "https://host/file?X-Amz-Signature=abc",
        "DefaultEndpointsProtocol=https;AccountName=me;AccountKey=abc",
        "s3://bucket/runs?proxy_options=abc",
        "-----BEGIN OPENSSH PRIVATE KEY-----",
    ],
)
def test_a_secret_is_found_and_not_repeated(text: str) -> None:
    (found,) = find_secrets(text)
    for value in ("abc", "AKIA", "somebody:word"):
        assert value not in found


@pytest.mark.parametrize(
    "text",
    [
        "RAY_AUTH_TOKEN_PATH: /home/ray/.ray/auth_token\nRAY_AUTH_MODE: token",
        "- {name: RAY_AUTH_TOKEN, valueFrom: {secretKeyRef: {name: a, key: b}}}",
        'export RAY_AUTH_TOKEN="$(kubectl get secret)"',
        "ssh_private_key: ~/.ssh/id_ed25519",
        "authOptions: {mode: token, secretName: ungan-token}",
        "working_dir: gcs://_ray_pkg_1a2b3c4d5e6f7a8b.zip",
        "MetadataOptions: {HttpTokens: required}",
        "https://example.com:8265/path@2",
        "s3://bucket/runs?endpoint_override=http://minio:9000&region=eu-west-1",
        "https://host/file?sas=$SAS&design=1",
        "",
    ],
)
def test_a_reference_is_no_secret(text: str) -> None:
    assert find_secrets(text) == []
