"""Completions of a model, constrained by a schema, through the gateway: what our own engines are made of."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, Self, TypeVar

from tidegate.clients import http

Json = dict[str, Any]


class CompletionError(Exception):
    """No answer came of it. The message is for the handoff's summary."""


@dataclass(frozen=True, slots=True)
class Access:
    """How a model is reached, and the bounds of one answer."""

    base_url: str
    token: str = field(default="", repr=False)
    model: str = ""
    seed: int = 1
    max_tokens: int = 2000
    timeout_seconds: int = 600

    @classmethod
    def load(cls, environment: Mapping[str, str] = os.environ, *, engine: str) -> Self:
        """Read the agent container's environment; `engine` begins its variables. Raises CompletionError naming one."""
        base_url = environment.get("OPENAI_BASE_URL", "")
        if not base_url:
            raise CompletionError("OPENAI_BASE_URL is not set: the Pod's builder points it at the gateway")
        return cls(
            base_url,
            environment.get("OPENAI_API_KEY", ""),
            environment.get("TIDEGATE_MODEL", ""),
            number(environment, "ATTEMPT", 1),
            number(environment, f"{engine}_MAX_TOKENS", 2000),
            number(environment, f"{engine}_TIMEOUT_SECONDS", 600),
        )


def number(environment: Mapping[str, str], name: str, default: int) -> int:
    """A whole number out of the environment variable TIDEGATE_<name>."""
    text = environment.get(f"TIDEGATE_{name}", "")
    return int(text) if text.isdigit() else default


class Writes(Protocol):
    """Options of an engine: they say at least where its handoff goes."""

    @property
    def handoff(self) -> Path:
        """The handoff's path."""


Options = TypeVar("Options", bound=Writes)


def run_engine(load: Callable[[], Options], work: Callable[[Options], Json], without: str) -> int:
    """Do an engine's work and write its handoff, which says `without` where nothing came of it; the exit code."""
    try:
        options = load()
    except CompletionError as error:
        print(error, file=sys.stderr)
        return 2
    try:
        document = work(options)
    except (CompletionError, OSError, ValueError) as error:
        document = {"status": "Failed", "summary": f"{without}: {error}"[:2000]}
    options.handoff.write_text(json.dumps(document, indent=1) + "\n")
    print(document["summary"])
    return 0 if document["status"] == "Complete" else 1


class Model:
    """A model that answers with JSON. Use it as a context."""

    def __init__(self, access: Access) -> None:
        self._access = access
        headers = {"authorization": f"Bearer {access.token}"} if access.token else {}
        self._client = http.client(access.base_url, timeout_seconds=access.timeout_seconds, headers=headers)
        self._name = access.model
        self._asked = 0
        self.usage = {"tokensIn": 0, "tokensOut": 0}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def ask(self, messages: list[Json], name: str, schema: Json) -> str:
        """One completion's text. A server that knows no schemas is asked for any JSON. Raises CompletionError."""
        self._name = self._name or self._first()
        turn, self._asked = self._asked, self._asked + 1
        formats: list[Json] = [
            {"type": "json_schema", "json_schema": {"name": name, "schema": schema, "strict": True}},
            {"type": "json_object"},
        ]
        for attempt, response_format in enumerate(formats):
            body = {
                "model": self._name,
                "messages": messages,
                "max_tokens": self._access.max_tokens,
                "temperature": 0.2,
                "seed": self._access.seed * 100 + turn,
                "response_format": response_format,
            }
            try:
                answer = self._client.post("chat/completions", json=body)
            except http.HTTPError as error:
                raise CompletionError(f"the gateway gave no answer: {type(error).__name__}") from None
            if answer.status_code == 400 and attempt == 0:
                continue
            return self._text(answer)
        raise CompletionError("the model's server takes no request")

    def _first(self) -> str:
        try:
            answer = self._client.get("models")
            answer.raise_for_status()
            return str(answer.json()["data"][0]["id"])
        except (http.HTTPError, ValueError, LookupError, TypeError) as error:
            raise CompletionError(f"no model is named, and the gateway lists none: {type(error).__name__}") from None

    def _text(self, answer: http.Response) -> str:
        try:
            document = answer.json()
            if answer.status_code != 200:
                said = str((document.get("error") or {}).get("message") or "")[:300]
                raise CompletionError(f"the gateway answered with {answer.status_code}: {said}")
            choice = document["choices"][0]
            spent = document.get("usage") or {}
            self.usage["tokensIn"] += int(spent.get("prompt_tokens") or 0)
            self.usage["tokensOut"] += int(spent.get("completion_tokens") or 0)
            return str(choice["message"]["content"] or "")
        except (ValueError, LookupError, TypeError, AttributeError):
            status = answer.status_code
            raise CompletionError(f"the gateway's answer with status {status} is no completion") from None
