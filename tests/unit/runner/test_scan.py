"""Finding secrets. The values are put together here, so that no scanner finds them in this file."""

from __future__ import annotations

import pytest

from tidegate.runner.scan import OWN, Scanner, parse_allow_list

RANDOM = "q8Zr3Xv0Lw5Tn7Bk2Jd9Hs4Gf6Mc1PyAe"
SECRETS = {
    "private-key": "-----BEGIN RSA " + "PRIVATE KEY-----",
    "aws-access-key": "id = AKIA" + "IOSFODNN7QWERTYU"[:16],
    "aws-secret-key": "aws_secret_access_key = " + "wJalrXUtnFEMIK7MDENGbPxRfiCYzzzzKEYq8Zr3"[:40],
    "github-token": "x ghp_" + RANDOM + "1234",
    "gitlab-token": "glpat-" + RANDOM[:20],
    "slack-token": "xoxb-" + "123456789012-abcdefABCDEF",
    "slack-hook": "https://hooks.slack.com/" + "services/T00000000/B00000000/" + RANDOM[:24],
    "jwt": "eyJhbGciOiJIUzI1NiJ9." + "eyJzdWIiOiIxMjM0NTY3ODkwIn0." + RANDOM,
    "model-key": "sk-proj-" + RANDOM,
    "google-key": "AIza" + RANDOM + "ab",
    "stripe-key": "sk_live_" + RANDOM[:24],
    "npm-token": "npm_" + RANDOM + "abc",
    "bearer-token": "Authorization: Bearer " + RANDOM,
    "password-in-url": "postgres://admin:" + "gT7kPq2xW9@db/x",
    "assignment": 'db_password = "' + "gT7$kPq2xW9vB4" + '"',
}
HARMLESS = (
    "password = os.environ['DB_PASSWORD']",
    'password = "changeme-changeme"',
    'token = "${TOKEN_FROM_ENVIRONMENT}"',
    'token: "$TOKEN_FROM_ENVIRONMENT_VARIABLE"',
    'api_key="your-api-key-goes-here"',
    "secretName: git-credentials",
    "credentialsSecretName: git-token",
    "tokens = tokenizer.encode(text)",
    "postgres://user:password@localhost/db",
    "https://user:${PASSWORD}@host/",
    "task-sk-list-of-things-to-do-later",
    "the bearer of this letter is my representative",
    'key = "aaaaaaaaaaaaaaaaaaaaaaaa"',
    "ghp_short",
    "def test_password_is_hashed_before_it_is_stored():",
    "sha256 = 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855'",
)


def find(text: str, base: str | None = None, scanner: Scanner | None = None) -> list[tuple[int, str]]:
    found = (scanner or Scanner()).findings("f.py", text.encode(), lambda: base.encode() if base is not None else None)
    return [(finding.line, finding.rule) for finding in found]


@pytest.mark.parametrize("rule", SECRETS)
def test_finds(rule: str) -> None:
    found = find(f"first\nsecond {SECRETS[rule]}\nthird\n")
    assert (2, rule) in found


@pytest.mark.parametrize("rule", SECRETS)
def test_redacts(rule: str) -> None:
    text = f"before {SECRETS[rule]} after"
    out = Scanner().redact(text.encode()).decode()
    assert "removed]" in out
    assert find(out) == []


@pytest.mark.parametrize("text", HARMLESS)
def test_leaves_alone(text: str) -> None:
    assert find(text) == []


def test_a_line_of_the_base_is_not_new_but_the_same_secret_on_another_line_is() -> None:
    secret = SECRETS["github-token"]
    assert find(f"a\n{secret}\n", base=f"{secret}\nb\n") == []
    assert find(f"{secret}  # changed\n", base=f"{secret}\n") == [(1, "github-token")]
    assert find(f"{secret}\r\n", base=f"{secret}\n") == []


def test_own_credentials_are_found_wherever_and_whatever_they_look_like() -> None:
    scanner = Scanner((b"plain-words", b"short"))
    assert find("x plain-words y", scanner=scanner) == [(1, OWN)]
    assert find("short", scanner=scanner) == []
    assert scanner.redact(b"a plain-words b") == b"a [credential removed] b"


def test_a_whole_private_key_is_removed_from_a_log() -> None:
    key = SECRETS["private-key"] + "\nMIIEabc\n-----END RSA " + "PRIVATE KEY-----"
    assert Scanner().redact(f"a\n{key}\nb".encode()) == b"a\n[private-key removed]\nb"
    cut = SECRETS["private-key"] + "\nMIIEabc\n"
    assert Scanner().redact(f"a\n{cut}".encode()) == b"a\n[private-key removed]"


def test_the_bases_allow_list_names_paths_and_rules() -> None:
    allowed = parse_allow_list(b"# comment\n\nf.*:github-token\nfixtures/\n")
    assert allowed == (("f.*", "github-token"), ("fixtures/", ""))
    scanner = Scanner((b"plain-words",), allowed)
    assert find(SECRETS["github-token"], scanner=scanner) == []
    assert find(SECRETS["jwt"], scanner=scanner) == [(1, "jwt")]
    assert scanner.findings("fixtures/x", b"plain-words", lambda: None), "our own credentials are never allowed"


def test_findings_are_few_and_in_order() -> None:
    text = "\n".join(SECRETS["github-token"] for _ in range(1000))
    assert [line for line, _ in find(text)] == [1, 2, 3, 4, 5]
