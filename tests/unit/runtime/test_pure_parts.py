"""Conditions, git URLs, Secrets, settings, answers of the API server, backoff."""

import base64
from typing import Any

import pytest
from pydantic import ValidationError

from tidegate import errors
from tidegate.clients.kube_session import error_of
from tidegate.clients.resources import resource_of
from tidegate.errors import PermanentError
from tidegate.runtime.conditions import clean_message, drop_condition, is_true, set_condition
from tidegate.runtime.secrets import credentials_of
from tidegate.runtime.urls import check_git_url, git_protocols, url_has_prefix
from tidegate.runtime.workers import MAX_BACKOFF_SECONDS, backoff
from tidegate.settings import Settings

URL = "https://git.example.org/team/mathkit.git"


def test_a_condition_moves_its_time_only_with_its_status() -> None:
    first = set_condition([], "Ready", "False", "Waiting", "m", now="t1", generation=1)
    second = set_condition(first, "Ready", "False", "Other", "n", now="t2", generation=2)
    third = set_condition(second, "Ready", "True", "AsExpected", "", now="t3", generation=2)
    assert [c[0]["lastTransitionTime"] for c in (first, second, third)] == ["t1", "t1", "t3"]
    assert second[0]["reason"] == "Other"
    assert second[0]["observedGeneration"] == 2
    assert is_true(third, "Ready")
    assert drop_condition(third, "Ready") == []
    assert first[0]["reason"] == "Waiting"  # the old list is as it was


def test_messages_are_cut_and_cleaned() -> None:
    assert clean_message("a\x1b[31mb\u202ec\n") == "a [31mb c"
    cut = clean_message("ä" * 2000)
    assert len(cut.encode()) <= 1024
    assert cut.endswith("...")


@pytest.mark.parametrize(
    "url",
    [
        "http://git.example.org/a.git",
        "https://user:token@git.example.org/a.git",
        "https://token@git.example.org/a.git",
        "ssh://git:secret@git.example.org/a.git",
        "git@git.example.org:a.git",
        "file:///etc",
        "ext::sh -c id",
        "https:///a.git",
        "https://localhost/a.git",
        "https://127.0.0.1/a.git",
        "https://[::1]/a.git",
        "https://169.254.169.254/latest",
        "https://10.96.0.1/a.git",
        "https://git.team.svc/a.git",
        "https://git.team.svc.cluster.local/a.git",
        "https://git/a.git",
        "https://git.example.org/a.git?x=1",
    ],
)
def test_urls_that_are_refused(url: str) -> None:
    with pytest.raises(PermanentError) as caught:
        check_git_url(url, Settings())
    assert caught.value.reason == "UrlRefused"
    assert "token@" not in caught.value.message
    assert "secret" not in caught.value.message


def test_urls_that_are_taken() -> None:
    check_git_url(URL, Settings())
    check_git_url("ssh://git@git.example.org:2222/a.git", Settings())
    check_git_url("https://git.team.svc/a.git", Settings(allowed_git_hosts=["git.team.svc"]))
    check_git_url("http://git.team.svc/a.git", Settings(allowed_http_hosts=["git.team.svc"]))
    check_git_url("file:///tmp/a.git", Settings(allow_file_urls=True))
    assert git_protocols(Settings()) == "https:ssh"
    assert git_protocols(Settings(allowed_http_hosts=["a"], allow_file_urls=True)) == "https:ssh:http:file"


@pytest.mark.parametrize(
    ("prefix", "fits"),
    [
        ("https://git.example.org", True),
        ("https://git.example.org/", True),
        ("https://git.example.org/team", True),
        ("https://git.example.org/team/", True),
        ("https://git.example.org/team/mathkit", True),
        ("https://GIT.example.org/team/mathkit.git", True),
        ("https://git.example.org/tea", False),
        ("https://git.example.org/team/math", False),
        ("https://git.example.org/team/mathkit/more", False),
        ("https://git.example.org.evil.example/team", False),
        ("http://git.example.org/team", False),
        ("https://git.example.org:8443/team", False),
        ("https://evil.example", False),
    ],
)
def test_a_secret_fits_by_whole_segments(prefix: str, fits: bool) -> None:
    assert url_has_prefix(URL, prefix) is fits


def test_dots_in_a_path_fit_nothing() -> None:
    assert not url_has_prefix("https://git.example.org/team/../other/a.git", "https://git.example.org/team")
    assert not url_has_prefix("https://git.example.org/team/%2e%2e/a.git", "https://git.example.org/team")


def secret(type_: str, prefix: str | None, **data: str) -> dict[str, Any]:
    annotations = {"tidegate.dev/git-url": prefix} if prefix else {}
    encoded = {key.replace("_", "-"): base64.b64encode(value.encode()).decode() for key, value in data.items()}
    return {"type": type_, "metadata": {"name": "s", "annotations": annotations}, "data": encoded}


def test_a_fitting_secret_is_read() -> None:
    found = credentials_of(secret("kubernetes.io/basic-auth", URL, username="u", password="p"), URL)
    assert (found.username, found.password) == ("u", "p")
    assert credentials_of(secret("kubernetes.io/ssh-auth", URL, ssh_privatekey="k"), URL).ssh_key == "k"


@pytest.mark.parametrize(
    "bad",
    [
        secret("Opaque", URL, password="p"),
        secret("kubernetes.io/basic-auth", None, password="p"),
        secret("kubernetes.io/basic-auth", "https://git.example.org/other", password="p"),
        secret("kubernetes.io/basic-auth", URL, username="u"),
    ],
)
def test_a_secret_that_doesnt_fit_is_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(PermanentError) as caught:
        credentials_of(bad, URL)
    assert caught.value.reason == "SecretNotForRepository"


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDEGATE_NAMESPACES", "a, b")
    monkeypatch.setenv("TIDEGATE_GIT_EGRESS", '[{"to": []}]')
    settings = Settings()
    assert settings.scopes == ["a", "b"]
    assert not settings.clusterwide
    assert settings.git_egress == [{"to": []}]


@pytest.mark.parametrize(
    "wrong", [{"namespaces": []}, {"namespaces": ["*", "a"]}, {"lease_duration_seconds": 5}, {"workers": 0}]
)
def test_settings_that_contradict_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Settings(**wrong)


@pytest.mark.parametrize(
    ("status", "reason", "kind"),
    [
        (404, "NotFound", errors.NotFound),
        (409, "Conflict", errors.Conflict),
        (409, "AlreadyExists", errors.AlreadyExists),
        (403, "Forbidden", errors.Forbidden),
        (422, "Invalid", errors.Invalid),
        (410, "Expired", errors.Expired),
        (429, "TooManyRequests", errors.TooManyRequests),
        (503, "ServiceUnavailable", errors.Unavailable),
    ],
)
def test_answers_become_errors(status: int, reason: str, kind: type[errors.KubeError]) -> None:
    error = error_of(status, f'{{"reason": "{reason}", "message": "m"}}'.encode(), "3")
    assert type(error) is kind
    assert error.retry_after == 3.0
    assert type(error_of(502, b"<html>", None)) is errors.Unavailable


def test_a_full_quota_is_told_from_other_refusals() -> None:
    assert errors.Forbidden(403, "Forbidden", 'pods "x" is forbidden: exceeded quota: q').quota
    assert not errors.Forbidden(403, "Forbidden", "violates PodSecurity").quota


def test_backoff_grows_and_ends() -> None:
    waits = [backoff(n) for n in range(1, 40)]
    assert waits == sorted(waits)
    assert waits[-1] == MAX_BACKOFF_SECONDS


def test_paths() -> None:
    assert resource_of("Pod").path("ns", "p") == "/api/v1/namespaces/ns/pods/p"
    assert resource_of("AgentTask").path(None) == "/apis/tidegate.dev/v1alpha1/agenttasks"
    assert resource_of("AgentClass").path("ns", "c") == "/apis/tidegate.dev/v1alpha1/agentclasses/c"
    assert resource_of("AgentTask").path("ns", "t", "status").endswith("/agenttasks/t/status")
    with pytest.raises(KeyError, match="known"):
        resource_of("Nothing")
