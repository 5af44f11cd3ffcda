"""Build the images of `images/` into docker-archives: `cli.py build [NAME...]` prints the path of each.

Docker builds them where a Docker engine answers, else buildah. Archives lie in the cache
(`TIDEGATE_CACHE`, else `$XDG_CACHE_HOME/tidegate`), named by a hash of all that goes in: what is there is not built
again.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import json
import os
import shlex
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BASE = "localhost/tidegate-base:12"
CA_BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")
# Images with code of ours over many packages: their layers stay, so that an edit is built in seconds
LAYERED = frozenset({"operator", "runner", "agent-aider"})
FORMAT = "2"  # part of every key: raise it when the way of building changes what comes out


class BuildError(Exception):
    """What failed, and the cure."""


@dataclass(frozen=True)
class Image:
    """One directory of `images/` with all that its Dockerfile copies from the repository."""

    name: str
    tag: str
    dockerfile: Path
    sources: tuple[str, ...]
    key: str = field(default="")


def cache_directory() -> Path:
    """Where archives are kept."""
    base = os.environ.get("TIDEGATE_CACHE") or str(
        Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tidegate"
    )
    return Path(base) / "images"


def version() -> str:
    """The project's version: the tag of every image."""
    return str(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"])


def image_names() -> list[str]:
    """Every image that is built; `base` is what the others start from."""
    return sorted(p.parent.name for p in (ROOT / "images").glob("*/Dockerfile") if p.parent.name != "base")


def copied_sources(dockerfile: str) -> tuple[str, ...]:
    """The repository paths that a Dockerfile's COPY lines name, those from other stages aside."""
    sources: list[str] = []
    for line in dockerfile.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if not words or words[0].upper() != "COPY" or any(w.startswith("--from=") for w in words):
            continue
        sources += [w for w in words[1:-1] if not w.startswith("--")]
    return tuple(sources)


def source_files(source: str) -> Iterator[Path]:
    """The files of one COPY source, in a fixed order; byte code is none of them."""
    path = ROOT / source
    if path.is_file():
        yield path
    elif path.is_dir():
        yield from sorted(p for p in path.rglob("*") if p.is_file() and "__pycache__" not in p.parts)
    else:
        raise BuildError(f"{source}: a Dockerfile copies it, but it isn't in the repository")


def read_image(name: str, base_id: str) -> Image:
    """The image with its key, which changes with anything that goes into it."""
    dockerfile = ROOT / "images" / name / "Dockerfile"
    if not dockerfile.is_file():
        raise BuildError(f"no image {name!r}; there are: {', '.join(image_names())}")
    text = dockerfile.read_text()
    sources = copied_sources(text)
    tag = f"localhost/tidegate/{name}:{version()}"
    digest = hashlib.sha256(f"{FORMAT}\0{tag}\0{base_id}\0{text}".encode())
    for source in sources:
        for path in source_files(source):
            executable = path.stat().st_mode & 0o100
            digest.update(f"\0{path.relative_to(ROOT)}\0{executable}\0".encode())
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    return Image(name, tag, dockerfile, sources, digest.hexdigest()[:16])


def stage_context(image: Image, context: Path) -> None:
    """A build context with what the Dockerfile copies and nothing else: no .git, no virtual environment."""
    for source in image.sources:
        for path in source_files(source):
            target = context / path.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, target)
            os.utime(target, (0, 0))


def say(message: str) -> None:
    """Progress goes to standard error; standard output is for paths."""
    print(message, file=sys.stderr, flush=True)


def run(*command: str, quiet: bool = False) -> str:
    """Run a command; its output is shown only when it fails, which raises BuildError."""
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode and not quiet:
        tail = "\n".join((done.stdout + done.stderr).strip().splitlines()[-30:])
        raise BuildError(f"{' '.join(command[:3])} ended with {done.returncode}:\n{tail}")
    return done.stdout.strip() if done.returncode == 0 else ""


def build_secrets(directory: Path) -> list[str]:
    """This machine's CA bundle and pip settings, mounted while building and kept in no image."""
    arguments: list[str] = []
    if CA_BUNDLE.is_file():
        arguments += ["--secret", f"id=ca,src={CA_BUNDLE}"]
    lines = [f"cert = {CA_BUNDLE}"] if CA_BUNDLE.is_file() else []
    for option in ("index-url", "extra-index-url", "trusted-host"):
        if value := os.environ.get(f"PIP_{option.replace('-', '_').upper()}"):
            lines += [f"{option} = {value}"]
    pip = directory / "pip.conf"
    pip.write_text("\n".join(["[global]", "timeout = 60", "retries = 5", *lines]) + "\n")
    return [*arguments, "--secret", f"id=pip,src={pip}"]


class Docker:
    """Build with the Docker engine that answers."""

    name = "docker"

    def base_id(self) -> str:
        """The base image's id; makes or loads the base when the engine has none."""
        base = os.environ.get("TIDEGATE_BASE_IMAGE", BASE)
        show = ("docker", "image", "inspect", "--format", "{{.Id}}", base)
        if not run(*show, quiet=True):
            if base == BASE and not run("docker", "build", "-t", base, str(ROOT / "images/base"), quiet=True):
                say("base: no registry gives one; made with debootstrap")
                run("docker", "load", "-i", str(base_archive()))
            elif base != BASE:
                run("docker", "pull", base)
        return run(*show)

    def build(self, image: Image, context: Path, secrets: list[str], archive: Path) -> None:
        """Build and save."""
        base = os.environ.get("TIDEGATE_BASE_IMAGE", BASE)
        os.environ["DOCKER_BUILDKIT"] = "1"
        run(
            "docker", "build", "--network", "host", "--build-arg", f"BASE={base}", *secrets,
            "-t", image.tag, "-f", str(image.dockerfile), str(context),
        )  # fmt: skip
        run("docker", "save", "-o", str(archive), image.tag)


class Buildah:
    """Build with buildah: no daemon, and no registry but the local storage."""

    name = "buildah"

    def base_id(self) -> str:
        """The base image's id: the configuration's digest in its archive."""
        archive = base_archive()
        identity = archive_id(archive)
        known = run("buildah", "images", "--no-trunc", "--quiet", BASE, quiet=True)
        if identity not in known:
            run("buildah", "pull", f"docker-archive:{archive}")
        return identity

    def build(self, image: Image, context: Path, secrets: list[str], archive: Path) -> None:
        """Build and write the archive; the storage keeps the base, and the layers of what is built often."""
        layers = image.name in LAYERED
        with tempfile.NamedTemporaryFile(mode="r") as made:
            run(
                "buildah", "bud", "--isolation", "chroot", "--network", "host", "--pull-never",
                f"--layers={str(layers).lower()}", "--build-arg", f"BASE={BASE}", *secrets,
                "--iidfile", made.name, "-f", str(image.dockerfile), str(context),
            )  # fmt: skip
            identity = made.read().strip().removeprefix("sha256:")
        run("buildah", "push", identity, f"docker-archive:{archive}:{image.tag}")
        if not layers:
            run("buildah", "rmi", identity, quiet=True)


def base_archive() -> Path:
    """The base image's docker-archive, made by the local cluster's tools; `TIDEGATE_BASE_ARCHIVE` names another."""
    if given := os.environ.get("TIDEGATE_BASE_ARCHIVE"):
        return Path(given)
    done = subprocess.run(
        [sys.executable, str(ROOT / "dev/cluster/cli.py"), "base-image"], stdout=subprocess.PIPE, text=True, check=False
    )
    lines = done.stdout.split()
    if done.returncode or not lines or not Path(lines[-1]).is_file():
        raise BuildError("the base image could not be made; `python3 dev/cluster/cli.py base-image` says why")
    return Path(lines[-1])


def archive_id(archive: Path) -> str:
    """The image id in a docker-archive."""
    with tarfile.open(archive) as tar:
        manifest = tar.extractfile("manifest.json")
        if manifest is None:
            raise BuildError(f"{archive}: no docker-archive (no manifest.json)")
        return str(json.load(manifest)[0]["Config"]).removesuffix(".json").rsplit("/", 1)[-1]


def choose_engine() -> Docker | Buildah:
    """Docker when its engine answers, else buildah."""
    if shutil.which("docker") and run("docker", "info", "--format", "{{.ServerVersion}}", quiet=True):
        return Docker()
    if shutil.which("buildah"):
        return Buildah()
    raise BuildError("neither a Docker engine nor buildah is here; install one (Debian: apt-get install buildah)")


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """One builder at a time for one cache."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("images: waiting for another build to end")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def build_image(engine: Docker | Buildah, image: Image, cache: Path) -> Path:
    """The image's archive, built unless it is there; older archives of the same image go after a day."""
    archive = cache / f"{image.name}-{image.key}.tar"
    if archive.is_file():
        os.utime(archive, (time.time(), archive.stat().st_mtime))  # used now, yet the same file to whoever loads it
        say(f"{image.name}: up to date")
        return archive
    began = time.monotonic()
    say(f"{image.name}: building with {engine.name} ...")
    with tempfile.TemporaryDirectory(dir=cache, prefix=".build-") as scratch:
        context = Path(scratch) / "context"
        context.mkdir()
        stage_context(image, context)
        made = Path(scratch) / "image.tar"
        engine.build(image, context, build_secrets(Path(scratch)), made)
        made.rename(archive)
    for old in cache.glob(f"{image.name}-????????????????.tar"):
        if old != archive and time.time() - old.stat().st_atime > 86_400:
            old.unlink(missing_ok=True)
    say(f"{image.name}: built in {time.monotonic() - began:.0f} s, {archive.stat().st_size / 1e6:.0f} MB")
    return archive


def build(names: list[str]) -> int:
    """Build the named images, or all, and print each archive's path."""
    cache = cache_directory()
    with locked(cache / ".lock"):
        engine = choose_engine()
        base_id = engine.base_id()
        for name in names or image_names():
            print(build_image(engine, read_image(name, base_id), cache), flush=True)
    return 0


def main() -> int:
    """`build [NAME...]` or `list`."""
    parser = argparse.ArgumentParser(prog="images", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("build", help="build images and print their archives").add_argument("names", nargs="*")
    commands.add_parser("list", help="print the names and tags of all images")
    arguments = parser.parse_args()
    try:
        if arguments.command == "build":
            return build(arguments.names)
        for name in image_names():
            print(name, f"localhost/tidegate/{name}:{version()}")
    except BuildError as error:
        say(f"images: {error}")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
