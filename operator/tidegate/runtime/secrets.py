"""Git credentials out of annotated Secrets: read one at a time, never listed, watched or cached."""

from __future__ import annotations

import base64
import binascii

from tidegate.api.reasons import SECRET_MISSING, SECRET_NOT_FOR_REPOSITORY
from tidegate.clients.git import Credentials
from tidegate.errors import NotFound, PermanentError
from tidegate.names import ANNOTATION_GIT_URL
from tidegate.runtime.context import Context
from tidegate.runtime.urls import check_git_url, shown_url, url_has_prefix

_TYPES = {"kubernetes.io/basic-auth": "password", "kubernetes.io/ssh-auth": "ssh-privatekey"}


async def git_credentials(ctx: Context, namespace: str, secret_name: str, url: str) -> Credentials | None:
    """The credentials for a repository, None when no Secret is named.

    Raises PermanentError: UrlRefused, SecretMissing, or SecretNotForRepository when the Secret's type is wrong or its
    annotation `tidegate.dev/git-url` doesn't cover the URL.
    """
    check_git_url(url, ctx.settings)
    if not secret_name:
        return None
    try:
        secret = await ctx.kube.get("Secret", namespace, secret_name)
    except NotFound:
        raise PermanentError(
            SECRET_MISSING, f"Secret {secret_name!r} (repository.credentialsSecretName) is not in this namespace"
        ) from None
    return credentials_of(secret, url)


def credentials_of(secret: dict[str, object], url: str) -> Credentials:
    """Check a Secret against a repository's URL and read it. Pure; raises PermanentError."""
    meta = secret.get("metadata")
    assert isinstance(meta, dict)
    name = meta.get("name")
    needed = _TYPES.get(str(secret.get("type")))
    if needed is None:
        raise PermanentError(
            SECRET_NOT_FOR_REPOSITORY,
            f"Secret {name!r} has type {secret.get('type')!r}; use {' or '.join(sorted(_TYPES))}",
        )
    prefix = (meta.get("annotations") or {}).get(ANNOTATION_GIT_URL, "")
    if not prefix or not url_has_prefix(url, prefix):
        raise PermanentError(
            SECRET_NOT_FOR_REPOSITORY,
            f"Secret {name!r} is not for {shown_url(url)!r}: annotate it with {ANNOTATION_GIT_URL}=<URL prefix>",
        )
    data = secret.get("data")
    fields = {key: _decode(str(value)) for key, value in data.items()} if isinstance(data, dict) else {}
    if not fields.get(needed):
        raise PermanentError(SECRET_NOT_FOR_REPOSITORY, f"Secret {name!r} has no {needed!r}")
    return Credentials(
        username=fields.get("username", ""),
        password=fields.get("password", ""),
        ssh_key=fields.get("ssh-privatekey", ""),
        known_hosts=fields.get("known_hosts", ""),
    )


def _decode(value: str) -> str:
    try:
        return base64.b64decode(value, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return ""
