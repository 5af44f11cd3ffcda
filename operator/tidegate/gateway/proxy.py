"""Passing a request on to the upstream and counting what it took."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from tidegate.clients import http
from tidegate.gateway.settings import Settings
from tidegate.gateway.usage import StreamMeter, Tokens, estimate, read_usage

# What a caller may not decide: whether the provider keeps the request, at which price it is served, for whom.
FORBIDDEN_FIELDS = ("store", "metadata", "service_tier", "user", "safety_identifier")
_KEY_REFUSED = (401, 403)


class UpstreamError(Exception):
    """The upstream gave no usable answer. `status` is what the caller gets."""

    def __init__(self, status: int, message: str, retry_after: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True)
class Completion:
    """A checked request for a chat completion."""

    body: dict[str, Any]
    stream: bool
    asked_for_usage: bool


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer of the upstream."""

    status: int
    body: bytes
    tokens: Tokens | None = None


def read_request(body: bytes) -> Completion:
    """Check the request; forbidden fields are dropped, and a stream is asked to tell its usage. Raises ValueError."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        raise ValueError("the body is not JSON") from None
    if not isinstance(document, dict) or not isinstance(document.get("messages"), list):
        raise ValueError("messages: missing or not a list")
    kept = {key: value for key, value in document.items() if key not in FORBIDDEN_FIELDS}
    stream = kept.get("stream") is True
    options = kept.get("stream_options")
    asked = isinstance(options, dict) and options.get("include_usage") is True
    if stream:
        kept["stream_options"] = {**(options if isinstance(options, dict) else {}), "include_usage": True}
    return Completion(kept, stream, asked)


class Upstream:
    """The provider. The key is sent to it and shown to nobody."""

    def __init__(self, settings: Settings) -> None:
        headers = {"accept-encoding": "identity"}
        if settings.key:
            headers["authorization"] = f"Bearer {settings.key}"
        self._settings = settings
        self._client = http.async_client(settings.upstream, timeout_seconds=settings.timeout_seconds, headers=headers)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def models(self) -> Answer:
        """The list of models."""
        async with self._open("GET", "models", None) as response:
            return Answer(response.status_code, await self._read(response))

    async def complete(self, asked: Completion) -> Answer:
        """A whole completion. Raises UpstreamError."""
        async with self._open("POST", "chat/completions", asked.body) as response:
            body = await self._read(response)
        if response.status_code != 200:
            return Answer(response.status_code, body)
        try:
            document = json.loads(body)
        except ValueError:
            raise UpstreamError(502, "the model's server answered with something that is not JSON") from None
        tokens = read_usage(document) or estimate(asked.body, len(body))
        return Answer(200, body, tokens)

    @asynccontextmanager
    async def stream(self, asked: Completion, meter: StreamMeter) -> AsyncIterator[Answer | AsyncIterator[bytes]]:
        """A streamed completion: an iterator of what to pass on, or a whole answer when the upstream refuses."""
        async with self._open("POST", "chat/completions", asked.body) as response:
            if response.status_code != 200:
                yield Answer(response.status_code, await self._read(response))
            else:
                yield self._events(response, meter)

    async def _events(self, response: http.Response, meter: StreamMeter) -> AsyncIterator[bytes]:
        try:
            async for data in response.aiter_raw():
                if out := meter.feed(data):
                    yield out
        except (http.HTTPError, ValueError) as error:
            raise UpstreamError(502, f"the model's server broke off: {type(error).__name__}") from None
        if out := meter.rest():
            yield out

    @asynccontextmanager
    async def _open(self, method: str, path: str, body: dict[str, Any] | None) -> AsyncIterator[http.Response]:
        """Send a request; what can't be passed on becomes UpstreamError. Never shows the upstream's word on our key."""
        try:
            async with self._client.stream(method, path, json=body) as response:
                if response.status_code in _KEY_REFUSED:
                    raise UpstreamError(
                        502, "the model's server refuses the gateway's key: check the key in its Secret"
                    )
                if response.status_code >= 500 or response.is_redirect:
                    raise UpstreamError(502, f"the model's server answered with {response.status_code}")
                if response.status_code == 429:
                    wait = response.headers.get("retry-after", "")
                    raise UpstreamError(429, "the model's server is busy: try again later", wait)
                yield response
        except http.TimeoutException:
            raise UpstreamError(
                504, f"the model's server took longer than {self._settings.timeout_seconds} s"
            ) from None
        except http.HTTPError as error:
            raise UpstreamError(502, f"the model's server can't be reached: {type(error).__name__}") from None

    async def _read(self, response: http.Response) -> bytes:
        chunks: list[bytes] = []
        size = 0
        async for chunk in response.aiter_raw():
            size += len(chunk)
            if size > self._settings.max_answer_bytes:
                raise UpstreamError(502, f"the model's answer is larger than {self._settings.max_answer_bytes} bytes")
            chunks.append(chunk)
        body = b"".join(chunks)
        key = self._settings.key.encode()
        return body.replace(key, b"[key]") if key and response.status_code != 200 else body
