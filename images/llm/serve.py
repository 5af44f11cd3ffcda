"""An OpenAI-compatible server for the embedded model: llama.cpp's own HTTP server, in this process.

Environment: `LLM_MODEL_PATH`, `LLM_MODEL_NAME`, `LLM_PORT`, `LLM_THREADS` (default: the cores this container may use),
`LLM_SLOTS` (requests answered at once), `LLM_CONTEXT_TOKENS` (of one request, prompt and answer),
`LLM_MAX_OUTPUT_TOKENS` (where a request names no limit).
"""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

from xllamacpp import CommonParams, Server


def whole(name: str, default: int) -> int:
    """A whole number of at least 1 from the environment; ends the program when it is none."""
    text = os.environ.get(name, "") or str(default)
    if not text.isdigit() or int(text) < 1:
        raise SystemExit(f"llm: {name}={text!r}: a whole number of at least 1 is needed")
    return int(text)


def usable_cores() -> int:
    """The cores this process may run on, no more than its CPU quota gives (cgroup v1 and v2)."""
    cores = len(os.sched_getaffinity(0))
    quota, period = 0, 0
    unified, legacy = Path("/sys/fs/cgroup/cpu.max"), Path("/sys/fs/cgroup/cpu/cpu.cfs_quota_us")
    if unified.is_file():
        words = unified.read_text().split()
        quota, period = (0 if words[0] == "max" else int(words[0])), int(words[1])
    elif legacy.is_file():
        quota, period = int(legacy.read_text()), int((legacy.parent / "cpu.cfs_period_us").read_text())
    return min(cores, max(1, round(quota / period))) if quota > 0 and period > 0 else cores


def parameters() -> CommonParams:
    """llama.cpp's parameters from the environment."""
    slots = whole("LLM_SLOTS", 2)
    chosen = CommonParams()
    chosen.model.path = os.environ.get("LLM_MODEL_PATH", "/opt/model/model.gguf")
    chosen.model_alias = {os.environ.get("LLM_MODEL_NAME", "qwen2.5-coder-1.5b-instruct")}
    chosen.hostnames = ["0.0.0.0"]
    chosen.port = whole("LLM_PORT", 8080)
    chosen.cpuparams.n_threads = chosen.cpuparams_batch.n_threads = whole("LLM_THREADS", usable_cores())
    chosen.n_parallel = slots
    chosen.n_ctx = slots * whole("LLM_CONTEXT_TOKENS", 8192)
    chosen.n_predict = whole("LLM_MAX_OUTPUT_TOKENS", 1024)
    chosen.cache_ram_mib = 256  # prompts kept beside the slots' own
    chosen.ui = False
    chosen.endpoint_metrics = True
    chosen.offline = True
    return chosen


def main() -> None:
    """Serve until SIGTERM."""
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    server = Server(parameters())
    print(f"llm: serving on {server.listening_address}", flush=True)
    ended.wait()
    os._exit(0)  # requests in flight end with their connection


if __name__ == "__main__":
    main()
