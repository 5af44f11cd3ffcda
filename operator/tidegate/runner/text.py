"""Text of others on its way into commits and reports. Pure."""

from __future__ import annotations

import re
import unicodedata

_TRAILER = re.compile(
    r"(?i)^\s*(?:tidegate-[\w-]*|(?:signed-off|co-authored|reviewed|acked|tested|reported|suggested)-by|change-id|cc)\s*:"
)


def clean(text: str, limit: int) -> str:
    """The text without control and bidi characters (line ends stay), at most `limit` characters."""
    kept = "".join(c for c in text if c == "\n" or unicodedata.category(c) not in ("Cc", "Cf", "Cs", "Co", "Cn"))
    return kept if len(kept) <= limit else kept[: limit - 1].rstrip() + "…"


def one_line(text: str, limit: int) -> str:
    """The text cleaned, in one line."""
    return clean(" ".join(text.split()), limit)


def without_trailers(text: str) -> str:
    """The text without lines that git or a forge reads as trailers: only ours may stand in our commits."""
    return "\n".join(line for line in text.splitlines() if not _TRAILER.match(line)).strip()


def identity(name: str, email: str) -> str:
    """`Name <email>` as git writes it, without characters that end a field."""

    def plain(word: str, instead: str) -> str:
        return re.sub(r"[<>\x00-\x1f]", "", one_line(word, 200)).strip(" .,:;\"'") or instead

    return f"{plain(name, 'Tidegate agent')} <{plain(email, 'agent@tidegate.dev').replace(' ', '')}>"
