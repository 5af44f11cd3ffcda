"""Logs: one JSON object a line (or coloured lines for people), ours and the libraries' alike."""

from __future__ import annotations

import logging
import sys
from typing import Any

import structlog

_NOISY = ("aiohttp.access", "asyncio", "kopf.objects", "urllib3")


def _drop_color(_: Any, __: str, event: dict[str, Any]) -> dict[str, Any]:
    for field in ("color_message", "settings", "k8s_skip", "k8s_ref"):
        event.pop(field, None)
    return event


def configure(level: str = "INFO", style: str = "json") -> None:
    """Send the root logger to stderr. Modules log with `logging.getLogger(__name__)` and `extra={...}` for fields."""
    shared: list[Any] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _drop_color,
    ]
    last: list[Any] = [structlog.stdlib.ProcessorFormatter.remove_processors_meta]
    if style == "json":
        last += [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(default=str)]
    else:
        last.append(structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty()))
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=last))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in _NOISY:
        logging.getLogger(name).setLevel(max(logging.WARNING, logging.getLevelName(level)))
