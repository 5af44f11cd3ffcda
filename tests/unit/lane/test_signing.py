"""Signed candidates: git verifies them, and the same input gives the same commit."""

from __future__ import annotations

import asyncio
import base64
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.support.repo import Repo
from tidegate.api import reasons
from tidegate.api.views import LaneView
from tidegate.clients.git import GitThreads
from tidegate.clients.git_objects import Objects
from tidegate.clients.signing import SigningKey, read_key
from tidegate.errors import NotFound, PermanentError
from tidegate.lane.candidate import COMMITTER, FAST_FORWARD, MERGE_COMMIT, REBASE, SQUASH, Change, form
from tidegate.lane.decide.model import Formed
from tidegate.lane.signing import Signers

URL = "https://git.example.org/team/mathkit.git"


def key(tmp_path: Path, *words: str, passphrase: str = "") -> str:
    file = tmp_path / "-".join(("key", *words))
    subprocess.run(["ssh-keygen", "-q", "-N", passphrase, "-f", str(file), *words], check=True)
    return file.read_text()


@pytest.fixture(params=[("-t", "ed25519"), ("-t", "rsa", "-b", "2048"), ("-t", "rsa", "-b", "2048", "-m", "PEM")])
def signer(request: pytest.FixtureRequest, tmp_path: Path) -> SigningKey:
    return read_key(key(tmp_path, *request.param), "Secret 'k'")


def verified(repo: Repo, commit: str, public: str, tmp_path: Path) -> bool:
    allowed = tmp_path / "allowed"
    allowed.write_text(f'{COMMITTER.email} namespaces="git" {public}\n')
    config = ("-c", f"gpg.ssh.allowedSignersFile={allowed}")
    done = subprocess.run(["git", *config, "verify-commit", commit], cwd=repo.directory, capture_output=True)
    return done.returncode == 0


def candidate(repo: Repo, base: str, change: Change) -> str:
    with Objects(repo.client()) as objects:
        made = form(objects, base, change)
    assert isinstance(made, Formed)
    return made.commit


@pytest.mark.parametrize("strategy", [REBASE, SQUASH, MERGE_COMMIT])
def test_git_verifies_every_commit_that_the_lane_made_and_it_is_the_same_each_time(
    tmp_path: Path, signer: SigningKey, strategy: str
) -> None:
    repo = Repo(tmp_path / "repo")
    root = repo.commit({"a": "a"})
    base = repo.commit({"a": "a", "b": "b"}, root)
    one = repo.commit({"a": "a", "c": "c"}, root, message="One \u00fc")
    two = repo.commit({"a": "a", "c": "c", "d": "d"}, one, message="Two")
    change = Change(two, strategy, trailers=(("Tidegate-Job", "n/j"),), signer=signer)
    commit = candidate(repo, base, change)
    assert candidate(repo, base, change) == commit
    own = repo.git("rev-list", "--committer=Tidegate", f"{base}..{commit}").splitlines()
    assert len(own) == (2 if strategy == REBASE else 1)
    for oid in own:
        assert verified(repo, oid, signer.public, tmp_path)
    assert not verified(repo, one, signer.public, tmp_path)
    other = read_key(key(tmp_path, "-t", "ed25519", "-C", "other"), "Secret 'k'")
    assert not verified(repo, commit, other.public, tmp_path)
    assert candidate(repo, base, Change(two, strategy, trailers=change.trailers)) != commit
    repo.set("refs/heads/main", commit)
    repo.git("fsck", "--strict")


def test_a_fast_forward_lands_the_source_as_it_is(tmp_path: Path, signer: SigningKey) -> None:
    repo = Repo(tmp_path / "repo")
    base = repo.commit({"a": "a"})
    source = repo.commit({"a": "b"}, base)
    assert candidate(repo, base, Change(source, FAST_FORWARD, signer=signer)) == source


@pytest.mark.parametrize(
    ("words", "passphrase", "said"),
    [
        (("-t", "ecdsa"), "", "only ed25519 and RSA"),
        (("-t", "rsa", "-b", "1024"), "", "1024 bits"),
        (("-t", "ed25519"), "secret", "without a passphrase"),
    ],
)
def test_other_keys_are_refused_with_the_reason(
    tmp_path: Path, words: tuple[str, ...], passphrase: str, said: str
) -> None:
    private = key(tmp_path, *words, passphrase=passphrase)
    with pytest.raises(PermanentError, match=said) as refusal:
        read_key(private, "Secret 'k'")
    assert refusal.value.reason == reasons.SIGNING_KEY_REFUSED
    assert private.splitlines()[1] not in refusal.value.message


def test_what_is_no_key_is_refused() -> None:
    for text in ("", "x", "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n"):
        with pytest.raises(PermanentError, match="Secret 'k' holds no SSH key"):
            read_key(text, "Secret 'k'")


def test_a_key_is_not_shown(tmp_path: Path) -> None:
    private = key(tmp_path, "-t", "ed25519")
    assert private.splitlines()[1] not in repr(Change("s", signer=read_key(private, "k")))


def lane(**spec: Any) -> LaneView:
    meta = {"name": "l", "namespace": "n", "uid": "u", "resourceVersion": "1"}
    return LaneView.from_object({"metadata": meta, "spec": {"repository": {"url": URL}, **spec}})


def signers(secret: dict[str, Any] | None) -> Signers:
    async def get(_kind: str, _namespace: str, _name: str) -> dict[str, Any]:
        if secret is None:
            raise NotFound(404, "NotFound", "no")
        return secret

    ctx: Any = SimpleNamespace(kube=SimpleNamespace(get=get), monotonic=lambda: 0.0)
    return Signers(ctx, GitThreads(1))


def secret(private: str, type_: str = "kubernetes.io/ssh-auth", url: str = URL) -> dict[str, Any]:
    data = {"ssh-privatekey": base64.b64encode(private.encode()).decode()}
    return {"metadata": {"name": "k", "annotations": {"tidegate.dev/git-url": url}}, "type": type_, "data": data}


def test_the_key_comes_from_a_secret_for_this_repository(tmp_path: Path) -> None:
    private = key(tmp_path, "-t", "ed25519")
    found = asyncio.run(signers(secret(private)).of(lane(signingSecretName="k")))
    assert found is not None
    assert found.public.startswith("ssh-ed25519 ")
    assert asyncio.run(signers(None).of(lane())) is None
    for wrong, reason in (
        (None, reasons.SECRET_MISSING),
        (secret(private, url="https://other.example.org/"), reasons.SECRET_NOT_FOR_REPOSITORY),
        (secret(private, type_="Opaque"), reasons.SECRET_NOT_FOR_REPOSITORY),
        (secret("nothing"), reasons.SIGNING_KEY_REFUSED),
    ):
        with pytest.raises(PermanentError) as refusal:
            asyncio.run(signers(wrong).of(lane(signingSecretName="k")))
        assert refusal.value.reason == reason
