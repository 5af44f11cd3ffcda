"""Finds secrets in what an agent wrote. Pure: content in, places out; the value never leaves this module."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from tidegate.runner.scope import in_scope

ALLOW_FILE = b".tidegate/allowed-secrets"  # of the base: one `path-glob` or `path-glob:rule` a line
MAX_FINDINGS_A_FILE = 5
OWN = "own-credential"
_MIN_OWN = 8  # characters; shorter credentials of ours would match by accident


@dataclass(frozen=True, slots=True)
class Finding:
    """Where a secret stands. `line` counts from 1."""

    path: str
    line: int
    rule: str


@dataclass(frozen=True, slots=True)
class _Rule:
    """`needles`, in lower case, are what content must hold for the pattern to be tried: most content holds none."""

    name: str
    needles: tuple[bytes, ...]
    pattern: re.Pattern[bytes]
    entropy: float = 0.0  # bits a character that the group `value` must reach
    starts_word: bool = True


def _rule(name: str, needles: bytes, pattern: bytes, entropy: float = 0.0, *, starts_word: bool = True) -> _Rule:
    return _Rule(name, tuple(needles.split()), re.compile(pattern), entropy, starts_word)


_RULES = (
    _rule("private-key", b"private", rb"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----", starts_word=False),
    _rule("aws-access-key", b"akia asia abia acca", rb"A(?:KIA|SIA|BIA|CCA)[A-Z2-7]{16}(?![A-Za-z0-9])"),
    _rule(
        "aws-secret-key",
        b"aws",
        rb"(?i)aws.{0,20}?(?:secret|key).{0,20}?[=:]\s*[\"']?(?P<value>[A-Za-z0-9/+]{40})(?![A-Za-z0-9/+=])",
        3.5,
        starts_word=False,
    ),
    _rule(
        "github-token",
        b"ghp_ gho_ ghu_ ghs_ ghr_ github_pat_",
        rb"gh[pousr]_[A-Za-z0-9]{36,255}|github_pat_[A-Za-z0-9_]{22,255}",
    ),
    _rule("gitlab-token", b"glpat- gldt- glrt- glcbt- glptt-", rb"gl(?:pat|dt|rt|cbt|ptt)-[A-Za-z0-9_-]{20,}"),
    _rule("slack-token", b"xox", rb"xox[abeoprs]-[A-Za-z0-9-]{10,}"),
    _rule("slack-hook", b"hooks.slack.com", rb"hooks\.slack\.com/services/T[A-Za-z0-9_/]{30,}"),
    _rule("jwt", b"eyj", rb"eyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}"),
    _rule("model-key", b"sk-", rb"(?P<value>sk-(?:[a-z]{1,12}-){0,4}[A-Za-z0-9_-]{20,})", 3.2),
    _rule("google-key", b"aiza", rb"AIza[A-Za-z0-9_-]{35}(?![A-Za-z0-9_-])"),
    _rule("stripe-key", b"sk_live_ rk_live_", rb"[rs]k_live_[A-Za-z0-9]{20,}"),
    _rule("npm-token", b"npm_", rb"npm_[A-Za-z0-9]{36}(?![A-Za-z0-9])"),
    _rule("pypi-token", b"pypi-", rb"pypi-AgE[A-Za-z0-9_-]{50,}"),
    _rule("bearer-token", b"bearer", rb"(?i)bearer\s{1,4}(?P<value>[A-Za-z0-9._~+/-]{20,}=*)", 3.5),
    _rule(
        "password-in-url",
        b"://",
        rb"://[^\s:/@\"'{}$<]{1,64}:(?P<value>[^\s:/@\"'{}$<%]{8,128})@",
        3.0,
        starts_word=False,
    ),
    _rule(
        "assignment",
        b"password passwd secret token key credential",
        rb"(?i)(?:password|passwd|secret|token|api[_-]?key|access[_-]?key|private[_-]?key|credential)s?"
        rb"(?:[\"']?\s{0,4}(?::=|=>|=|:)\s{0,4}[\"'](?P<value>[^\s\"'{}<>()]{12,256})[\"']"
        rb"|=(?P<bare>[^\s\"'{}<>()#,;]{16,256})(?=\s|\Z))",
        3.4,
        starts_word=False,
    ),
)
_PEM = re.compile(
    rb"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----.*?(?:-----END [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----|\Z)",
    re.DOTALL,
)
_PLACEHOLDER = re.compile(rb"(?i)^[$%]|example|placeholder|changeme|dummy|your[_-]|xxxx|\*\*\*|\.\.\.|redacted")


def entropy(value: bytes) -> float:
    """Shannon entropy in bits a byte."""
    counts = Counter(value)
    return -sum(n / len(value) * math.log2(n / len(value)) for n in counts.values()) if value else 0.0


def _matches(content: bytes) -> Iterator[tuple[str, int, int]]:
    """Rule, start and end of every secret, by the whole content; order of the rules."""
    lower = content.lower()
    for rule in _RULES:
        if not any(needle in lower for needle in rule.needles):
            continue
        for match in rule.pattern.finditer(content):
            start, end = match.span(match.lastgroup or 0)
            if rule.starts_word and content[match.start() - 1 : match.start()].isalnum():
                continue
            value = content[start:end]
            if rule.entropy and (entropy(value) < rule.entropy or _PLACEHOLDER.search(value)):
                continue
            yield rule.name, start, end


@dataclass(slots=True)
class Scanner:
    """Scans files. `own` are our credentials' values; `allowed` the lines of the base's allow-list."""

    own: tuple[bytes, ...] = ()
    allowed: tuple[tuple[str, str], ...] = ()
    _literal: re.Pattern[bytes] | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        values = sorted({value for value in self.own if len(value) >= _MIN_OWN}, key=len, reverse=True)
        if values:
            self._literal = re.compile(b"|".join(re.escape(value) for value in values))

    def findings(self, path: str, content: bytes, base: Callable[[], bytes | None]) -> list[Finding]:
        """Secrets on lines of `content` that the base's file doesn't hold; `base` reads that file when it matters."""
        found = self._places(content)
        if content.count(b"\0") * 4 > len(content):  # UTF-16: the characters without the zero bytes between them
            found |= self._places(content.replace(b"\0", b""), one_line=True)
        found = {(line, rule, text) for line, rule, text in found if not self._is_allowed(path, rule)}
        if not found:
            return []
        before = frozenset((base() or b"").splitlines())
        places = sorted({(line, rule) for line, rule, text in found if text not in before})
        return [Finding(path, line, rule) for line, rule in places[:MAX_FINDINGS_A_FILE]]

    def redact(self, content: bytes) -> bytes:
        """The content with every secret replaced by its rule's name."""
        content = _PEM.sub(b"[private-key removed]", content)
        if self._literal is not None:
            content = self._literal.sub(b"[credential removed]", content)
        spans = sorted((start, end, rule) for rule, start, end in _matches(content))
        out: list[bytes] = []
        at = 0
        for start, end, rule in spans:
            if end > at:
                out += [content[at : max(at, start)], f"[{rule} removed]".encode() if start >= at else b""]
                at = end
        return b"".join([*out, content[at:]])

    def _places(self, content: bytes, *, one_line: bool = False) -> set[tuple[int, str, bytes]]:
        spans = [(rule, start) for rule, start, _ in _matches(content)]
        if self._literal is not None:
            spans += [(OWN, match.start()) for match in self._literal.finditer(content)]
        places = set()
        for rule, start in spans[: 100 * MAX_FINDINGS_A_FILE]:
            begin = content.rfind(b"\n", 0, start) + 1
            end = content.find(b"\n", start)
            text = content[begin : end if end >= 0 else len(content)].rstrip(b"\r")
            places.add((1 if one_line else content.count(b"\n", 0, start) + 1, rule, text))
        return places

    def _is_allowed(self, path: str, rule: str) -> bool:
        return rule != OWN and any(in_scope(path, [glob]) and only in ("", rule) for glob, only in self.allowed)


def parse_allow_list(content: bytes | None) -> tuple[tuple[str, str], ...]:
    """The lines of the base's allow-list: a path or glob, and a rule's name after a colon or none for all."""
    rows: list[tuple[str, str]] = []
    names = {rule.name for rule in _RULES}
    for line in (content or b"").decode("utf-8", "replace").splitlines():
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        glob, colon, rule = text.rpartition(":")
        rows.append((glob, rule) if colon and rule in names else (text, ""))
    return tuple(rows)
