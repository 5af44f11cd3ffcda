"""The volumes of an agent Pod and which container sees which. Pure.

`state` and the git credentials are never mounted into the agent's container.
"""

from __future__ import annotations

from typing import Any

from tidegate import names

Object = dict[str, Any]
MIN_TOKEN_SECONDS = 600  # the API server's least
_SIZES = {"tools": "4Mi", "input": "4Mi", "output": "256Mi", "state": "2Gi", "home": "1Gi", "tmp": "1Gi"}
_GIT, _AGENT_TOKEN, _PUBLISHER_TOKEN = "git-credentials", "agent-token", "publisher-token"


def volumes(*, storage: str, secret: str, gateway: bool, token_seconds: int) -> list[Object]:
    """The Pod's volumes. `storage` bounds the working tree; `token_seconds` is how long a gateway token must last."""
    found: list[Object] = [{"name": "workspace", "emptyDir": {"sizeLimit": storage}}]
    found += [{"name": name, "emptyDir": {"sizeLimit": size}} for name, size in _SIZES.items()]
    found.append({"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": "64Mi"}})
    if secret:
        found.append({"name": _GIT, "secret": {"secretName": secret, "defaultMode": 0o440}})
    if gateway:
        found += [_token(_AGENT_TOKEN, token_seconds), _token(_PUBLISHER_TOKEN, token_seconds)]
    return found


def _token(name: str, seconds: int) -> Object:
    """The agent reads its token once, so it must outlast the attempt. The publisher has its own file."""
    source = {
        "audience": names.GATEWAY_AUDIENCE,
        "expirationSeconds": max(seconds, MIN_TOKEN_SECONDS),
        "path": names.PATH_TOKEN.rsplit("/", 1)[1],
    }
    return {"name": name, "projected": {"defaultMode": 0o440, "sources": [{"serviceAccountToken": source}]}}


def _mount(name: str, path: str, *, read_only: bool = False) -> Object:
    made: Object = {"name": name, "mountPath": path}
    if read_only:
        made["readOnly"] = True
    return made


def _token_mount(name: str) -> Object:
    return _mount(name, names.PATH_TOKEN.rsplit("/", 1)[0], read_only=True)


def workspace_mounts(*, secret: bool) -> list[Object]:
    """For the container that makes the working tree."""
    made = [
        _mount("workspace", names.PATH_WORKSPACE),
        _mount("tools", names.PATH_TOOLS),
        _mount("input", names.PATH_INPUT),
        _mount("state", names.PATH_STATE),
    ]
    return [*made, _mount(_GIT, names.PATH_GIT_CREDENTIALS, read_only=True)] if secret else made


def publisher_mounts(*, secret: bool, gateway: bool) -> list[Object]:
    """For the sidecar: the agent's work is read-only data."""
    made = [
        _mount("tools", names.PATH_TOOLS),
        _mount("workspace", names.PATH_WORKSPACE, read_only=True),
        _mount("output", names.PATH_OUTPUT, read_only=True),
        _mount("state", names.PATH_STATE),
    ]
    if secret:
        made.append(_mount(_GIT, names.PATH_GIT_CREDENTIALS, read_only=True))
    if gateway:
        made.append(_token_mount(_PUBLISHER_TOKEN))
    return made


def agent_mounts(*, gateway: bool) -> list[Object]:
    """For the agent: no credential but its own token for the gateway."""
    made = [
        _mount("workspace", names.PATH_WORKSPACE),
        _mount("tools", names.PATH_TOOLS, read_only=True),
        _mount("input", names.PATH_INPUT, read_only=True),
        _mount("output", names.PATH_OUTPUT),
        _mount("home", names.PATH_HOME),
        _mount("tmp", names.PATH_TMP),
        _mount("shm", "/dev/shm"),  # noqa: S108 - a mount point inside the Pod
    ]
    return [*made, _token_mount(_AGENT_TOKEN)] if gateway else made
