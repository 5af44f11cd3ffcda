"""Metrics of the gateway's process."""

from __future__ import annotations

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

REGISTRY = CollectorRegistry()
CONTENT_TYPE = CONTENT_TYPE_LATEST
ProcessCollector(registry=REGISTRY)
PlatformCollector(registry=REGISTRY)

REQUESTS = Counter(
    "tidegate_gateway_requests_total", "Requests by route and HTTP status", ("route", "code"), registry=REGISTRY
)
SECONDS = Histogram(
    "tidegate_gateway_request_seconds",
    "Time to answer a request, streams to their end",
    ("route",),
    buckets=(0.01, 0.05, 0.25, 1, 5, 15, 60, 180, 600, 1800),
    registry=REGISTRY,
)
TOKENS = Counter(
    "tidegate_gateway_tokens_total", "Tokens passed, by direction (in, out)", ("direction",), registry=REGISTRY
)
ESTIMATED = Counter(
    "tidegate_gateway_estimated_calls_total",
    "Calls whose tokens were estimated: the upstream sent none",
    registry=REGISTRY,
)


def exposition() -> bytes:
    """All metrics in the text format."""
    return generate_latest(REGISTRY)
