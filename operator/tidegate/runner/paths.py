"""Which names and symlinks an agent may leave in a tree. Pure: names and targets in, a refusal or nothing out."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping

LINK = 0o120000
GITLINK = 0o160000
EXECUTABLE = 0o100755
FILE = 0o100644
MAX_LINKS = 40

# Code points that HFS+ ignores when it compares names
_HFS_IGNORED = dict.fromkeys([*range(0x200C, 0x2010), *range(0x202A, 0x202F), *range(0x206A, 0x2070), 0xFEFF])
_NTFS_GITMODULES = re.compile(r"gi(tmod|7eba)~[0-9]+")


def _plain_forms(name: bytes) -> set[str]:
    """The names that some file system takes this one for, in lower case."""
    text = name.decode("utf-8", "surrogateescape")
    forms = {text.translate(_HFS_IGNORED)}
    for part in re.split(r"[\\/]", text):
        forms.add(part.split(":", 1)[0].rstrip(". ") or part)
    return {form.casefold() for form in forms}


def is_dot_git(name: bytes) -> bool:
    """True for a path component that is `.git` on Linux, macOS or Windows."""
    return not _plain_forms(name).isdisjoint({".git", "git~1"})


def is_git_modules(name: bytes) -> bool:
    """True for a path component that is `.gitmodules` on Linux, macOS or Windows."""
    forms = _plain_forms(name)
    return ".gitmodules" in forms or any(_NTFS_GITMODULES.fullmatch(form) for form in forms)


def name_refusal(name: bytes) -> str:
    """Why a new path component is refused, or an empty string."""
    if is_dot_git(name):
        return "the name is .git on some file system"
    if is_git_modules(name):
        return "submodules are off: .gitmodules may not be added or changed"
    if name in (b"", b".", b"..") or b"/" in name or b"\0" in name:
        return "not a file name"
    if any(part == b".." for part in name.split(b"\\")):
        return "the name leaves the tree on Windows"
    return ""


def twin_key(name: bytes) -> str:
    """What two names of one directory share when a case-insensitive or normalising file system takes them for one."""
    text = name.decode("utf-8", "surrogateescape")
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold())


def link_refusal(path: bytes, links: Mapping[bytes, bytes]) -> str:
    """Why the symlink at `path` is refused: it leaves the tree, or leads into a `.git`.

    `links` maps the path of every symlink of the new tree to its target, so that a way out through another symlink
    is seen.
    """
    stack = path.split(b"/")[:-1]
    left = _parts(links[path])
    if links[path].startswith(b"/"):
        return "a symlink with an absolute target"
    hops = 0
    while left:
        part = left.pop(0)
        if part == b"..":
            if not stack:
                return "a symlink that leaves the tree"
            stack.pop()
            continue
        if is_dot_git(part):
            return "a symlink into a .git"
        stack.append(part)
        target = links.get(b"/".join(stack))
        if target is None:
            continue
        hops += 1
        if hops > MAX_LINKS:
            return "a symlink that goes round in a ring"
        if target.startswith(b"/"):
            return "a symlink that leaves the tree through another symlink"
        stack.pop()
        left = _parts(target) + left
    return ""


def _parts(target: bytes) -> list[bytes]:
    return [part for part in target.split(b"/") if part not in (b"", b".")]


def show(path: bytes) -> str:
    """A path as text for reports: no control or bidi characters, bad UTF-8 replaced."""
    text = path.decode("utf-8", "replace")
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
