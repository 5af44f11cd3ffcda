"""Pin the dependencies of pyproject.toml: one lock file a role, all within the versions of `dev`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ROLES: dict[str, tuple[str, ...]] = {
    "dev": ("dev",),
    "operator": ("operator", "gateway"),
    "runner": ("runner",),
    "cli": ("cli",),
}


def lock(role: str, extras: tuple[str, ...], upgrade: bool) -> None:
    """Write requirements/<role>.txt with hashes and without the address of any index."""
    command = [sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--generate-hashes", "--no-emit-index-url"]
    command += ["--no-header", "--python-version", "3.11", "pyproject.toml", "-o", f"requirements/{role}.txt"]
    for extra in extras:
        command += ["--extra", extra]
    if role != "dev":
        command += ["-c", "requirements/dev.txt"]
    elif upgrade:
        command += ["--upgrade"]
    subprocess.run(command, cwd=ROOT, check=True)


if __name__ == "__main__":
    for role, extras in ROLES.items():
        lock(role, extras, upgrade="--upgrade" in sys.argv)
