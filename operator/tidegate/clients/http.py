"""HTTP to what isn't the API server: the only module that imports httpx."""

from __future__ import annotations

import ssl

import httpx

HTTPError = httpx.HTTPError
HTTPStatusError = httpx.HTTPStatusError
InvalidURL = httpx.InvalidURL
TimeoutException = httpx.TimeoutException
AsyncClient = httpx.AsyncClient
Client = httpx.Client
Response = httpx.Response


def _timeout(seconds: float) -> httpx.Timeout:
    return httpx.Timeout(seconds, connect=min(10.0, seconds))


def async_client(
    base_url: str = "", *, timeout_seconds: float = 60, headers: dict[str, str] | None = None, connections: int = 100
) -> AsyncClient:
    """A client that follows no redirects and takes nothing from the environment but the CA bundle (SSL_CERT_FILE)."""
    return httpx.AsyncClient(
        base_url=base_url,
        timeout=_timeout(timeout_seconds),
        headers=headers,
        limits=httpx.Limits(max_connections=connections),
        follow_redirects=False,
        trust_env=False,
        verify=ssl.create_default_context(),
    )


def client(base_url: str = "", *, timeout_seconds: float = 60, headers: dict[str, str] | None = None) -> Client:
    """As `async_client`, without asyncio: for the small programs in Pods."""
    return httpx.Client(
        base_url=base_url,
        timeout=_timeout(timeout_seconds),
        headers=headers,
        follow_redirects=False,
        trust_env=False,
        verify=ssl.create_default_context(),
    )
