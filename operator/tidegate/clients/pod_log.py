"""A container's log, line by line."""

from __future__ import annotations

from collections.abc import AsyncIterator

import aiohttp

from tidegate.clients.kube import Kube
from tidegate.clients.kube_session import error_of
from tidegate.clients.resources import resource_of
from tidegate.errors import Unavailable

MAX_LINE = 64 * 1024


async def pod_log(kube: Kube, namespace: str, pod: str, container: str, *, follow: bool = False) -> AsyncIterator[str]:
    """The lines of a container's log, until its end where `follow` is set. Raises NotFound, and Invalid while the
    container waits to start."""
    url = kube.session.server + resource_of("Pod").path(namespace, pod, "log")
    params = {"container": container, **({"follow": "true"} if follow else {})}
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=5)
    headers = await kube.session.stream_headers()
    try:
        async with kube.session.http.get(url, params=params, headers=headers, timeout=timeout) as response:
            if response.status >= 300:
                raise error_of(response.status, await response.read())
            rest = b""
            async for chunk in response.content.iter_any():
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    yield line.decode("utf-8", "replace")
                if len(rest) > MAX_LINE:
                    yield rest.decode("utf-8", "replace")
                    rest = b""
            if rest:
                yield rest.decode("utf-8", "replace")
    except aiohttp.ClientError as error:
        raise Unavailable(0, "Disconnected", f"{type(error).__name__}: {error}") from error
