"""The enforcing process: watches, renders, applies, and answers the network plugin.

python3 -m dev.cluster.policy.enforcer KUBECONFIG SOCKET TABLE POD_FIELD_SELECTOR
"""

from __future__ import annotations

import json
import logging
import socketserver
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlencode

from dev.cluster.api import Api, ApiError
from dev.cluster.policy.render import render
from dev.cluster.policy.store import Store

RESOURCES = {
    "pods": "/api/v1/pods",
    "namespaces": "/api/v1/namespaces",
    "networkpolicies": "/apis/networking.k8s.io/v1/networkpolicies",
}
ANSWER_SECONDS = 15.0
WATCH_SECONDS = 300
RETRY_SECONDS = 0.3
GATHER_SECONDS = 0.003  # changes that come together are applied together

log = logging.getLogger("policy")


def follow(api: Api, store: Store, kind: str, selector: str, synced: threading.Event) -> None:
    """List and watch one kind, for ever."""
    path, query = RESOURCES[kind], {"fieldSelector": selector}
    while True:
        try:
            listed = api.get(f"{path}?{urlencode(query)}")
            store.replace(kind, listed["items"])
            synced.set()
            version = listed["metadata"]["resourceVersion"]
            options = {**query, "resourceVersion": version, "timeoutSeconds": str(WATCH_SECONDS)}
            for event in api.watch(path, options, WATCH_SECONDS + 30):
                if event["type"] == "ERROR":
                    raise ApiError(int(event["object"].get("code", 0)), str(event["object"].get("message")))
                store.observe(kind, event["type"], event["object"])
        except ApiError as lost:
            log.warning("%s: %s", kind, lost)
            time.sleep(RETRY_SECONDS)


def apply_for_ever(store: Store, table: str, first: Callable[[], None]) -> None:
    """Keep the table equal to the store; call `first` when it is for the first time."""
    applied_text = ""
    while True:
        version, world = store.snapshot()
        text = render(table, world)
        if text != applied_text:
            begun = time.monotonic()
            done = subprocess.run(["nft", "-f", "-"], input=text, text=True, capture_output=True, check=False)
            if done.returncode != 0:
                log.error("nft refused the table: %s\n%s", done.stderr.strip(), text)
                time.sleep(RETRY_SECONDS)
                continue
            applied_text = text
            log.info("version %d in force after %.0f ms", version, 1000 * (time.monotonic() - begun))
        store.applied(version)
        first()
        store.wait_for_change(3600)
        time.sleep(GATHER_SECONDS)


class PluginServer(socketserver.ThreadingUnixStreamServer):
    """Answers the network plugin: one JSON line in, one out, once the Pod's rules are in force."""

    daemon_threads = True
    request_queue_size = 256

    def __init__(self, path: Path, store: Store) -> None:
        self.store = store
        path.unlink(missing_ok=True)
        super().__init__(str(path), _Handler)
        path.chmod(0o600)


class _Handler(socketserver.StreamRequestHandler):
    server: PluginServer

    def handle(self) -> None:
        line = self.rfile.readline()
        if not line:  # a connection that only asks whether we are there
            return
        asked = json.loads(line)
        key, uid = (asked["namespace"], asked["name"]), asked.get("uid", "")
        answer = {"error": ""}
        if asked["command"] == "ADD":
            if not self.server.store.give(key, uid, asked["address"], ANSWER_SECONDS):
                answer["error"] = f"no rules in force for Pod {key[0]}/{key[1]} after {ANSWER_SECONDS:g} s"
        else:
            self.server.store.take_back(key, uid)
        self.wfile.write(json.dumps(answer).encode() + b"\n")


def main(kubeconfig: str, socket_path: str, table: str, pod_selector: str) -> None:
    """Serve until killed."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    store, api = Store(), Api(Path(kubeconfig))
    synced = {kind: threading.Event() for kind in RESOURCES}
    for kind, event in synced.items():
        selector = pod_selector if kind == "pods" else ""
        threading.Thread(target=follow, args=(api, store, kind, selector, event), daemon=True, name=kind).start()
    for event in synced.values():
        event.wait()
    serving = threading.Event()

    def serve() -> None:  # only when rules are in force may Pods start
        if not serving.is_set():
            serving.set()
            server = PluginServer(Path(socket_path), store)
            threading.Thread(target=server.serve_forever, daemon=True, name="plugin").start()

    apply_for_ever(store, table, serve)


if __name__ == "__main__":
    main(*sys.argv[1:])
