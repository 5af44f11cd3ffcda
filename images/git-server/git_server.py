"""Smart HTTP for bare repositories: `git http-backend` behind a threaded server that asks for a token.

Environment: `GIT_SERVER_ROOT` (directory of `NAME.git`), `GIT_SERVER_LISTEN_PORT`, and the token in
`GIT_SERVER_TOKEN_FILE` or `GIT_SERVER_TOKEN`. Every request but `/healthz` needs the token, as password of any user
(basic) or as bearer.
`PUT /admin/repositories/NAME` with a tar body makes a repository, `DELETE` removes it.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import hmac
import io
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import IO, BinaryIO
from urllib.parse import unquote, urlsplit

from repositories import RepositoryError, RepositoryExistsError, delete_repository, make_repository

BLOCK = 64 * 1024
ADMIN = "/admin/repositories/"
MAX_SEED_BYTES = 256 * 1024 * 1024
# Said by environment, so that a repository's own file can't lack it.
CONFIGURATION = {
    "http.receivepack": "true",
    "receive.advertiseAtomic": "true",
    "receive.fsckObjects": "true",
    "uploadpack.allowAnySHA1InWant": "true",
    "uploadpack.allowFilter": "true",
    "safe.directory": "*",
    "gc.auto": "0",
    "core.compression": "1",
}


class GitServer(ThreadingHTTPServer):
    """Serves the repositories below `root` to whoever has `token`."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], root: Path, token: str) -> None:
        super().__init__(address, Handler)
        self.root = root
        self.token = token


class Handler(BaseHTTPRequestHandler):
    """One connection; requests on it run one after the other."""

    protocol_version = "HTTP/1.1"
    server_version = "tidegate-git-server"
    sys_version = ""
    timeout = 300
    wbufsize = BLOCK
    server: GitServer

    def do_GET(self) -> None:
        """Health, or a read of git's."""
        if self.path == "/healthz":
            self.reply(HTTPStatus.OK, {"status": "ok"})
        elif self.authorised():
            self.serve_git()

    def do_POST(self) -> None:
        """Fetches and pushes."""
        if self.authorised():
            self.serve_git()

    def do_PUT(self) -> None:
        """Make a repository from a tar."""
        if not self.authorised():
            return None
        name = self.admin_name()
        if name is None:
            return None
        body = io.BytesIO()
        for block in self.body_blocks():
            body.write(block)
            if body.tell() > MAX_SEED_BYTES:
                self.close_connection = True
                return self.reply(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, {"error": "more than 256 MiB of files"})
        body.seek(0)
        try:
            made = make_repository(self.server.root, name, body)
        except RepositoryExistsError as error:
            return self.reply(HTTPStatus.CONFLICT, {"error": str(error)})
        except RepositoryError as error:
            return self.reply(HTTPStatus.BAD_REQUEST, {"error": str(error)})
        return self.reply(HTTPStatus.CREATED, {"path": f"/{made.name}"})

    def do_DELETE(self) -> None:
        """Remove a repository."""
        if not self.authorised():
            return None
        name = self.admin_name()
        if name is None:
            return None
        try:
            gone = delete_repository(self.server.root, name)
        except RepositoryError as error:
            return self.reply(HTTPStatus.BAD_REQUEST, {"error": str(error)})
        return self.reply(HTTPStatus.OK if gone else HTTPStatus.NOT_FOUND, {"deleted": gone})

    def admin_name(self) -> str | None:
        """The repository an admin request names; answers 404 and gives None when there is none."""
        path = unquote(urlsplit(self.path).path)
        if path.startswith(ADMIN):
            return path.removeprefix(ADMIN)
        self.close_connection = True
        self.reply(HTTPStatus.NOT_FOUND, {"error": f"PUT and DELETE are for {ADMIN}NAME"})
        return None

    def authorised(self) -> bool:
        """Whether the request brings the token; answers 401 when it doesn't."""
        given = token_of(self.headers.get("Authorization", ""))
        if hmac.compare_digest(given.encode(), self.server.token.encode()):
            return True
        self.close_connection = True
        self.reply(HTTPStatus.UNAUTHORIZED, {"error": "a token is needed"}, {"WWW-Authenticate": 'Basic realm="git"'})
        return False

    def serve_git(self) -> None:
        """Hand the request to `git http-backend` as CGI and stream what it answers."""
        backend = subprocess.Popen(
            ["git", "http-backend"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=self.cgi_environment()
        )
        assert backend.stdin
        assert backend.stdout
        feeder = threading.Thread(target=self.feed, args=(backend.stdin,), daemon=True)
        feeder.start()
        try:
            self.relay(backend.stdout)
        except OSError:
            self.close_connection = True
            backend.kill()
        finally:
            backend.stdout.close()
            backend.wait()
            feeder.join()

    def feed(self, stdin: IO[bytes]) -> None:
        """Copy the request's body to the backend; a backend that ends early ends the connection too."""
        try:
            for block in self.body_blocks():
                stdin.write(block)
        except (OSError, ValueError):
            self.close_connection = True
        finally:
            with contextlib.suppress(OSError):
                stdin.close()

    def relay(self, stdout: IO[bytes]) -> None:
        """Translate the CGI answer: headers, then the body in chunks."""
        status, headers = read_cgi_headers(stdout)
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        chunked = self.request_version != "HTTP/1.0"
        if chunked:
            self.send_header("Transfer-Encoding", "chunked")
        else:
            self.close_connection = True
        self.end_headers()
        while block := stdout.read1(BLOCK):  # type: ignore[attr-defined]
            self.wfile.write(b"%x\r\n%s\r\n" % (len(block), block) if chunked else block)
            self.wfile.flush()
        if chunked:
            self.wfile.write(b"0\r\n\r\n")
        self.wfile.flush()

    def cgi_environment(self) -> dict[str, str]:
        """What CGI and git ask for; nothing of our own environment but PATH."""
        parts = urlsplit(self.path)
        environment = {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": "/nonexistent",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_PROJECT_ROOT": str(self.server.root),
            "GIT_HTTP_EXPORT_ALL": "1",
            "GATEWAY_INTERFACE": "CGI/1.1",
            "SERVER_PROTOCOL": self.request_version,
            "REQUEST_METHOD": self.command,
            "PATH_INFO": unquote(parts.path),
            "QUERY_STRING": parts.query,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "REMOTE_ADDR": self.client_address[0],
            "REMOTE_USER": "git",
            "GIT_CONFIG_COUNT": str(len(CONFIGURATION)),
        }
        for index, (key, value) in enumerate(CONFIGURATION.items()):
            environment |= {f"GIT_CONFIG_KEY_{index}": key, f"GIT_CONFIG_VALUE_{index}": value}
        optional = {
            "CONTENT_LENGTH": "Content-Length",
            "HTTP_CONTENT_ENCODING": "Content-Encoding",
            "GIT_PROTOCOL": "Git-Protocol",
        }
        for variable, header in optional.items():
            if header in self.headers:
                environment[variable] = self.headers[header]
        return environment

    def body_blocks(self) -> Iterator[bytes]:
        """The request's body, whether it has a length or comes in chunks; raises ValueError when it is cut off."""
        if "chunked" in self.headers.get("Transfer-Encoding", "").lower():
            yield from read_chunks(self.rfile)
            return
        left = int(self.headers.get("Content-Length") or 0)
        while left:
            block = self.rfile.read(min(left, BLOCK))
            if not block:
                raise ValueError("the body ended early")
            left -= len(block)
            yield block

    def reply(self, status: HTTPStatus, body: dict[str, object], headers: dict[str, str] | None = None) -> None:
        """A small JSON answer."""
        data = json.dumps(body).encode() + b"\n"
        self.send_response(status)
        for name, value in {
            "Content-Type": "application/json",
            "Content-Length": str(len(data)),
            **(headers or {}),
        }.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
        """One line a request, without the kubelet's probes."""
        if self.path != "/healthz":
            sys.stderr.write(f"{self.address_string()} {format % args}\n")


def token_of(header: str) -> str:
    """The token in an Authorization header: the password of basic, or the bearer token."""
    scheme, _, value = header.partition(" ")
    if scheme.lower() == "bearer":
        return value.strip()
    if scheme.lower() != "basic":
        return ""
    try:
        return base64.b64decode(value).decode().partition(":")[2]
    except (binascii.Error, UnicodeDecodeError):
        return ""


def read_cgi_headers(stdout: IO[bytes]) -> tuple[int, list[tuple[str, str]]]:
    """Status and headers of a CGI answer; a backend that died without one is a 500."""
    status, headers = HTTPStatus.OK.value, []
    line = stdout.readline()
    if not line:
        return HTTPStatus.INTERNAL_SERVER_ERROR.value, []
    while line.strip():
        name, _, value = line.decode("latin-1").partition(":")
        if name.lower() == "status":
            status = int(value.split()[0])
        else:
            headers.append((name, value.strip()))
        line = stdout.readline()
    return status, headers


def read_chunks(source: BinaryIO | io.BufferedIOBase) -> Iterator[bytes]:
    """The content of a chunked body; raises ValueError when it is malformed or cut off."""
    while size := int(source.readline(1024).split(b";")[0].strip(), 16):
        left = size
        while left:
            block = source.read(min(left, BLOCK))
            if not block:
                raise ValueError("the body ended early")
            left -= len(block)
            yield block
        source.readline(8)
    while source.readline(BLOCK).strip():
        pass


def read_token() -> str:
    """The token from its file or the environment; ends the program when there is none."""
    path = os.environ.get("GIT_SERVER_TOKEN_FILE", "")
    token = Path(path).read_text().strip() if path else os.environ.get("GIT_SERVER_TOKEN", "").strip()
    if not token:
        raise SystemExit("git-server: set GIT_SERVER_TOKEN_FILE (or GIT_SERVER_TOKEN) to a token that isn't empty")
    return token


def main() -> None:
    """Serve until SIGTERM."""
    root = Path(os.environ.get("GIT_SERVER_ROOT", "/srv/git"))
    if not os.access(root, os.W_OK):
        raise SystemExit(f"git-server: GIT_SERVER_ROOT {root} is not writable; mount a volume there")
    server = GitServer(("", int(os.environ.get("GIT_SERVER_LISTEN_PORT", "8080"))), root, read_token())
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: threading.Thread(target=server.shutdown).start())
    print(f"git-server: serving {root} on port {server.server_port}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
