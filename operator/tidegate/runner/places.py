"""Where a runner container finds its inputs: mount points and environment variables."""

from __future__ import annotations

import os
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from tidegate import names
from tidegate.api.wire import TERMINATION_MESSAGE_BYTES

ENV_POD_UID = "TIDEGATE_POD_UID"
ENV_TERMINATION_LOG = "TIDEGATE_TERMINATION_LOG"
ENV_ROOT = "TIDEGATE_ROOT"  # tests: a directory that stands for `/`


def _under_root(path: str) -> Path:
    return Path(os.environ.get(ENV_ROOT, "/")) / path.lstrip("/")


@dataclass(frozen=True, slots=True)
class Places:
    """Mount points of a runner container."""

    workspace: Path = field(default_factory=lambda: _under_root(names.PATH_WORKSPACE))
    tools: Path = field(default_factory=lambda: _under_root(names.PATH_TOOLS))
    input: Path = field(default_factory=lambda: _under_root(names.PATH_INPUT))
    output: Path = field(default_factory=lambda: _under_root(names.PATH_OUTPUT))
    state: Path = field(default_factory=lambda: _under_root(names.PATH_STATE))
    credentials: Path = field(default_factory=lambda: _under_root(names.PATH_GIT_CREDENTIALS))
    token: Path = field(default_factory=lambda: _under_root(names.PATH_TOKEN))
    termination_log: Path = field(
        default_factory=lambda: Path(os.environ.get(ENV_TERMINATION_LOG, "/dev/termination-log"))
    )

    @property
    def git(self) -> Path:
        """Our own git directory, which the agent can't see."""
        return self.state / "git"

    @property
    def claim(self) -> Path:
        """What `workspace` hands to `publisher`."""
        return self.state / "claim.json"

    def use_private_temporary_directory(self) -> None:
        """Put temporary files (credentials for git among them) where no agent can read them."""
        directory = self.state / "tmp"
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        tempfile.tempdir = os.environ["TMPDIR"] = str(directory)


def write_termination_message(path: Path, text: str) -> None:
    """Leave the container's last word where the kubelet reads it, and in its log."""
    print(text, file=sys.stderr, flush=True)
    path.write_text(text.encode()[:TERMINATION_MESSAGE_BYTES].decode("utf-8", "ignore"))
