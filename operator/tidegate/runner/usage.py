"""What the gateway counted for this Pod's attempt."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens and calls of one attempt; `problem` says why they are unknown."""

    tokens_in: int = 0
    tokens_out: int = 0
    model_calls: int = 0
    problem: str = ""


def ask_gateway(url: str, token_file: Path) -> Usage:
    """Ask `GET /usage` with this container's projected token. Never raises: usage is told, not relied upon."""
    if not url or not token_file.exists():
        return Usage()
    from tidegate.clients import http  # slow to import, and the agent waits for this container to be ready

    try:
        headers = {"authorization": f"Bearer {token_file.read_text().strip()}"}
        with http.client(url.rstrip("/").removesuffix("/v1"), timeout_seconds=_SECONDS, headers=headers) as client:
            answer = client.get("/usage")
            answer.raise_for_status()
            body = answer.json()
        return Usage(int(body["tokensIn"]), int(body["tokensOut"]), int(body["modelCalls"]))
    except (http.HTTPError, OSError, ValueError, KeyError, TypeError) as error:
        return Usage(problem=f"usage unknown: {type(error).__name__}")
