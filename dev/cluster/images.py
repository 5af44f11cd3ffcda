"""The images that a cluster without a registry starts with: pause, CoreDNS, and a Debian base for Dockerfiles."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from pathlib import Path

from dev.cluster import archive, build, prerequisites, shell
from dev.cluster.errors import ClusterError
from dev.cluster.progress import step
from dev.cluster.settings import BASE_IMAGE, BASE_PACKAGES, COREDNS_IMAGE, DEBIAN_SUITE, PAUSE_IMAGE, cache_root

_BASE_RECIPE = 2  # raise it when the steps below change what the base holds
_NOT_NEEDED = ("usr/share/doc", "usr/share/man", "usr/share/info", "var/lib/apt/lists", "var/cache/apt/archives")


def _directory() -> Path:
    return cache_root() / "images"


def system_images() -> list[Path]:
    """Archives of pause and CoreDNS, made where the cache lacks them."""
    return [
        _of_program(build.PAUSE, archive.Image(PAUSE_IMAGE, ["/pause"], user="65535:65535")),
        _of_program(build.COREDNS, archive.Image(COREDNS_IMAGE, ["/coredns"])),
    ]


def _of_program(program: build.Program, image: archive.Image) -> Path:
    binary = build.build(program)
    target = _directory() / f"{binary.name}.tar"
    if not target.exists():
        with tempfile.TemporaryDirectory() as scratch:
            place = Path(scratch) / program.name
            shutil.copy2(binary, place)
            place.chmod(0o755)
            Path(scratch).chmod(0o755)
            archive.write(image, Path(scratch), target)
    return target


def base_image() -> Path:
    """Archive of the Debian base (python3 with venv, git, CA certificates), made by debootstrap once.

    Holds the distribution's own certificates only, and no name of the mirror that it was made from.
    """
    recipe = f"{_BASE_RECIPE} {DEBIAN_SUITE} {' '.join(BASE_PACKAGES)}"
    target = _directory() / f"base-{hashlib.sha256(recipe.encode()).hexdigest()[:16]}.tar"
    if not target.exists():
        prerequisites.require_root()
        prerequisites.install_packages()
        with step("Making the Debian base image (cold: about a minute)"), tempfile.TemporaryDirectory() as scratch:
            root = Path(scratch) / "root"
            _debootstrap(root)
            _slim(root)
            archive.write(archive.Image(BASE_IMAGE, command=["/bin/bash"]), root, target)
    return target


def _debootstrap(root: Path) -> None:
    mirror = _mirror()
    packages = ",".join(BASE_PACKAGES)
    try:
        shell.run(["debootstrap", "--variant=minbase", f"--include={packages}", DEBIAN_SUITE, root, mirror])
    except ClusterError as failed:
        raise ClusterError(f"{failed}\nCure: the Debian mirror {mirror} of this machine's apt must answer") from failed
    generic = f"deb http://deb.debian.org/debian {DEBIAN_SUITE} main\n"
    (root / "etc/apt/sources.list").write_text(generic)


def _mirror() -> str:
    targets = shell.run(["apt-get", "indextargets", "--format", "$(SITE) $(CODENAME)"])
    for line in targets.splitlines():
        site, _, codename = line.partition(" ")
        if codename == DEBIAN_SUITE:
            return site
    raise ClusterError(f"apt knows no mirror of Debian {DEBIAN_SUITE}. Cure: add one to its sources, `apt-get update`")


def _slim(root: Path) -> None:
    for name in _NOT_NEEDED:
        shutil.rmtree(root / name, ignore_errors=True)
        (root / name).mkdir(parents=True, exist_ok=True)
    for log in (root / "var/log").rglob("*"):
        if log.is_file():
            log.unlink()
    # what debootstrap copied from this machine is no part of an image
    (root / "etc/hostname").write_text("localhost\n")
    (root / "etc/resolv.conf").write_text("")
