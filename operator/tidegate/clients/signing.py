"""Signatures on commits by an SSH key: the same commit gets the same one, so that candidates stay what they are."""

from __future__ import annotations

import base64
import os
import struct
import subprocess
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from tidegate.api.reasons import SIGNING_KEY_REFUSED
from tidegate.errors import PermanentError, TransientError

TYPES = ("ssh-ed25519", "ssh-rsa")  # others sign differently each time
MIN_RSA_BITS = 2048
NAMESPACE = "git"
TIMEOUT = 30.0


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A private key that was found fit, and its public half as `ssh-ed25519 AAAA...`."""

    private: str = field(repr=False)
    public: str

    def sign(self, payload: bytes) -> bytes:
        """The armoured signature. Raises TransientError."""
        done = _keygen(self.private, "-Y", "sign", "-q", "-n", NAMESPACE, payload=payload, public=self.public)
        if done.returncode != 0 or not done.stdout.startswith(b"-----BEGIN SSH SIGNATURE-----"):
            raise TransientError(f"ssh-keygen could not sign: {_words(done)}")
        return done.stdout


def read_key(private: str, where: str) -> SigningKey:
    """Check a private key; `where` names its Secret for people. Raises PermanentError(SigningKeyRefused)."""
    done = _keygen(private, "-y", "-P", "")
    if done.returncode != 0:
        message = f"{where} holds no SSH key that can be used without a passphrase: {_words(done)}"
        raise PermanentError(SIGNING_KEY_REFUSED, message)
    kind, _, rest = done.stdout.decode("ascii", "replace").strip().partition(" ")
    blob = rest.split(" ")[0]
    if kind not in TYPES:
        message = f"{where} holds a key of type {kind[:40]!r}: only ed25519 and RSA keys sign the same each time"
        raise PermanentError(SIGNING_KEY_REFUSED, message)
    if kind == "ssh-rsa" and _rsa_bits(blob) < MIN_RSA_BITS:
        message = f"{where} holds an RSA key of {_rsa_bits(blob)} bits: {MIN_RSA_BITS} are the least"
        raise PermanentError(SIGNING_KEY_REFUSED, message)
    return SigningKey(private, f"{kind} {blob}")


def _rsa_bits(blob: str) -> int:
    """The modulus's size in an RSA public key: type, exponent, modulus, each with its length before it."""
    data, fields = base64.b64decode(blob), []
    while data:
        (size,) = struct.unpack(">I", data[:4])
        fields.append(data[4 : 4 + size])
        data = data[4 + size :]
    return int.from_bytes(fields[2], "big").bit_length()


def _keygen(private: str, *words: str, payload: bytes = b"", public: str = "") -> subprocess.CompletedProcess[bytes]:
    """Run ssh-keygen with the key in a file without a name: nothing is left behind when this process is killed. Beside
    its link stands the public half, which keys in the old format don't hold."""
    fd = os.memfd_create("tidegate-key")
    with tempfile.TemporaryDirectory(prefix="tidegate-sign-") as directory:
        return _run(fd, Path(directory), private, words, payload, public)


def _run(
    fd: int, directory: Path, private: str, words: tuple[str, ...], payload: bytes, public: str
) -> subprocess.CompletedProcess[bytes]:
    link = directory / "key"
    try:
        os.fchmod(fd, 0o600)  # else ssh-keygen refuses it
        os.write(fd, private.strip().encode() + b"\n")
        link.symlink_to(f"/proc/self/fd/{fd}")
        if public:
            (directory / "key.pub").write_text(f"{public}\n")
        command = ["ssh-keygen", *words, "-f", str(link)]
        env = {"PATH": os.environ.get("PATH", ""), "HOME": "/nonexistent", "LC_ALL": "C"}
        return subprocess.run(
            command, input=payload, capture_output=True, env=env, pass_fds=(fd,),
            timeout=TIMEOUT, check=False, start_new_session=True,
        )  # fmt: skip
    except FileNotFoundError:
        raise PermanentError(SIGNING_KEY_REFUSED, "ssh-keygen is missing in the operator's image") from None
    except subprocess.TimeoutExpired:
        raise TransientError(f"ssh-keygen did not end in {TIMEOUT:g} s") from None
    finally:
        os.close(fd)


def _words(done: subprocess.CompletedProcess[bytes]) -> str:
    lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
    return (lines[-1].rpartition('": ')[2] if lines else f"exit code {done.returncode}")[:200]
