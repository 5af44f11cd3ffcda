"""Protected paths: what a change may not touch without a person's word. Pure."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from tidegate.api.globs import expression, has_wildcard

ADD = "Add"

# What agents, the remote's CI, its reviews, git and gates take orders from.
DEFAULTS: tuple[str, ...] = (
    # agents' instructions and settings
    "**/AGENT.md", "**/AGENTS.md", "**/AGENTS.override.md", "**/CLAUDE.md", "**/CLAUDE.local.md", "**/GEMINI.md",
    "**/QWEN.md", "**/.claude", "**/.codex", "**/.gemini", "**/.qwen", "**/.cursor", "**/.cursorrules",
    "**/.cursorignore", "**/.windsurf", "**/.windsurfrules", "**/.clinerules", "**/.roo", "**/.roorules",
    "**/.roomodes", "**/.opencode", "**/opencode.json", "**/opencode.jsonc", "**/.aider*", "**/.mcp.json",
    "**/.continue", "**/.goosehints", "**/.kiro", "**/.amazonq", "**/.junie", "**/.agents", "**/.vscode",
    "**/.devcontainer", "**/.devcontainer.json", ".github/copilot-instructions.md", ".github/instructions",
    ".github/prompts", ".github/agents", ".github/chatmodes", ".github/hooks",
    # CI definitions
    ".github/workflows", ".github/actions", ".github/dependabot.yml", ".github/dependabot.yaml", ".gitlab-ci.yml",
    "**/*.gitlab-ci.yml", ".gitlab", ".circleci", ".travis.yml", "**/Jenkinsfile", "**/Jenkinsfile.*",
    "azure-pipelines.yml", "azure-pipelines.yaml", ".azure-pipelines", ".azuredevops", "bitbucket-pipelines.yml",
    ".buildkite", ".drone.yml", ".drone.star", ".woodpecker", ".woodpecker.yml", ".woodpecker.yaml", ".tekton",
    ".teamcity", ".semaphore", ".forgejo", ".gitea", "appveyor.yml", ".appveyor.yml", ".cirrus.yml", ".cirrus.star",
    "cloudbuild.yaml", "cloudbuild.yml", "buildspec.yml", ".pre-commit-config.yaml", ".pre-commit-config.yml",
    # who reviews, and what git does with files
    "**/CODEOWNERS", "**/.gitattributes", "**/.gitmodules",
    # configuration of gates
    ".tidegate", "**/pyproject.toml", "**/setup.cfg", "**/tox.ini", "**/noxfile.py", "**/pytest.ini", "**/.pytest.ini",
    "**/pytest.toml", "**/mypy.ini", "**/.mypy.ini", "**/ruff.toml", "**/.ruff.toml", "**/.coveragerc", "**/.flake8",
    "**/.pylintrc", "**/pyrightconfig.json", "**/.golangci.*", "**/.eslintrc*", "**/eslint.config.*",
    "**/tsconfig.json", "**/jest.config.*", "**/vitest.config.*", "**/.nycrc*", "**/codecov.yml", "**/.codecov.yml",
    # allow-lists of scanners
    "**/.gitleaks.toml", "**/.gitleaksignore", "**/.secrets.baseline", "**/.trufflehog*", "**/.trivyignore*",
    "**/.snyk", "**/.bandit", "**/.semgrepignore", "**/.semgrep*", "**/.grype.yaml",
)  # fmt: skip


def folded(path: str) -> str:
    """A path as the most forgiving file system reads it: without case, form and invisible characters."""
    kept = "".join(char for char in path if unicodedata.category(char) != "Cf")
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", kept).casefold())


@dataclass(frozen=True, slots=True)
class Protection:
    """The patterns of one lane."""

    patterns: tuple[str, ...] = DEFAULTS

    def covers(self, path: str) -> bool:
        """Whether a file, symlink or submodule of that path is protected; one that stands where a folder of a
        protected path would be is as well."""
        whole, above = _compiled(self.patterns)
        name = folded(path)
        return name in above or whole.fullmatch(name) is not None

    def touched(self, paths: Iterable[str]) -> tuple[str, ...]:
        """The protected ones among paths, in order."""
        return tuple(path for path in paths if self.covers(path))

    def unnamed(self, paths: Iterable[str], scope: Sequence[str]) -> tuple[str, ...]:
        """The paths that no entry of a person's scope names. To cover is not enough: `src/**` doesn't name
        `src/CLAUDE.md`. An entry names a path whose own name it spells, or what lies below a protected folder that it
        spells."""
        return tuple(path for path in paths if not any(self._names(entry, path) for entry in scope))

    def _names(self, entry: str, path: str) -> bool:
        entry = entry.strip().removeprefix("./").rstrip("/")
        if not entry or re.compile(expression(entry), re.DOTALL).fullmatch(path) is None:
            return False
        parts = entry.split("/")
        if not has_wildcard(parts[-1]) and parts[-1] == path.rpartition("/")[2]:
            return True
        fixed = "/".join(parts[: next((n for n, part in enumerate(parts) if has_wildcard(part)), len(parts))])
        whole, _ = _compiled(self.patterns)
        return bool(fixed) and any(whole.fullmatch(folded(one)) for one in (fixed, f"{fixed}/-"))


@lru_cache(maxsize=64)
def _compiled(patterns: tuple[str, ...]) -> tuple[re.Pattern[str], frozenset[str]]:
    """One expression for all patterns, and the folders that lead to the wildcard-free ones."""
    known = [folded(pattern.strip().removeprefix("./").rstrip("/")) for pattern in patterns]
    known = [pattern for pattern in known if pattern]
    above: set[str] = set()
    for pattern in known:
        parts = pattern.split("/")
        fixed = next((n for n, part in enumerate(parts) if has_wildcard(part)), len(parts))
        above |= {"/".join(parts[:n]) for n in range(1, min(fixed, len(parts) - 1) + 1)}
    text = "|".join(f"(?:{expression(pattern)})" for pattern in known)
    return re.compile(text or r"(?!)", re.DOTALL), frozenset(above)


def protection(more: Sequence[str], how: str) -> Protection:
    """The protection of a lane: its patterns beside the defaults, or instead of them."""
    patterns = (*DEFAULTS, *more) if how == ADD else tuple(more)
    return Protection(tuple(dict.fromkeys(patterns)))
