"""The key that a lane signs its candidates with, out of the Secret that its spec names."""

from __future__ import annotations

from tidegate.api import reasons
from tidegate.api.views import LaneView
from tidegate.clients.git import GitThreads
from tidegate.clients.signing import SigningKey, read_key
from tidegate.errors import NotFound, PermanentError
from tidegate.runtime.context import Context
from tidegate.runtime.secrets import credentials_of

TRUST_SECONDS = 20.0  # a key that was read this long ago is good enough


class Signers:
    """Reads lanes' keys. They stay in this process's memory."""

    def __init__(self, ctx: Context, threads: GitThreads) -> None:
        self._ctx = ctx
        self._threads = threads
        self._held: dict[tuple[str, str, str], tuple[float, SigningKey]] = {}

    async def of(self, lane: LaneView) -> SigningKey | None:
        """The lane's key, None where it doesn't sign. Raises PermanentError: SecretMissing, SecretNotForRepository,
        SigningKeyRefused."""
        name = lane.spec.get("signingSecretName") or ""
        if not name:
            return None
        place = (lane.meta.namespace, name, lane.spec["repository"]["url"])
        held = self._held.get(place)
        if held is not None and self._ctx.monotonic() - held[0] < TRUST_SECONDS:
            return held[1]
        try:
            secret = await self._ctx.kube.get("Secret", lane.meta.namespace, name)
        except NotFound:
            message = f"Secret {name!r} (signingSecretName) is not in this namespace"
            raise PermanentError(reasons.SECRET_MISSING, message) from None
        private = credentials_of(secret, place[2]).ssh_key
        if not private:
            message = (
                f"Secret {name!r} (signingSecretName) has no ssh-privatekey: its type must be kubernetes.io/ssh-auth"
            )
            raise PermanentError(reasons.SIGNING_KEY_REFUSED, message)
        if held is None or held[1].private != private:
            held = (0.0, await self._threads.call(read_key, private, f"Secret {name!r} (signingSecretName)"))
        self._held[place] = (self._ctx.monotonic(), held[1])
        return held[1]
