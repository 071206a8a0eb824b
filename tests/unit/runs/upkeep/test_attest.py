"""A signed attestation of a run: every changed file is found and named, and no other key passes."""

from __future__ import annotations

import base64
import json
import os
import platform
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from attested import assert_verdicts_are_printed, read, signed_again, state_of, verified
from in_process import assert_refused, run_command

from ungan_dist import store
from ungan_dist.files import hash_file
from ungan_dist.runs.upkeep import attestation

pytest.importorskip("cryptography", reason="attestations need cryptography: make setup")


def test_an_intact_run_passes_and_the_signer_is_named(place: Path) -> None:
    content = read(place)
    key, count = content["public_key"], len(content["files"])
    matches = f"{count} of {count} files match the attestation, signed on {content['date']} by the key"
    pinned = verified(place, "--public-key", place / "key.pub")
    assert pinned.returncode == 0
    assert pinned.stdout == f"{matches} of {place / 'key.pub'} ({key})\nCOMPLETE\n"
    assert "integrity" not in pinned.stderr
    assert_verdicts_are_printed(pinned, place / "out/run")
    unpinned = verified(place)
    assert (unpinned.returncode, unpinned.stdout) == (0, f"{matches} {key}\nCOMPLETE\n")
    assert "the key is not pinned: this shows integrity, not the author" in unpinned.stderr
    assert stat.S_IMODE((place / "key").stat().st_mode) == 0o600


def test_every_attested_file_that_changes_by_a_byte_is_named(place: Path) -> None:
    run, files = place / "out/run", read(place)["files"]
    table = json.loads((run / "table.json").read_bytes())
    methods = [row["method"] for row in table["rows"]]
    wanted = {"config.json", "membership.json", "membership.npy", "report.json"}
    wanted |= {"table.json", "table.md", "timings.json", "report.html"}
    wanted |= {f"figures/{path.name}" for path in (run / "figures").iterdir()}
    assert {"figures/forest.svg"} < wanted
    for method in methods:
        wanted |= {f"results/0/{method}.json", f"models/0/{method}.safetensors", f"log_odds/0/{method}.npy",
                   f"log_odds/0/{method}-unseen.npy"}  # fmt: skip
    wanted |= {f"../{path.relative_to(place / 'out')}" for path in (place / "out/shadows").iterdir()}
    assert set(files) == wanted
    for name in files:
        path = (run / name).resolve()
        content = path.read_bytes()
        for position in (0, len(content) // 2, len(content) - 1):
            changed = bytearray(content)
            changed[position] ^= 1
            path.write_bytes(changed)
            found = verified(place)
            assert (found.returncode, found.stdout) == (1, "CORRUPT\n"), name
            [line] = [line for line in found.stderr.splitlines() if line.startswith("corrupt: ")]
            assert f"{name.removeprefix('../')} differs" in line
        path.unlink()
        found = verified(place)
        words, code = "is missing, and was attested", 1
        if name.startswith("../"):
            words, code = "not here and were not checked", 0
        elif name == "config.json":  # nothing else says that a folder is a run
            words, code = "not a run folder", 2
        assert words in found.stderr
        assert found.returncode == code
        path.write_bytes(content)
    assert verified(place).returncode == 0


def test_openssl_finds_the_signature_good(place: Path) -> None:
    """An independent program, over bytes that are made from the words of the documentation alone."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    content = read(place)
    (place / "signature").write_bytes(base64.b64decode(content.pop("signature")))
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    for end, code in (("", 0), (" ", 1)):
        (place / "bytes").write_text(text + end)
        words = ["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", "key.pub", "-rawin", "-in", "bytes"]
        done = subprocess.run([*words, "-sigfile", "signature"], cwd=place, capture_output=True, text=True)
        assert done.returncode == code, done.stderr


def test_a_key_of_openssl_signs(place: Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    words = ["openssl", "genpkey", "-algorithm", "ed25519", "-out", "other"]
    subprocess.run(words, cwd=place, check=True, capture_output=True)
    (place / "other").chmod(0o600)
    public = subprocess.run(["openssl", "pkey", "-in", "other", "-pubout"], cwd=place, check=True, capture_output=True)
    (place / "other.pub").write_bytes(public.stdout)
    content = b"some bytes"
    signature, key = attestation.sign(content, place / "other")
    from ungan_dist.runs.upkeep.signing import is_signature, read_public_key

    assert read_public_key(place / "other.pub") == key
    assert is_signature(content, signature, key)
    assert not is_signature(content + b"!", signature, key)
    refused = verified(place, "--public-key", place / "other.pub")
    assert (refused.returncode, refused.stdout) == (1, "CORRUPT\n")
    assert "signed by another key" in refused.stderr


def test_an_attestation_that_was_changed_is_refused(place: Path) -> None:
    path, content = place / "out/run/attestation.json", read(place)
    other = "A" * 43 + "="
    for name in content:
        if name in ("schema", "schema_version"):
            continue
        changed: Any = {**content[name], "x": "y"} if isinstance(content[name], dict) else other
        store.write_json(path, content | {name: changed})
        found = verified(place)
        assert (found.returncode, found.stdout) == (1, "CORRUPT\n"), name
    for damaged in (path.read_bytes()[:-30], b"[]", b"{}", b"\xff"):
        path.write_bytes(damaged)
        assert verified(place).returncode == 1
    path.unlink()
    assert_refused(verified(place), "attestation.json cannot be read")


def test_verdicts_that_are_not_those_of_the_table_are_found(place: Path) -> None:
    verdicts = read(place)["verdicts"]
    table = json.loads((place / "out/run/table.json").read_bytes())
    assert verdicts == {row["method"]: row["verdict"]["outcome"] for row in table["rows"]}
    signed_again(place, verdicts=verdicts | {"ungan": "equivalent, indeed"})
    found = verified(place, "--public-key", place / "key.pub")
    assert found.returncode == 1
    assert "the attested verdicts are not those of" in found.stderr


@pytest.mark.parametrize("name", ["../../secret", "/etc/passwd", "../shadows/../../secret", "../data/x", "a/../../b"])
def test_no_file_outside_of_a_run_is_read(place: Path, name: str) -> None:
    (place / "secret").write_text("secret")
    signed_again(place, files=read(place)["files"] | {name: hash_file(place / "secret")})
    found = verified(place)
    assert found.returncode == 1
    assert "names a file outside of a run" in found.stderr


def test_the_run_folder_alone_is_enough_under_another_name(place: Path, tmp_path: Path) -> None:
    moved = shutil.copytree(place / "out/run", tmp_path / "elsewhere/of another name")
    found = verified(place, run=moved)
    count, total = len(list((place / "out/shadows").iterdir())), len(read(place)["files"])
    assert (found.returncode, found.stdout.splitlines()[-1]) == (0, "COMPLETE")
    assert found.stdout.startswith(f"{total - count} of {total} files match")
    assert f" and {count - 1} more of the shadow models are not here and were not checked" in found.stderr
    (moved / "models/0/ungan.safetensors").write_bytes(b"x")
    assert "ungan.safetensors differs" in verified(place, run=moved).stderr


def test_a_purge_leaves_what_can_be_checked_and_says_the_rest(place: Path) -> None:
    run = place / "out/run"
    assert run_command("purge", run).returncode == 0
    assert (run / "attestation.json").exists(), "it holds no personal data"
    moved = run.rename(place / "out/renamed")
    options = ("verify", moved, "--attestation", moved / "attestation.json")
    found = run_command(*options)
    assert (found.returncode, found.stdout.splitlines()[-1]) == (0, "PURGED")
    files = json.loads((moved / "attestation.json").read_bytes())["files"]
    gone = [name for name in files if not (moved / name).exists() and not name.startswith("../")]
    assert f"the purge removed {sorted(gone)[0]} and {len(gone) - 1} more" in found.stderr
    assert {"log_odds/0/ungan.npy", "membership.npy"} <= set(gone)
    rewritten = {name for name in files if (moved / name).exists() and hash_file(moved / name) != files[name]}
    assert {"report.html", "report.json", "results/0/ungan.json"} <= rewritten
    assert f"the purge rewrote {min(rewritten)} and {len(rewritten) - 1} more" in found.stderr
    assert_verdicts_are_printed(found, moved)
    assert {"table.json", "config.json", "models/0/ungan.safetensors"}.isdisjoint(gone)
    for name in ("table.json", "models/0/ungan.safetensors"):
        content = (moved / name).read_bytes()
        (moved / name).write_bytes(content + b" ")
        assert run_command(*options).stdout == "CORRUPT\n"
        (moved / name).unlink()
        assert "is missing" in run_command(*options).stderr
        (moved / name).write_bytes(content)
    store.write_json(moved / "purging.json", {"removed": []})
    assert "finishes it" in run_command(*options).stderr


def test_an_attestation_of_another_run_does_not_fit(place: Path, tmp_path: Path) -> None:
    """Both are signed by the same author; each fits its own run alone."""
    other = shutil.copytree(place, tmp_path / "other")
    table = json.loads((other / "out/run/table.json").read_bytes())
    table["rows"][-1]["verdict"]["outcome"] = "equivalent"
    store.write_json(other / "out/run/table.json", table)
    files = read(place)["files"] | {"table.json": hash_file(other / "out/run/table.json")}
    verdicts = read(place)["verdicts"] | {table["rows"][-1]["method"]: "equivalent"}
    assert verdicts != read(place)["verdicts"]
    signed_again(other, files=files, verdicts=verdicts)
    for run, attested, code in ((other, other, 0), (place, other, 1), (other, place, 1)):
        found = verified(attested, "--public-key", place / "key.pub", run=run / "out/run")
        assert found.returncode == code
        assert ("table.json differs" in found.stderr) == bool(code)
    for name in ("table.json", "config.json"):  # or an attestation of nothing would fit every run
        signed_again(other, files={one: hash for one, hash in files.items() if one != name})
        assert "lacks the hash of config.json or table.json" in verified(other, run=other / "out/run").stderr


def test_a_swapped_key_is_refused(place: Path) -> None:
    assert run_command("attest", "--new-key", place / "mine").returncode == 0
    content = read(place)
    signature, mine = attestation.sign(attestation.encode(content), place / "mine")
    path = place / "out/run/attestation.json"
    store.write_json(path, content | {"signature": signature})  # signed by another than it names
    assert "was altered: its signature does not fit" in verified(place).stderr
    content["public_key"] = mine
    signature, _ = attestation.sign(attestation.encode(content), place / "mine")
    store.write_json(path, content | {"signature": signature})
    found = verified(place, "--public-key", place / "key.pub")
    assert (found.returncode, found.stdout) == (1, "CORRUPT\n")
    assert f"was signed by another key, {mine}" in found.stderr
    assert "signed verdict" not in found.stderr
    assert verified(place, "--public-key", place / "mine.pub").returncode == 0


def test_what_is_not_attested_is_named(place: Path) -> None:
    run = place / "out/run"
    (run / "figures/forged.svg").write_text("<svg/>")
    (run / "extra/deep").mkdir(parents=True)
    (run / "extra/deep/page.html").write_text("x")
    found = verified(place)
    assert (found.returncode, state_of(found)) == (0, "COMPLETE")
    [line] = [line for line in found.stderr.splitlines() if "does not cover" in line]
    named = set(line.partition("does not cover ")[2].split(", "))
    assert {"figures/forged.svg", "extra/", "status.json"} <= named
    assert not named & {*read(place)["files"], "attestation.json"}


def test_a_link_counts_by_its_content(place: Path, tmp_path: Path) -> None:
    page = place / "out/run/report.html"
    page.rename(tmp_path / "page.html")
    page.symlink_to(tmp_path / "page.html")
    assert verified(place).returncode == 0
    (tmp_path / "page.html").write_text("forged")
    assert "report.html differs" in verified(place).stderr
    (tmp_path / "page.html").unlink()
    assert "report.html is missing" in verified(place).stderr


def test_an_attestation_holds_nothing_personal(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = read(place)
    assert set(content) == {
        *("schema", "schema_version", "date", "run", "data", "report", "status", "verdicts", "versions", "files"),
        *("rest", "public_key", "signature"),
    }
    # a short name may be a part of random letters
    text = json.dumps(content | {"public_key": "", "signature": ""})
    assert str(place) not in text
    assert f"{Path.home()}/" not in text
    for name in (platform.node(), os.environ.get("USER", "nobody's")):
        assert not re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text)
    hashes = [*content["files"].values(), *content["rest"].values()]
    assert all(re.fullmatch(r"[0-9a-f]{64}", value) for value in hashes)
    assert set(content["versions"]) >= {"torch", "numpy", "python", "CPU"}
    table = json.loads((place / "out/run/table.json").read_bytes())
    monkeypatch.setattr(attestation, "FEW", table["sizes"]["forget"] + 1)
    assert "single people" in attestation.read_verdicts(table)


def test_what_is_not_complete_is_not_attested(place: Path) -> None:
    run, key = place / "out/run", place / "key"
    (run / "attestation.json").unlink()
    (run / "results/0/ungan.json").unlink()
    partial = run_command("attest", run, "--key", key)
    assert (partial.returncode, partial.stdout) == (3, "")
    assert "PARTIAL: not attested" in partial.stderr
    (run / "log_odds/0/retrain.npy").write_bytes(b"x")
    corrupt = run_command("attest", run, "--key", key)
    assert corrupt.returncode == 1
    assert "retrain, seed 0" in corrupt.stderr
    with store.run_lock(run):
        assert_refused(run_command("attest", run, "--key", key), "at work")
    assert not (run / "attestation.json").exists()


def test_unsuitable_keys_are_refused_with_the_remedy(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, key = place / "out/run", place / "key"
    assert_refused(run_command("attest", "--new-key", key), "exists and is not overwritten")
    assert_refused(run_command("attest", "--new-key", place / "no/key"), "No such file")
    assert_refused(run_command("attest", run), "--new-key KEY makes a key")
    assert_refused(run_command("attest", run, "--key", place / "absent"), "cannot be read")
    public = run_command("attest", run, "--key", place / "key.pub")
    assert_refused(public, "key.pub is a public key", "the same name without .pub")
    assert "chmod" not in public.stderr
    (place / "copy").write_text("no key")
    assert_refused(run_command("attest", run, "--key", place / "copy"), "no private key", "--new-key")
    assert_refused(verified(place, "--public-key", key), "no public key", "-pubout")
    key.chmod(0o640)
    assert_refused(run_command("attest", run, "--key", key), f"chmod 600 {key}")
    assert_refused(run_command("verify", run, "--public-key", key), "--attestation")
    assert_refused(run_command("verify", run, "--quick", "--attestation", key), "exclude")
    assert_refused(verified(place, run=place), "not a run folder")
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives", None)
    for done in (run_command("attest", "--new-key", place / "x"), verified(place)):
        assert_refused(done, "pip install 'ungan-dist[attest]'")
