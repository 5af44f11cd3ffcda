"""The gateway's settings, from the environment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tidegate.errors import PermanentError

PREFIX = "TIDEGATE_GATEWAY_"


@dataclass(frozen=True, slots=True)
class Settings:
    """Where models are served and what a request may cost. `key` is the provider's; it lives here alone."""

    upstream: str
    key: str = field(default="", repr=False)
    host: str = "0.0.0.0"  # noqa: S104 - a Pod's own network
    port: int = 8080
    max_body_bytes: int = 8 * 1024 * 1024
    max_answer_bytes: int = 16 * 1024 * 1024
    timeout_seconds: int = 900
    identity_seconds: float = 60.0
    refusal_seconds: float = 5.0

    @classmethod
    def load(cls, environment: Mapping[str, str] = os.environ) -> Settings:
        """Read `TIDEGATE_GATEWAY_*`; the key from `..._KEY_FILE` or `..._KEY`. Raises PermanentError."""
        upstream = environment.get(f"{PREFIX}UPSTREAM", "").rstrip("/")
        if not upstream.startswith(("http://", "https://")):
            message = (
                f"{PREFIX}UPSTREAM: set it to the base URL of an OpenAI-compatible API, such as http://llm:8080/v1"
            )
            raise PermanentError("GatewayMisconfigured", message)
        key = environment.get(f"{PREFIX}KEY", "").strip()
        if file := environment.get(f"{PREFIX}KEY_FILE", ""):
            key = _read_key(Path(file))
        numbers: dict[str, Any] = {}
        for name in ("port", "max_body_bytes", "max_answer_bytes", "timeout_seconds"):
            if text := environment.get(f"{PREFIX}{name.upper()}", ""):
                if not text.isdigit():
                    raise PermanentError("GatewayMisconfigured", f"{PREFIX}{name.upper()}: {text!r} is no whole number")
                numbers[name] = int(text)
        return replace(cls(upstream, key), **numbers)


def _read_key(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError as error:
        message = f"{PREFIX}KEY_FILE: {path} can't be read ({error.strerror}): mount the Secret with the provider's key"
        raise PermanentError("GatewayMisconfigured", message) from None
