"""One HTTP session to the API server, configured by the official client's loader and nothing else of it.

The generated models cost more CPU than the requests themselves, so the hot path is JSON in and out (orjson).
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import orjson
from kubernetes.aio.client.configuration import Configuration
from kubernetes.aio.config import ConfigException, load_incluster_config, load_kube_config

from tidegate.errors import (
    AlreadyExists,
    Conflict,
    Expired,
    Forbidden,
    Invalid,
    KubeError,
    NotFound,
    PermanentError,
    TooManyRequests,
    Unavailable,
)

log = logging.getLogger(__name__)

REQUEST_SECONDS = 30.0
ATTEMPTS = 5
BACKOFF_SECONDS = 0.25
MAX_BACKOFF_SECONDS = 8.0
MAX_RETRY_AFTER_SECONDS = 30.0

OnCall = Callable[[str, str, str], None]  # verb, kind, HTTP code or "error"
Guard = Callable[[], None]  # raises when the request must not be sent any more


async def load_configuration(kubeconfig: str | None = None, context: str | None = None) -> Configuration:
    """The way to the API server: `kubeconfig`, $KUBECONFIG, a service account or ~/.kube/config, in this order."""
    configuration = Configuration()
    chosen = kubeconfig or os.environ.get("KUBECONFIG")
    try:
        if not chosen and not context and os.environ.get("KUBERNETES_SERVICE_HOST"):
            load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
        else:
            await load_kube_config(  # type: ignore[no-untyped-call]
                config_file=chosen or None, context=context, client_configuration=configuration, persist_config=False
            )
    except (ConfigException, OSError) as error:
        raise PermanentError(
            "NoCluster", f"no way to the API server: {error}; set KUBECONFIG or run inside a cluster"
        ) from error
    return configuration


def ssl_context(configuration: Configuration) -> ssl.SSLContext | bool:
    """The TLS settings of a configuration; True where the server has no TLS."""
    if not configuration.host.startswith("https:"):
        return True
    context = ssl.create_default_context(cafile=configuration.ssl_ca_cert, cadata=configuration.ca_cert_data)
    if configuration.cert_file:
        context.load_cert_chain(configuration.cert_file, keyfile=configuration.key_file)
    if not configuration.verify_ssl:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


async def auth_headers(configuration: Configuration) -> dict[str, str]:
    """The Authorization header as of now: service account tokens are read again as they rotate."""
    token = await configuration.get_api_key_with_prefix("BearerToken", alias="authorization")
    if token:
        return {"Authorization": token}
    if configuration.username:
        return {"Authorization": configuration.get_basic_auth_token() or ""}
    return {}


class LeanResponse(aiohttp.ClientResponse):
    """For a library that lists whole objects: without `managedFields`, which are half of each and nobody reads."""

    async def json(self, **_: Any) -> Any:
        """The parsed body."""
        body = orjson.loads(await self.read())
        for item in body.get("items") or ():
            item["metadata"].pop("managedFields", None)
        return body


async def new_session(
    configuration: Configuration,
    *,
    connections: int = 64,
    trace: aiohttp.TraceConfig | None = None,
    response_class: type[aiohttp.ClientResponse] = aiohttp.ClientResponse,
) -> aiohttp.ClientSession:
    """A session with the configuration's TLS settings; it carries no token: see `auth_headers`."""
    context = await asyncio.to_thread(ssl_context, configuration)
    connector = aiohttp.TCPConnector(limit=connections, ssl=context, keepalive_timeout=55)
    timeout = aiohttp.ClientTimeout(total=REQUEST_SECONDS, sock_connect=5)
    headers = {"User-Agent": "tidegate"}
    return aiohttp.ClientSession(
        connector=connector,
        timeout=timeout,
        headers=headers,
        trace_configs=[trace] if trace else None,
        response_class=response_class,
    )


def own_namespace(default: str = "default") -> str:
    """The namespace of the Pod this runs in."""
    path = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
    return path.read_text().strip() if path.exists() else default


def error_of(status: int, body: bytes, retry_after: str | None = None) -> KubeError:
    """The exception for an answer that is no success."""
    reason, message = "", ""
    try:
        parsed = orjson.loads(body)
        reason, message = str(parsed.get("reason") or ""), str(parsed.get("message") or "")
    except (orjson.JSONDecodeError, AttributeError):
        message = body[:200].decode("utf-8", "replace")
    kinds: dict[int, type[KubeError]] = {
        400: Invalid, 403: Forbidden, 404: NotFound, 409: Conflict, 410: Expired, 422: Invalid, 429: TooManyRequests,
    }  # fmt: skip
    kind = kinds.get(status, Unavailable if status >= 500 else KubeError)
    if status == 409 and reason == "AlreadyExists":
        kind = AlreadyExists
    wait: float | None = None
    if retry_after is not None:
        try:
            wait = float(retry_after)
        except ValueError:
            wait = None
    return kind(status, reason or f"HTTP{status}", message, wait)


class KubeSession:
    """Requests with bounded retries: 429 and refused connections always, other failures only for idempotent calls."""

    def __init__(
        self, configuration: Configuration, session: aiohttp.ClientSession, on_call: OnCall | None = None
    ) -> None:
        self._configuration = configuration
        self.http = session
        self.server = configuration.host.rstrip("/")
        self._on_call = on_call or (lambda _verb, _kind, _code: None)

    async def separate(self, trace: aiohttp.TraceConfig | None = None) -> aiohttp.ClientSession:
        """A new session to the same server that carries the present token; the caller closes it."""
        session = await new_session(self._configuration, connections=0, trace=trace, response_class=LeanResponse)
        session.headers.update(await auth_headers(self._configuration))
        return session

    async def close(self) -> None:
        """Close the connections."""
        await self.http.close()

    async def request(
        self,
        method: str,
        path: str,
        *,
        verb: str,
        kind: str,
        params: dict[str, str] | None = None,
        body: Any = None,
        content_type: str = "application/json",
        accept: str = "application/json",
        idempotent: bool = True,
        guard: Guard | None = None,
        timeout_seconds: float = REQUEST_SECONDS,
        attempts: int = ATTEMPTS,
    ) -> Any:
        """Send a request and return the parsed answer; raises a KubeError. `guard` is called before every sending."""
        data = orjson.dumps(body) if body is not None else None
        failure: KubeError | None = None
        for attempt in range(1, attempts + 1):
            if guard is not None:
                guard()
            try:
                return await self._once(method, path, verb, kind, params, data, content_type, accept, timeout_seconds)
            except (TooManyRequests, Unavailable) as error:
                failure = error
                sent = not (isinstance(error, TooManyRequests) or error.reason == "Refused")
                if (sent and not idempotent) or attempt == attempts:
                    raise
                wait = min(BACKOFF_SECONDS * 2 ** (attempt - 1), MAX_BACKOFF_SECONDS) * random.uniform(0.75, 1.25)
                await asyncio.sleep(max(wait, min(error.retry_after or 0.0, MAX_RETRY_AFTER_SECONDS)))
        raise failure or AssertionError("attempts must be at least 1")

    async def _once(
        self,
        method: str,
        path: str,
        verb: str,
        kind: str,
        params: dict[str, str] | None,
        data: bytes | None,
        content_type: str,
        accept: str,
        timeout_seconds: float,
    ) -> Any:
        headers = await auth_headers(self._configuration)
        headers["Accept"] = accept
        if data is not None:
            headers["Content-Type"] = content_type
        code = "error"
        try:
            async with self.http.request(
                method,
                self.server + path,
                params=params,
                data=data,
                headers=headers,
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=timeout_seconds, sock_connect=5),
            ) as response:
                code = str(response.status)
                raw = await response.read()
                for warning in response.headers.getall("Warning", ()):
                    log.warning("the API server warns", extra={"verb": verb, "kind": kind, "warning": warning[:500]})
                if response.status >= 300:
                    raise error_of(response.status, raw, response.headers.get("Retry-After"))
        except aiohttp.ClientConnectorError as error:
            raise Unavailable(0, "Refused", f"no connection to the API server: {error}") from error
        except TimeoutError as error:
            raise Unavailable(0, "Timeout", f"no answer within {timeout_seconds:.0f} s to {verb} {kind}") from error
        except aiohttp.ClientError as error:
            raise Unavailable(0, "Disconnected", f"{type(error).__name__}: {error}") from error
        finally:
            self._on_call(verb, kind, code)
        return orjson.loads(raw) if raw else {}

    async def stream_headers(self) -> dict[str, str]:
        """Headers for a request made on `http` directly."""
        return await auth_headers(self._configuration)
