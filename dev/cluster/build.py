"""Go programs from pinned modules, built once and kept in the cache by a hash of what they are made from."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from dev.cluster import prerequisites, shell
from dev.cluster.errors import ClusterError
from dev.cluster.progress import step
from dev.cluster.settings import HERE, KUBERNETES_VERSION, TOOLS, cache_root

BUILDS_KEPT = 3
_VERSION_PACKAGE = "k8s.io/component-base/version"
_MAJOR, _MINOR, _ = KUBERNETES_VERSION.split(".")
_KUBERNETES_FLAGS = (
    f"-X {_VERSION_PACKAGE}.gitVersion=v{KUBERNETES_VERSION} -X {_VERSION_PACKAGE}.gitMajor={_MAJOR} "
    f"-X {_VERSION_PACKAGE}.gitMinor={_MINOR} -X {_VERSION_PACKAGE}.gitTreeState=clean"
)


@dataclass(frozen=True)
class Program:
    """One Go program: the directory of its pinned module, the package in it, extra linker flags, and a hint."""

    name: str
    module: Path
    package: str = "."
    link: str = ""
    cold: str = ""

    def key(self) -> str:
        """Hash of the module's files and of the flags: what the binary depends on."""
        digest = hashlib.sha256(f"{self.package}\0{self.link}\0{os.uname().machine}".encode())
        for path in sorted(self.module.iterdir()):
            if path.suffix in {".go", ".mod", ".sum"}:
                digest.update(f"\0{path.name}\0".encode() + path.read_bytes())
        return digest.hexdigest()[:16]


KUBERNETES = Program(
    "kubernetes-local", HERE / "module" / "kubernetes", link=_KUBERNETES_FLAGS, cold="5 to 8 minutes on two cores"
)
COREDNS = Program("coredns", HERE / "module" / "coredns", cold="about a minute")
PAUSE = Program("pause", HERE / "module" / "pause")
TOOL_PROGRAMS = {
    "helm": Program("helm", TOOLS / "helm", "helm.sh/helm/v4/cmd/helm", cold="about 2 minutes"),
    "kind": Program("kind", TOOLS / "kind", "sigs.k8s.io/kind"),
    "kubeconform": Program("kubeconform", TOOLS / "kubeconform", "github.com/yannh/kubeconform/cmd/kubeconform"),
    "kwok": Program("kwok", TOOLS / "kwok", "sigs.k8s.io/kwok/cmd/kwok", cold="about 2 minutes"),
}


def bin_directory() -> Path:
    """Where the names of built programs are linked."""
    return cache_root() / "bin"


def build(program: Program) -> Path:
    """The program's binary, compiled where the cache has none of this content."""
    store = cache_root() / "programs"
    target = store / f"{program.name}-{program.key()}"
    if not target.exists():
        prerequisites.require_go()
        store.mkdir(parents=True, exist_ok=True)
        with step(f"Building {program.name} from Go modules" + (f" (cold: {program.cold})" if program.cold else "")):
            _compile(program, target)
        _forget_older(program)
    return target


def _compile(program: Program, target: Path) -> None:
    fresh = target.with_suffix(f".{os.getpid()}")
    flags = f"-s -w {program.link}".strip()
    settings = {"CGO_ENABLED": "0", "GOGC": "400", "GOFLAGS": "-mod=readonly"}
    command = ["go", "build", "-trimpath", "-ldflags", flags, "-o", str(fresh), program.package]
    try:
        shell.run(command, directory=program.module, extra_environment=settings)
    except ClusterError as failed:
        raise ClusterError(
            f"{failed}\nCure: the modules in {program.module} come from the Go module proxy (`go env GOPROXY`); "
            "check that it answers and that the disk has 8 GB free, then try again"
        ) from failed
    fresh.rename(target)


def _forget_older(program: Program) -> None:
    """Keep the newest few builds: another checkout may use another version."""
    built = (cache_root() / "programs").glob(f"{program.name}-*")
    for path in sorted(built, key=lambda path: path.stat().st_mtime)[:-BUILDS_KEPT]:
        path.unlink(missing_ok=True)  # a process that still runs it keeps its file


def link(name: str, target: Path) -> Path:
    """Make `<cache>/bin/<name>` a symlink to `target` and return it."""
    place = bin_directory() / name
    place.parent.mkdir(parents=True, exist_ok=True)
    fresh = place.with_name(f".{name}.{os.getpid()}")
    fresh.symlink_to(target)
    fresh.rename(place)
    return place


def link_kubectl() -> Path:
    """`kubectl` in the cache's bin directory: the cluster's own binary under that name."""
    return link("kubectl", build(KUBERNETES))


def tools(names: Iterable[str]) -> None:
    """Build the named tools and link them. Raises ClusterError for a name that is not pinned."""
    for name in names:
        if name == "kubectl":
            link_kubectl()
        elif name in TOOL_PROGRAMS:
            link(name, build(TOOL_PROGRAMS[name]))
        else:
            raise ClusterError(f"no such tool: {name}; there are kubectl, {', '.join(sorted(TOOL_PROGRAMS))}")
