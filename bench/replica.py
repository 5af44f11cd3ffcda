"""One replica of the operator as a process, with what it costs."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import sys
import urllib.error
import urllib.request
from pathlib import Path

from bench.lab import Lab

TICKS = os.sysconf("SC_CLK_TCK")
LEASE = "tidegate-bench"


class Replica:
    """Start it, ask it, end it."""

    def __init__(self, lab: Lab, name: str, namespaces: list[str]) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]
        self.name = name
        self.log = lab.directory / f"{name}.log"
        kept = {key: value for key, value in os.environ.items() if not key.startswith("TIDEGATE_")}
        settings = {
            "NAMESPACES": ",".join(namespaces),
            "OPERATOR_NAMESPACE": namespaces[0],
            "LEASE_NAME": LEASE,
            "IDENTITY": name,
            "METRICS_HOST": "127.0.0.1",
            "METRICS_PORT": str(self._port),
            "ALLOW_FILE_URLS": "true",
            "RUNNER_IMAGE": "localhost/bench:1",
            "MAX_PODS_PER_NAMESPACE": "20000",
            "MIRROR_DIR": str(lab.directory / f"{name}-mirrors"),
        }
        self._env = {
            **kept,
            "MALLOC_ARENA_MAX": "2",  # as in the operator's image
            "KUBECONFIG": str(lab.kubeconfig),
            **{f"TIDEGATE_{key}": value for key, value in settings.items()},
        }
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int:
        """The process's id."""
        assert self._process is not None
        return self._process.pid

    async def start(self) -> None:
        """Start it and wait until it is ready."""
        with self.log.open("wb") as output:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "tidegate", env=self._env, stdout=output, stderr=output
            )
        async with asyncio.timeout(120):
            while not await asyncio.to_thread(self._ready):
                if self._process.returncode is not None:
                    raise RuntimeError(f"{self.name} ended:\n{self.log.read_text()[-3000:]}")
                await asyncio.sleep(0.2)

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        os.kill(self.pid, number)

    async def end(self) -> None:
        """End it, by force when it doesn't want to."""
        if self._process is None or self._process.returncode is not None:
            return
        self._process.terminate()
        try:
            await asyncio.wait_for(self._process.wait(), 15)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()

    def cpu_seconds(self) -> float:
        """User and system time so far, ended children (git) included."""
        words = Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return sum(int(word) for word in words[11:15]) / TICKS

    def peak_mib(self) -> float:
        """The most resident memory it ever had."""
        found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{self.pid}/status").read_text())
        assert found is not None
        return int(found[1]) / 1024

    async def api_calls(self) -> dict[str, float]:
        """Requests to the API server so far, by verb and kind; the Lease's left out."""
        text = await asyncio.to_thread(self._get, "/metrics")
        calls: dict[str, float] = {}
        for labels, value in re.findall(r"^tidegate_api_calls_total\{(.*)\} (\S+)$", text, re.MULTILINE):
            fields = dict(re.findall(r'(\w+)="([^"]*)"', labels))
            if fields["kind"] != "Lease":
                key = f"{fields['verb']} {fields['kind']}"
                calls[key] = calls.get(key, 0.0) + float(value)
        return calls

    def _ready(self) -> bool:
        try:
            return bool(self._get("/readyz"))
        except (urllib.error.URLError, OSError):
            return False

    def _get(self, path: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self._port}{path}", timeout=10) as answer:
            return str(answer.read().decode())
