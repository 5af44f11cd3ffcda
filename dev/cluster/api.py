"""A client of the API server in a few lines: requests and watches, with the certificates of a kubeconfig."""

from __future__ import annotations

import base64
import http.client
import json
import ssl
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

TIMEOUT_SECONDS = 10.0


class ApiError(Exception):
    """The API server refused a request, or did not answer (status 0)."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}" if status else message)
        self.status = status


class Api:
    """The API server that a kubeconfig of dev.cluster.pki names."""

    def __init__(self, kubeconfig: Path) -> None:
        document = json.loads(kubeconfig.read_text())
        cluster, user = document["clusters"][0]["cluster"], document["users"][0]["user"]
        address = urlsplit(cluster["server"])
        self._host, self._port = address.hostname or "", address.port or 443
        self._tls = ssl.create_default_context(cadata=_decoded(cluster["certificate-authority-data"]))
        with tempfile.NamedTemporaryFile("w", suffix=".pem") as pair:  # ssl reads certificates from files only
            pair.write(_decoded(user["client-certificate-data"]) + _decoded(user["client-key-data"]))
            pair.flush()
            self._tls.load_cert_chain(pair.name)

    def _connect(self, timeout: float) -> http.client.HTTPSConnection:
        return http.client.HTTPSConnection(self._host, self._port, timeout=timeout, context=self._tls)

    def request(
        self, method: str, path: str, body: object = None, content_type: str = "application/json"
    ) -> dict[str, Any]:
        """One request; the decoded answer. Raises ApiError for any other status than 2xx."""
        connection = self._connect(TIMEOUT_SECONDS)
        try:
            content = None if body is None else json.dumps(body)
            connection.request(method, path, content, {"Content-Type": content_type, "Accept": "application/json"})
            answer = connection.getresponse()
            text = answer.read().decode(errors="replace")
        except (OSError, http.client.HTTPException) as lost:
            raise ApiError(0, f"no answer from {self._host}:{self._port}: {lost}") from lost
        finally:
            connection.close()
        if not 200 <= answer.status < 300:
            raise ApiError(answer.status, _message(text))
        decoded = json.loads(text) if text.startswith("{") else {"text": text}
        return dict(decoded)

    def get(self, path: str) -> dict[str, Any]:
        """GET `path`."""
        return self.request("GET", path)

    def answers(self, path: str) -> bool:
        """Whether GET `path` succeeds now."""
        try:
            self.get(path)
        except ApiError:
            return False
        return True

    def watch(self, path: str, query: Mapping[str, str], idle_seconds: float) -> Iterator[dict[str, Any]]:
        """Events of one watch until the server ends it. Raises ApiError when it breaks or is silent too long."""
        parameters = {**query, "watch": "1", "allowWatchBookmarks": "true"}
        connection = self._connect(idle_seconds)
        try:
            connection.request("GET", f"{path}?{urlencode(parameters)}", headers={"Accept": "application/json"})
            answer = connection.getresponse()
            if answer.status != http.client.OK:
                raise ApiError(answer.status, _message(answer.read().decode(errors="replace")))
            while line := answer.readline():
                yield dict(json.loads(line))
        except (OSError, http.client.HTTPException, ValueError) as lost:
            raise ApiError(0, f"watch of {path} broke: {lost}") from lost
        finally:
            connection.close()


def _decoded(text: str) -> str:
    return base64.b64decode(text).decode()


def _message(text: str) -> str:
    try:
        return str(json.loads(text)["message"])
    except (ValueError, KeyError, TypeError):
        return text[:500]
