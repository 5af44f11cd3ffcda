"""A chained CNI plugin: a Pod's network is ready only when the enforcer has its rules in force.

Installed with the line that names its interpreter; imports nothing but the standard library.
"""

import json
import os
import socket
import sys

TIMEOUT_SECONDS = 20.0
VERSIONS = ["0.3.0", "0.3.1", "0.4.0", "1.0.0"]


def ask(path: str, request: dict[str, str]) -> str:
    """Send one request to the enforcer; its error, empty when all is well."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(TIMEOUT_SECONDS)
        connection.connect(path)
        connection.sendall(json.dumps(request).encode() + b"\n")
        with connection.makefile("rb") as answer:
            return str(json.loads(answer.readline())["error"])


def fail(version: str, message: str) -> int:
    """Report an error as CNI wants it."""
    print(json.dumps({"cniVersion": version, "code": 11, "msg": f"tidegate-policy: {message}"}))
    return 1


def main() -> int:
    """One CNI call: configuration on standard input, result on standard output."""
    command = os.environ["CNI_COMMAND"]
    config = json.load(sys.stdin)
    version = config["cniVersion"]
    if command == "VERSION":
        print(json.dumps({"cniVersion": version, "supportedVersions": VERSIONS}))
        return 0
    if command not in ("ADD", "DEL"):
        return 0
    arguments = dict(pair.split("=", 1) for pair in os.environ.get("CNI_ARGS", "").split(";") if "=" in pair)
    result = config.get("prevResult") or {}
    request = {
        "command": command,
        "namespace": arguments.get("K8S_POD_NAMESPACE", ""),
        "name": arguments.get("K8S_POD_NAME", ""),
        "uid": arguments.get("K8S_POD_UID", ""),
        "address": next((entry["address"].split("/")[0] for entry in result.get("ips", [])), ""),
    }
    try:
        error = ask(config["socket"], request)
    except (OSError, ValueError) as lost:
        if command == "DEL":  # a Pod must be able to go while the enforcer is down
            return 0
        return fail(version, f"the policy enforcer does not answer on {config['socket']}: {lost}")
    if command == "ADD":
        if error:
            return fail(version, error)
        print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
