"""Counting tokens: from an upstream's answers, estimated only where it tells nothing. Pure."""

from __future__ import annotations

import json
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

_CHARACTERS_A_TOKEN = 4
MAX_ATTEMPTS = 20_000  # remembered; the oldest are forgotten first


@dataclass(frozen=True, slots=True)
class Tokens:
    """What one call took. `estimated` is True where the upstream sent no usage."""

    tokens_in: int
    tokens_out: int
    estimated: bool = False


@dataclass(slots=True)
class Tally:
    """What an attempt's calls took so far."""

    tokens_in: int = 0
    tokens_out: int = 0
    calls: int = 0
    estimated: bool = False

    def add(self, tokens: Tokens) -> None:
        """Count one more call."""
        self.tokens_in += tokens.tokens_in
        self.tokens_out += tokens.tokens_out
        self.calls += 1
        self.estimated = self.estimated or tokens.estimated

    def document(self) -> dict[str, Any]:
        """The answer to `GET /usage`."""
        return {
            "tokensIn": self.tokens_in,
            "tokensOut": self.tokens_out,
            "modelCalls": self.calls,
            "estimated": self.estimated,
        }


@dataclass(slots=True)
class Tallies:
    """Tallies by attempt."""

    _by_attempt: OrderedDict[tuple[str, int], Tally] = field(default_factory=OrderedDict)

    def of(self, task_uid: str, attempt: int) -> Tally:
        """An attempt's tally, made on first use."""
        tally = self._by_attempt.setdefault((task_uid, attempt), Tally())
        self._by_attempt.move_to_end((task_uid, attempt))
        while len(self._by_attempt) > MAX_ATTEMPTS:
            self._by_attempt.popitem(last=False)
        return tally


def read_usage(document: Any) -> Tokens | None:
    """The usage in a completion or in a chunk of one, where it holds one."""
    usage = document.get("usage") if isinstance(document, dict) else None
    if not isinstance(usage, dict):
        return None
    counts = [usage.get("prompt_tokens"), usage.get("completion_tokens", 0)]
    if not all(isinstance(count, int) and not isinstance(count, bool) and count >= 0 for count in counts):
        return None
    return Tokens(int(counts[0] or 0), int(counts[1] or 0))


def characters(value: Any) -> int:
    """How many characters of text a JSON value holds, keys left out."""
    if isinstance(value, str):
        return len(value)
    if isinstance(value, list):
        return sum(characters(item) for item in value)
    if isinstance(value, dict):
        return sum(characters(item) for item in value.values())
    return 0


def estimate(asked: dict[str, Any], answered: int) -> Tokens:
    """A guess from the request's text and the number of characters answered."""
    asked_characters = characters(asked.get("messages")) + characters(asked.get("tools"))
    return Tokens(-(-asked_characters // _CHARACTERS_A_TOKEN), -(-answered // _CHARACTERS_A_TOKEN), True)


@dataclass(slots=True)
class StreamMeter:
    """Reads a stream of server-sent events as it passes: finds the usage and counts characters.

    Where the caller didn't ask for it, the event that carries only usage is left out: clients that take the first
    choice of every chunk break on it.
    """

    keep_usage: bool
    max_event_bytes: int = 4 * 1024 * 1024
    tokens: Tokens | None = None
    answered: int = 0
    _buffer: bytes = b""

    def feed(self, data: bytes) -> bytes:
        """The bytes to pass on now; incomplete events are held back. Raises ValueError on an endless event."""
        self._buffer += data
        out: list[bytes] = []
        while (end := _event_end(self._buffer)) > 0:
            event, self._buffer = self._buffer[:end], self._buffer[end:]
            if self._passes(event):
                out.append(event)
        if len(self._buffer) > self.max_event_bytes:
            raise ValueError("an event of the upstream's stream is too long")
        return b"".join(out)

    def rest(self) -> bytes:
        """What is left at the end of the stream."""
        rest, self._buffer = self._buffer, b""
        return rest if rest and self._passes(rest) else b""

    def _passes(self, event: bytes) -> bool:
        payload = b"".join(
            line[5:].strip() for line in event.replace(b"\r\n", b"\n").split(b"\n") if line.startswith(b"data:")
        )
        if not payload or payload == b"[DONE]":
            return True
        try:
            document = json.loads(payload)
        except ValueError:
            return True
        choices = document.get("choices") if isinstance(document, dict) else None
        if isinstance(choices, list):
            self.answered += sum(characters(choice.get("delta")) for choice in choices if isinstance(choice, dict))
        tokens = read_usage(document)
        if tokens is not None:
            self.tokens = tokens
        return self.keep_usage or tokens is None or bool(choices)


def _event_end(data: bytes) -> int:
    """Where the first complete event ends, 0 when none is complete."""
    ends = [at + len(mark) for mark in (b"\n\n", b"\r\n\r\n") if (at := data.find(mark)) >= 0]
    return min(ends, default=0)
