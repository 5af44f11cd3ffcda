"""Docker archives from directories, without an image tool: one layer, reproducible."""

from __future__ import annotations

import hashlib
import io
import json
import platform
import tarfile
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dev.cluster import shell

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class Image:
    """Name and configuration of an image."""

    name: str
    entrypoint: Sequence[str] = ()
    command: Sequence[str] = ()
    user: str = ""

    def config(self, layer_digest: str) -> bytes:
        """The image's configuration document over one layer."""
        settings = {"Env": [_PATH], "WorkingDir": "/", "User": self.user}
        if self.entrypoint:
            settings["Entrypoint"] = list(self.entrypoint)
        if self.command:
            settings["Cmd"] = list(self.command)
        document = {
            "architecture": _ARCHITECTURES.get(platform.machine(), platform.machine()),
            "os": "linux",
            "created": "1970-01-01T00:00:00Z",
            "config": settings,
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{layer_digest}"]},
            "history": [{"created": "1970-01-01T00:00:00Z", "created_by": "dev/cluster"}],
        }
        return json.dumps(document).encode()


def write(image: Image, root: Path, target: Path) -> None:
    """Write `root` as an image into the docker archive `target`, whole or not at all."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".image-") as scratch:
        layer = Path(scratch) / "layer.tar"
        _pack(root, layer)
        digest = _digest(layer)
        config = image.config(digest)
        config_name = f"{hashlib.sha256(config).hexdigest()}.json"
        manifest = [{"Config": config_name, "RepoTags": [image.name], "Layers": [f"{digest}/layer.tar"]}]
        fresh = Path(scratch) / "image.tar"
        with tarfile.open(fresh, "w") as archive:
            _add(archive, config_name, config)
            _add(archive, "manifest.json", json.dumps(manifest).encode())
            archive.add(layer, f"{digest}/layer.tar")
        fresh.replace(target)


def _pack(root: Path, layer: Path) -> None:
    # kernel file systems and device nodes come from the runtime, not from the image
    excluded = [f"--exclude=./{name}/*" for name in ("proc", "sys", "dev", "run")]
    order = ["--numeric-owner", "--sort=name", "--mtime=@0", *excluded]
    shell.run(["tar", "-C", root, *order, "-cf", layer, "."])


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    archive.addfile(entry, io.BytesIO(content))
