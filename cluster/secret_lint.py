"""Find secrets in text that others can read: commands of jobs, and manifests."""

from __future__ import annotations

import re

from ungan_dist.urls import SECRET_NAME

_SECRETS = {
    # a value that starts with $, ~ or / is a reference
    "a literal value of a secret variable": re.compile(
        r"\b[A-Z0-9_]*(TOKEN|SECRET|PASSWORD|ACCESS_KEY|API_KEY|PRIVATE_KEY)(,\s*value)?"
        r"['\"]?\s*[=:][ \t]*['\"]?[^\s'\"$~/{]"
    ),
    "a private key": re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY"),
    "a cloud access key": re.compile(r"\b(AKIA|ASIA|AROA)[0-9A-Z]{16}\b|\bAIza[0-9A-Za-z_-]{35}\b"),
    "a service token": re.compile(r"\b(ghp|gho|ghs|glpat|hf|xox[abp])[_-][0-9A-Za-z-]{16,}\b"),
    "a Ray token": re.compile(r"(?<![0-9a-f])(?<!sha256:)[0-9a-f]{64}(?![0-9a-f])"),
    "a URL with a password": re.compile(r"(://|%3A%2F%2F)[^/\s:@]*(:|%3A)[^/\s]+(@|%40)", re.IGNORECASE),
    "a URL option with a secret": re.compile(rf"[?&;]{SECRET_NAME}=[^\s&;'\"$~/{{<]", re.IGNORECASE),
}


def find_secrets(text: str) -> list[str]:
    """Name the kinds of secrets in a text, never their values."""
    return [kind for kind, pattern in _SECRETS.items() if pattern.search(text)]
