"""Git as a child process: no configuration but ours, an empty environment, credentials in files of their own.

Every process runs in a session of its own, so that a timeout ends git and its transport helpers together.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import os
import resource
import shlex
import signal
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, ParamSpec, Self, TypeVar, cast
from urllib.parse import urlsplit

from git.cmd import Git as GitPython

from tidegate.errors import TransientError

P = ParamSpec("P")
T = TypeVar("T")

DEFAULT_TIMEOUT = 120.0
DEFAULT_PROTOCOLS = "https:ssh"
_TERM_GRACE = 2.0  # seconds between SIGTERM and SIGKILL
_INHERITED = (
    "PATH", "TMPDIR", "SSL_CERT_FILE", "SSL_CERT_DIR", "GIT_SSL_CAINFO", "GIT_SSL_CAPATH", "http_proxy", "https_proxy",
    "no_proxy", "all_proxy", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY",
)  # fmt: skip
_CONFIG = (
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.attributesFile=/dev/null",
    "core.quotePath=false",
    "gc.auto=0",
    "maintenance.auto=false",
    "http.followRedirects=false",
    "http.lowSpeedLimit=1",
    "http.lowSpeedTime=60",
    "merge.directoryRenames=false",
    "submodule.recurse=false",
    "fetch.recurseSubmodules=false",
    "push.recurseSubmodules=no",
    "protocol.version=2",
    "credential.helper=",
    "safe.directory=*",
)
_ENVIRONMENT = {
    "LC_ALL": "C",
    "LANGUAGE": "C",
    "HOME": "/nonexistent",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_SYSTEM": os.devnull,
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_ATTR_NOSYSTEM": "1",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_OPTIONAL_LOCKS": "0",
}


class GitError(TransientError):
    """Git ended with an exit code that the caller didn't expect. `code` is negative for a signal."""

    def __init__(self, command: Sequence[str], code: int, stderr: str) -> None:
        super().__init__(f"git {command[0] if command else ''} ended with {code}: {stderr.strip()[-2000:]}")
        self.command = tuple(command)
        self.code = code
        self.stderr = stderr


class GitTimeoutError(GitError):
    """Git ran past its time; its whole process group was ended."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a remote asks for: a user name and password (or token), or an SSH key with the hosts it may talk to."""

    username: str = ""
    password: str = field(default="", repr=False)
    ssh_key: str = field(default="", repr=False)
    known_hosts: str = ""

    @classmethod
    def from_files(cls, directory: Path) -> Self:
        """Read a mounted Secret of type basic-auth or ssh-auth; files that are missing count as empty."""

        def read(name: str) -> str:
            path = directory / name
            return path.read_text() if path.is_file() else ""

        return cls(
            username=read("username").strip(),
            password=read("password").strip(),
            ssh_key=read("ssh-privatekey"),
            known_hosts=read("known_hosts"),
        )


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one git process; None leaves a bound off. `memory` is address space in bytes."""

    memory: int | None = None
    cpu_seconds: int | None = None
    file_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """How a git process ended."""

    code: int
    out: bytes
    err: str

    @property
    def text(self) -> str:
        """Standard output as text without the last line end."""
        return self.out.decode("utf-8", "replace").removesuffix("\n")


class _Command(GitPython):
    """GitPython's command, given its environment whole instead of the parent's with additions."""

    def spawn(
        self, command: Sequence[str], env: Mapping[str, str], stdin: int, fds: Sequence[int]
    ) -> GitPython.AutoInterrupt:
        process = subprocess.Popen(
            list(command), env=dict(env), cwd=self.working_dir, stdin=stdin, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, start_new_session=True, pass_fds=tuple(fds),
        )  # fmt: skip
        return self.AutoInterrupt(process, list(command))


def end_group(process: subprocess.Popen[bytes]) -> None:
    """End a process that leads its own group, with everything in the group, and reap it."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_TERM_GRACE)
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


class Stream:
    """A git process that answers requests on its standard input, such as `cat-file --batch-command`."""

    def __init__(self, owner: GitPython.AutoInterrupt, command: Sequence[str], timeout: float) -> None:
        self._owner = owner
        self._command = tuple(command)
        self._process = cast("subprocess.Popen[bytes]", owner.proc)
        self._timer = threading.Timer(timeout, end_group, (self._process,))
        self._timer.daemon = True
        self._timer.start()

    def write(self, data: bytes) -> None:
        """Send a request."""
        stdin = cast("IO[bytes]", self._process.stdin)
        try:
            stdin.write(data)
            stdin.flush()
        except OSError as error:
            raise GitError(self._command, self._process.poll() or -1, f"process went away: {error}") from error

    def line(self) -> bytes:
        """The next line of the answer, without its end."""
        data = cast("IO[bytes]", self._process.stdout).readline()
        if not data.endswith(b"\n"):
            raise GitError(self._command, self._process.poll() or -1, "process went away in the middle of an answer")
        return data[:-1]

    def read(self, size: int) -> bytes:
        """The next `size` bytes of the answer."""
        data = cast("IO[bytes]", self._process.stdout).read(size)
        if len(data) != size:
            raise GitError(self._command, self._process.poll() or -1, "process went away in the middle of an answer")
        return data

    def close(self) -> None:
        """End the process."""
        self._timer.cancel()
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            with contextlib.suppress(OSError):
                cast("IO[bytes]", pipe).close()
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._owner.proc = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@dataclass(frozen=True, slots=True)
class Git:
    """Git in one directory (a bare repository, as a rule), for one remote's credentials.

    `url` binds the credentials to that URL's scheme and host; `protocols` becomes GIT_ALLOW_PROTOCOL.
    """

    directory: Path
    url: str = ""
    credentials: Credentials | None = None
    protocols: str = DEFAULT_PROTOCOLS
    timeout: float = DEFAULT_TIMEOUT
    limits: Limits | None = None
    config: tuple[str, ...] = ()

    def run(
        self,
        *args: str,
        input: bytes | None = None,  # noqa: A002 - the word subprocess uses
        timeout: float | None = None,
        ok: Sequence[int] | None = (0,),
        remote: bool = False,
        env: Mapping[str, str] | None = None,
    ) -> Result:
        """Run git to its end. `ok` lists the exit codes to return, None all; `remote` hands over the credentials.

        Raises GitTimeoutError when `timeout` seconds pass, GitError for any other exit code.
        """
        with self._secrets(remote) as secrets:
            command = self._command(args, secrets.config)
            owner = self._spawn(command, {**secrets.env, **(env or {})}, input is not None, secrets.fds)
            process = cast("subprocess.Popen[bytes]", owner.proc)
            limit = self.timeout if timeout is None else timeout
            try:
                out, err = process.communicate(input, limit)
            except subprocess.TimeoutExpired:
                raise GitTimeoutError(args, -signal.SIGKILL, f"no end after {limit:g} s") from None
            finally:
                if process.returncode is None or process.returncode < 0:
                    end_group(process)
                owner.proc = None
        result = Result(process.returncode, out, err.decode("utf-8", "replace"))
        if ok is not None and result.code not in ok:
            raise GitError(args, result.code, result.err)
        return result

    def text(self, *args: str, input: bytes | None = None) -> str:  # noqa: A002 - as in run
        """Standard output of a command that must succeed, without the last line end."""
        return self.run(*args, input=input).text

    def stream(self, *args: str, timeout: float | None = None) -> Stream:
        """Start a process that answers many requests; it is ended after `timeout` seconds at the latest."""
        owner = self._spawn(self._command(args, ()), {}, True)
        return Stream(owner, args, self.timeout if timeout is None else timeout)

    def ls_remote(self, *patterns: str, timeout: float | None = None) -> dict[str, str]:
        """Refs at the remote and their values, peeled tags left out."""
        out = self.run("ls-remote", "--refs", "--", self.url, *patterns, remote=True, timeout=timeout).text
        pairs = (line.split("\t", 1) for line in out.splitlines())
        return {ref: oid for oid, ref in pairs}

    def _command(self, args: Sequence[str], config: Sequence[str]) -> list[str]:
        flags = [word for setting in (*_CONFIG, *self.config, *config) for word in ("-c", setting)]
        return [GitPython.GIT_PYTHON_GIT_EXECUTABLE or "git", *flags, *args]

    def _spawn(
        self, command: Sequence[str], extra: Mapping[str, str], with_input: bool, fds: Sequence[int] = ()
    ) -> GitPython.AutoInterrupt:
        inherited = {name: os.environ[name] for name in _INHERITED if name in os.environ}
        env = {**inherited, **_ENVIRONMENT, "GIT_ALLOW_PROTOCOL": self.protocols, **extra}
        stdin = subprocess.PIPE if with_input else subprocess.DEVNULL
        owner = _Command(self.directory).spawn(command, env, stdin, fds)
        if self.limits is not None:
            _bound(cast("subprocess.Popen[bytes]", owner.proc).pid, self.limits)
        return owner

    @contextlib.contextmanager
    def _secrets(self, remote: bool) -> Iterator[_Secrets]:
        if not remote or self.credentials is None:
            yield _Secrets()
        elif self.credentials.ssh_key:
            with tempfile.TemporaryDirectory(prefix="tidegate-ssh-") as private:  # 0700
                yield _ssh(self.credentials, Path(private))
        else:
            fd = os.memfd_create("tidegate-git")
            try:
                yield _basic(self.credentials, self.url, fd)
            finally:
                os.close(fd)


@dataclass(frozen=True, slots=True)
class _Secrets:
    """How one git process finds its credentials: configuration, environment, inherited files."""

    config: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    fds: tuple[int, ...] = ()


def _basic(credentials: Credentials, url: str, fd: int) -> _Secrets:
    """User name and password in a file without a name: nothing is left behind when this process is killed."""
    if any("\n" in word or "\0" in word for word in (credentials.username, credentials.password)):
        raise ValueError("user name and password of a git Secret can't hold a line end: write it again without one")
    os.write(fd, f"username={credentials.username}\npassword={credentials.password}\n".encode())
    parts = urlsplit(url)
    origin = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
    helper = f'!f() {{ test "$1" = get && cat /proc/self/fd/{fd}; }}; f'  # opened anew, so read from its start
    return _Secrets((f"credential.{origin}.helper={helper}",), fds=(fd,))


def _ssh(credentials: Credentials, private: Path) -> _Secrets:
    """A key in files, since ssh closes what it inherits. Only hosts named in `known_hosts` are talked to."""

    def write(name: str, text: str) -> str:
        path = private / name
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(text.rstrip("\n") + "\n")
        return shlex.quote(str(path))

    key, hosts = write("key", credentials.ssh_key), write("known_hosts", credentials.known_hosts)
    options = f"-F /dev/null -i {key} -o IdentitiesOnly=yes -o BatchMode=yes -o UserKnownHostsFile={hosts}"
    command = f"ssh {options} -o GlobalKnownHostsFile=/dev/null -o StrictHostKeyChecking=yes"
    return _Secrets(env={"GIT_SSH_COMMAND": command})


def _bound(pid: int, limits: Limits) -> None:
    """Set limits from outside: a preexec function isn't safe in a process with threads."""
    pairs = (
        (resource.RLIMIT_AS, limits.memory),
        (resource.RLIMIT_CPU, limits.cpu_seconds),
        (resource.RLIMIT_FSIZE, limits.file_bytes),
    )
    with contextlib.suppress(ProcessLookupError):
        for kind, value in pairs:
            if value is not None:
                resource.prlimit(pid, kind, (value, value))


def init_bare(directory: Path) -> None:
    """Make an empty bare repository, without templates."""
    directory.mkdir(parents=True, exist_ok=True)
    Git(directory).run("init", "--quiet", "--bare", "--template=", "--initial-branch=none", ".")


def ls_remote(url: str, credentials: Credentials | None, *patterns: str, protocols: str = DEFAULT_PROTOCOLS,
              timeout: float = DEFAULT_TIMEOUT) -> dict[str, str]:  # fmt: skip
    """Refs at a remote and their values. Raises GitError."""
    return Git(Path("/"), url, credentials, protocols, timeout).ls_remote(*patterns)


class BlobMissingError(LookupError):
    """The commit holds no file of that name, or one that is too big."""


def read_blob(url: str, credentials: Credentials | None, ref: str, path: str, *, commit: str = "",
              protocols: str = DEFAULT_PROTOCOLS, timeout: float = DEFAULT_TIMEOUT,
              max_bytes: int = 1024 * 1024) -> bytes:  # fmt: skip
    """One file at a remote's `ref`, without a clone. With `commit`, the ref's value or history must hold that commit.

    Raises GitError when the remote can't be read, BlobMissingError when there is no such file of at most `max_bytes`.
    """
    with tempfile.TemporaryDirectory(prefix="tidegate-blob-") as name:
        directory = Path(name)
        init_bare(directory)
        git = Git(directory, url, credentials, protocols, timeout)
        git.run("fetch", "--quiet", "--no-tags", "--depth=1", "--", url, f"+{ref}:refs/blob", remote=True)
        wanted = commit or "refs/blob"
        if commit and git.text("rev-parse", "refs/blob") != commit:
            git.run("fetch", "--quiet", "--no-tags", "--unshallow", "--", url, f"+{ref}:refs/blob", remote=True)
        size = git.run("cat-file", "-s", f"{wanted}:{path}", ok=None)
        if size.code != 0 or int(size.text) > max_bytes:
            raise BlobMissingError(f"no file {path} of at most {max_bytes} bytes at {ref}")
        return git.run("cat-file", "blob", f"{wanted}:{path}").out


class GitThreads:
    """Runs blocking git work beside the event loop, at most `workers` pieces at once."""

    def __init__(self, workers: int = 8) -> None:
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="git")

    async def call(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Await `work(*args, **kwargs)`. A cancelled caller leaves the work to its end: it has its own timeouts."""
        context = contextvars.copy_context()
        call = functools.partial(context.run, work, *args, **kwargs)
        return await asyncio.get_running_loop().run_in_executor(self._pool, call)

    def close(self) -> None:
        """Take no more work; what runs goes on to its end."""
        self._pool.shutdown(wait=False, cancel_futures=True)
