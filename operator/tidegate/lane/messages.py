"""Commit messages of the lane: what an agent wrote, without what could pass for ours, then our trailers."""

from __future__ import annotations

import re
import unicodedata

MAX_MESSAGE = 16 * 1024
_OURS = re.compile(r"^\s*tidegate-[\w-]*\s*:", re.IGNORECASE)
_TRAILER = re.compile(r"^[A-Za-z][A-Za-z0-9-]*: \S")


def clean_text(text: str) -> str:
    """Text without control, bidi and format characters; tabs and line ends stay."""
    return "".join(char for char in text if char in "\n\t" or unicodedata.category(char) not in ("Cc", "Cf", "Cs"))


def clean_name(text: str) -> str:
    """A name or address that fits into a commit's identity line."""
    kept = "".join(char for char in clean_text(text) if char not in "<>\n\t")
    return kept.strip(" .,:;\"'")[:200] or "unknown"


def strip_trailers(message: str) -> list[str]:
    """The message's lines without `Tidegate-*` trailers, wherever they stand, and what continues them."""
    lines: list[str] = []
    dropping = False
    for line in clean_text(message.replace("\r\n", "\n").replace("\r", "\n"))[:MAX_MESSAGE].split("\n"):
        dropping = bool(_OURS.match(line)) or (dropping and line[:1] in (" ", "\t"))
        if not dropping:
            lines.append(line.rstrip())
    while lines and not lines[-1]:
        lines.pop()
    while lines and not lines[0]:
        lines.pop(0)
    return lines


def with_trailers(message: str, trailers: tuple[tuple[str, str], ...]) -> str:
    """A cleaned message with `trailers` at its end, in one block with the trailers that it already has."""
    lines = strip_trailers(message) or ["Change without a message"]
    ours = [f"{key}: {clean_name(value)}" for key, value in trailers]
    block = lines[len(lines) - next((n for n, line in enumerate(reversed(lines)) if not line), len(lines)) :]
    joined = len(block) < len(lines) and all(_TRAILER.match(line) for line in block)
    return "\n".join([*lines, *([] if joined else [""]), *ours]) + "\n"
