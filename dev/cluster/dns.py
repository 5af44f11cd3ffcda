"""One question to a name server: does it resolve this name?"""

from __future__ import annotations

import secrets
import socket
import struct

TIMEOUT_SECONDS = 1.0
_PORT = 53
_HEADER = struct.Struct(">6H")
_RECURSION_DESIRED = 0x0100
_RESPONSE_CODE = 0x000F


def resolves(server: str, name: str) -> bool:
    """Whether `server` answers with at least one A record for `name`."""
    number = secrets.randbelow(1 << 16)
    labels = b"".join(bytes([len(part)]) + part.encode() for part in name.split("."))
    question = _HEADER.pack(number, _RECURSION_DESIRED, 1, 0, 0, 0) + labels + b"\0" + struct.pack(">2H", 1, 1)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as connection:
        connection.settimeout(TIMEOUT_SECONDS)
        try:
            connection.sendto(question, (server, _PORT))
            answer = connection.recv(512)
        except OSError:
            return False
    if len(answer) < _HEADER.size:
        return False
    echoed, flags, _, answers, _, _ = _HEADER.unpack_from(answer)
    return bool(echoed == number and not flags & _RESPONSE_CODE and answers)
