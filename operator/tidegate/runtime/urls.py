"""Which git URLs may be named in a spec. Pure: names are not resolved here, git itself may follow no redirect."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from tidegate.api.reasons import URL_REFUSED
from tidegate.errors import PermanentError
from tidegate.settings import Settings

_CLUSTER_SUFFIXES = (".svc", ".cluster.local", ".internal", ".localhost")


def _refuse(url: str, why: str) -> PermanentError:
    return PermanentError(URL_REFUSED, f"repository URL {shown_url(url)!r}: {why}")


def shown_url(url: str) -> str:
    """A URL for people: without its user part, query and fragment."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()


def _inside(host: str) -> bool:
    """Whether a host name means an address of the cluster, of a node or of this machine."""
    if host == "localhost" or host.endswith(_CLUSTER_SUFFIXES) or ("." not in host and ":" not in host):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return not address.is_global


def check_git_url(url: str, settings: Settings) -> None:
    """Raise PermanentError(UrlRefused) unless the URL is `https://` or `ssh://` without credentials in it, to a host
    that is public or listed by the platform (`allowed_git_hosts`, `allowed_http_hosts`)."""
    parts = urlsplit(url)
    host = (parts.hostname or "").lower()
    if parts.scheme == "file":
        if not settings.allow_file_urls:
            raise _refuse(url, "file:// is not allowed; use https:// or ssh://")
        return
    if parts.scheme not in ("https", "ssh", "http"):
        raise _refuse(url, "use https:// or ssh://")
    if not host:
        raise _refuse(url, "it names no host")
    if parts.password is not None or (parts.username is not None and parts.scheme != "ssh"):
        raise _refuse(url, "it holds a user part; put credentials into a Secret and name it in credentialsSecretName")
    if parts.query or parts.fragment:
        raise _refuse(url, "it has a query or a fragment")
    if parts.scheme == "http" and host not in settings.allowed_http_hosts:
        raise _refuse(url, "http:// is allowed only for hosts that the platform lists (allowed_http_hosts)")
    if _inside(host) and host not in settings.allowed_git_hosts and host not in settings.allowed_http_hosts:
        raise _refuse(url, "its host lies inside the cluster and the platform doesn't list it (allowed_git_hosts)")


def git_protocols(settings: Settings) -> str:
    """The value of GIT_ALLOW_PROTOCOL that fits the settings."""
    words = ["https", "ssh"]
    if settings.allowed_http_hosts:
        words.append("http")
    if settings.allow_file_urls:
        words.append("file")
    return ":".join(words)


def url_has_prefix(url: str, prefix: str) -> bool:
    """Whether a Secret's `tidegate.dev/git-url` covers a URL: same scheme, host and port, and its path begins with the
    prefix's at a border between segments."""
    ours, theirs = urlsplit(url), urlsplit(prefix)
    if (ours.scheme.lower(), ours.hostname, ours.port) != (theirs.scheme.lower(), theirs.hostname, theirs.port):
        return False
    segments = [part for part in ours.path.split("/") if part]
    if ".." in segments or "." in segments or "%" in ours.path:
        return False
    wanted = [part for part in theirs.path.split("/") if part]
    if segments[: len(wanted)] == wanted:
        return True
    # a prefix that names one repository fits it with and without `.git`
    trimmed = [*segments[:-1], segments[-1].removesuffix(".git")] if segments else []
    return bool(wanted) and trimmed == [*wanted[:-1], wanted[-1].removesuffix(".git")]
