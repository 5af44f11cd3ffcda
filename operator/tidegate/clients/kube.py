"""The API server: get, list, create, patch, delete and one-object watches, on plain dicts."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from typing import Any, Literal

import aiohttp
import orjson

from tidegate.clients.kube_session import (
    Guard,
    KubeSession,
    OnCall,
    error_of,
    load_configuration,
    new_session,
)
from tidegate.clients.resources import resource_of
from tidegate.errors import Expired, NotFound, Unavailable
from tidegate.names import FIELD_MANAGER

PAGE = 500
PATCH_TYPES = {
    "merge": "application/merge-patch+json",
    "json": "application/json-patch+json",
    "apply": "application/apply-patch+yaml",
}
IDENTITY = ("namespace", "name", "uid", "resourceVersion")
PARTIAL = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"

PatchContent = Literal["merge", "json", "apply"]
Json = dict[str, Any]
Items = list[Json]


class Kube:
    """The client. Kinds are named as in `kind:`; see `tidegate.clients.resources`. Every method raises KubeErrors.

    Writes take a `guard` that is called right before each sending, retries included. Rooms write through
    `tidegate.runtime.writer`, which passes the Lease's.
    """

    def __init__(self, session: KubeSession) -> None:
        self.session = session

    @classmethod
    async def connect(
        cls, kubeconfig: str | None = None, on_call: OnCall | None = None, context: str | None = None
    ) -> Kube:
        """Find the API server (see `load_configuration`) and open a session; `on_call` counts requests."""
        configuration = await load_configuration(kubeconfig, context)
        return cls(KubeSession(configuration, await new_session(configuration), on_call))

    async def close(self) -> None:
        """Close the session."""
        await self.session.close()

    async def get(self, kind: str, namespace: str, name: str, *, timeout_seconds: float = 30) -> Json:
        """One object as it is now; raises NotFound."""
        path = resource_of(kind).path(namespace, name)
        answer: Json = await self.session.request("GET", path, verb="get", kind=kind, timeout_seconds=timeout_seconds)
        return answer

    async def list(self, kind: str, namespace: str | None = None, selector: str = "") -> tuple[Items, str]:
        """All objects of a kind (of a namespace, of a label selector) and the resourceVersion of the list.

        Items carry no `kind` and `apiVersion`, as the API server leaves them out. Read in chunks; when the continue
        token expires midway the list starts again.
        """
        items, version = await self._pages(kind, namespace, selector, "application/json")
        return items, version

    async def list_metadata(
        self, kind: str, namespace: str | None = None, selector: str = "", fields: str = ""
    ) -> tuple[Items, str]:
        """As `list`, but of each object only what in `metadata` tells it from others: cheap for both sides. `fields`
        is a field selector."""

        def identity(item: Json) -> Json:
            return {"metadata": {name: item["metadata"].get(name, "") for name in IDENTITY}}

        return await self._pages(kind, namespace, selector, PARTIAL, identity, fields)

    async def visit(self, kind: str, namespace: str | None, selector: str, visitor: Callable[[Json], Any]) -> None:
        """Hand each object to `visitor`, chunk by chunk, so that never all are in memory; one may come twice."""
        await self._pages(kind, namespace, selector, "application/json", visitor)

    async def probe(self, kind: str, namespace: str | None = None) -> None:
        """See whether a kind is served and may be listed; raises NotFound, Forbidden."""
        path = resource_of(kind).path(namespace)
        await self.session.request("GET", path, verb="list", kind=kind, params={"limit": "1"}, accept=PARTIAL)

    async def new_session(self, trace: aiohttp.TraceConfig | None = None) -> tuple[aiohttp.ClientSession, str]:
        """A session of its own with the present token, and the server's URL: for a library that makes requests itself
        and asks again when the token is refused."""
        return await self.session.separate(trace), self.session.server

    async def _pages(
        self,
        kind: str,
        namespace: str | None,
        selector: str,
        accept: str,
        keep: Callable[[Json], Any] | None = None,
        fields: str = "",
    ) -> tuple[Items, str]:
        path = resource_of(kind).path(namespace)
        for _ in range(3):
            items: Items = []
            params = {"limit": str(PAGE)}
            if selector:
                params["labelSelector"] = selector
            if fields:
                params["fieldSelector"] = fields
            try:
                while True:
                    page = await self.session.request("GET", path, verb="list", kind=kind, params=params, accept=accept)
                    found = page.get("items") or []
                    items.extend(map(keep, found) if keep else found)
                    token = page["metadata"].get("continue")
                    if not token:
                        return items, str(page["metadata"]["resourceVersion"])
                    params["continue"] = token
            except Expired:
                continue
        raise Unavailable(410, "Expired", f"the list of {kind} changed faster than it could be read")

    async def create(self, kind: str, namespace: str, obj: Json, *, guard: Guard | None = None) -> Json:
        """Create an object (`apiVersion` and `kind` are filled in). Raises AlreadyExists, Forbidden, Invalid.

        Not sent twice when the first answer was lost: then Unavailable is raised and the caller looks again.
        """
        resource = resource_of(kind)
        body = {"apiVersion": resource.api_version, "kind": kind, **obj}
        answer: Json = await self.session.request(
            "POST",
            resource.path(namespace),
            verb="create",
            kind=kind,
            params={"fieldManager": FIELD_MANAGER},
            body=body,
            idempotent=False,
            guard=guard,
        )
        return answer

    async def patch(
        self,
        kind: str,
        namespace: str,
        name: str,
        patch: Any,
        *,
        status: bool = False,
        content: PatchContent = "merge",
        guard: Guard | None = None,
        timeout_seconds: float = 30,
        attempts: int = 5,
        field_manager: str = FIELD_MANAGER,
    ) -> Json:
        """Change an object, or its status; put `metadata.resourceVersion` into the patch to get Conflict when it moved.

        `apply` is server-side apply, with force where the field manager is the operator's.
        """
        params = {"fieldManager": field_manager}
        if content == "apply":
            params["force"] = "true" if field_manager == FIELD_MANAGER else "false"
            resource = resource_of(kind)
            patch = {"apiVersion": resource.api_version, "kind": kind, **patch}
        answer: Json = await self.session.request(
            "PATCH",
            resource_of(kind).path(namespace, name, "status" if status else ""),
            verb="apply" if content == "apply" else "patch_status" if status else "patch",
            kind=kind,
            params=params,
            body=patch,
            content_type=PATCH_TYPES[content],
            idempotent=content != "json",
            guard=guard,
            timeout_seconds=timeout_seconds,
            attempts=attempts,
        )
        return answer

    async def delete(
        self,
        kind: str,
        namespace: str,
        name: str,
        *,
        uid: str | None = None,
        grace_seconds: int | None = None,
        propagation: str = "Background",
        guard: Guard | None = None,
    ) -> None:
        """Delete an object; one that is gone already is a success. With `uid` another object of that name is left
        alone (Conflict)."""
        options: Json = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": propagation}
        if uid:
            options["preconditions"] = {"uid": uid}
        if grace_seconds is not None:
            options["gracePeriodSeconds"] = grace_seconds
        try:
            await self.session.request(
                "DELETE",
                resource_of(kind).path(namespace, name),
                verb="delete",
                kind=kind,
                body=options,
                guard=guard,
            )
        except NotFound:
            return

    async def watch_one(
        self, kind: str, namespace: str, name: str, resource_version: str, seconds: float
    ) -> AsyncGenerator[Json, None]:
        """The changes of one object after a resourceVersion, for at most about `seconds`. Yields watch events; ends
        early when the connection breaks; raises KubeErrors when the request is refused."""
        params = {
            "watch": "true",
            "fieldSelector": f"metadata.name={name}",
            "resourceVersion": resource_version,
            "timeoutSeconds": str(max(1, int(seconds))),
        }
        url = self.session.server + resource_of(kind).path(namespace)
        try:
            async with self.session.http.get(
                url,
                params=params,
                headers=await self.session.stream_headers(),
                timeout=aiohttp.ClientTimeout(total=seconds + 5, sock_connect=5),
            ) as response:
                if response.status >= 300:
                    raise error_of(response.status, await response.read())
                async for line in response.content:
                    yield orjson.loads(line)
        except (aiohttp.ClientError, TimeoutError):
            return
