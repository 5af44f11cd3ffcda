"""Paths and globs as the API's fields mean them, `scope` and `protectedPaths` alike. Pure, standard library only."""

from __future__ import annotations

import re


def expression(glob: str) -> str:
    """A regular expression for whole paths: `*` and `?` stay inside a path component, `**` crosses them, a plain path
    covers what is below it."""
    glob = glob.strip().removeprefix("./").rstrip("/")
    out: list[str] = []
    at = 0
    while at < len(glob):
        if glob.startswith("**/", at):
            out.append("(?:.*/)?")
            at += 3
        elif glob.startswith("**", at):
            out.append(".*")
            at += 2
        elif glob[at] == "*":
            out.append("[^/]*")
            at += 1
        elif glob[at] == "?":
            out.append("[^/]")
            at += 1
        elif glob[at] == "[" and (end := glob.find("]", at + 2)) > 0 and (found := _class(glob[at + 1 : end])):
            out.append(found)
            at = end + 1
        else:
            out.append(re.escape(glob[at]))
            at += 1
    return f"{''.join(out)}(?:/.*)?"


def _class(inner: str) -> str:
    """A class of characters; empty where it is none, such as `[z-a]`: its bracket then stands for itself."""
    escaped = re.sub(r"([\\\[&~|])", r"\\\1", inner)
    text = f"[{'^' + escaped[1:] if escaped[0] in '!^' else escaped}]"
    try:
        re.compile(text)
    except re.error:
        return ""
    return text


def has_wildcard(text: str) -> bool:
    """Whether a glob, or a part of one, stands for more than itself."""
    return any(char in text for char in "*?[")
