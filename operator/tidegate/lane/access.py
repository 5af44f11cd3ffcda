"""Credentials of lanes' remotes, out of the Secrets that their specs name."""

from __future__ import annotations

from tidegate.api import reasons
from tidegate.api.views import LaneView
from tidegate.clients.git import Credentials
from tidegate.errors import NotFound, PermanentError
from tidegate.runtime.context import Context
from tidegate.runtime.secrets import credentials_of
from tidegate.runtime.urls import check_git_url

SECRET_SECONDS = 20.0  # a Secret that was read this long ago is good enough


class Access:
    """Reads lanes' credentials. They stay in this process's memory."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._held: dict[tuple[str, str, str], tuple[float, Credentials, str]] = {}

    async def of(self, view: LaneView) -> tuple[Credentials | None, str]:
        """The credentials, None where the lane has none, and a mark that changes when they do. Raises PermanentError:
        SecretMissing, SecretNotForRepository, or a refused URL."""
        url, secret = view.spec["repository"]["url"], view.spec["repository"].get("credentialsSecretName") or ""
        check_git_url(url, self._ctx.settings)
        if not secret:
            return None, "none"
        held = self._held.get((view.meta.namespace, secret, url))
        if held is not None and self._ctx.monotonic() - held[0] < SECRET_SECONDS:
            return held[1], held[2]
        try:
            found = await self._ctx.kube.get("Secret", view.meta.namespace, secret)
        except NotFound:
            message = f"Secret {secret!r} (repository.credentialsSecretName) is not in this namespace"
            raise PermanentError(reasons.SECRET_MISSING, message) from None
        credentials, mark = credentials_of(found, url), f"{secret}/{found['metadata']['resourceVersion']}"
        self._held[view.meta.namespace, secret, url] = (self._ctx.monotonic(), credentials, mark)
        return credentials, mark
