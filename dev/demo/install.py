"""Bring up all that the demo needs: cluster, images, git server, model, chart."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from dev.cluster.progress import say, step
from dev.demo import services
from dev.demo.kubectl import CLUSTER, ROOT, DemoError, Kubectl, run
from dev.demo.services import SERVICES, SYSTEM, Built

IMAGES = (sys.executable, str(ROOT / "dev/images/cli.py"))
EMBEDDED_MODEL = "qwen2.5-coder-1.5b-instruct"
EMBEDDED_CHARACTERS = 12_000  # of a change under review, besides question and answer, in 8192 tokens
KEY_SECRET = "model-key"
RELEASE = "tidegate"


@dataclass(frozen=True)
class Model:
    """Where completions come from. An empty upstream means the embedded model."""

    upstream: str
    name: str
    key: str

    @classmethod
    def read(cls) -> Model:
        """From `LLM_BASE_URL`, `LLM_MODEL`, `LLM_API_KEY`; without them the embedded one."""
        upstream = os.environ.get("LLM_BASE_URL", "").strip()
        name = os.environ.get("LLM_MODEL", "").strip()
        if upstream and not name:
            raise DemoError("LLM_BASE_URL is set without LLM_MODEL: name the model to ask for")
        if upstream and urlsplit(upstream).scheme not in ("http", "https"):
            raise DemoError(f"LLM_BASE_URL={upstream!r} is no http(s) URL")
        return cls(upstream, name if upstream else EMBEDDED_MODEL, os.environ.get("LLM_API_KEY", ""))


def up(kubectl: Kubectl) -> None:
    """All of it; what is there already and unchanged is left alone."""
    model = Model.read()
    run([*CLUSTER, "up"], show=True)
    images = build_images(with_llm=not model.upstream)
    with step("Namespaces, git server" + ("" if model.upstream else ", model")):
        services.namespaces(kubectl)
        services.share_token(kubectl, services.token(kubectl))
        services.deploy(kubectl, "git-server", images["git-server"])
        if not model.upstream:
            services.deploy(kubectl, "llm", images["llm"])
    install_chart(kubectl, model, images)
    with step("Waiting until git server, model and Tidegate are ready"):
        services.await_rollout(kubectl, SERVICES, "git-server", *([] if model.upstream else ["llm"]))
        services.await_rollout(kubectl, SYSTEM, RELEASE, f"{RELEASE}-gateway")


def build_images(*, with_llm: bool) -> dict[str, Built]:
    """Build all images and load them into the cluster."""
    names = ["operator", "runner", "git-server", "gate-python", "agent-aider", *(["llm"] if with_llm else [])]
    archives = [Path(line) for line in run([*IMAGES, "build", *names], show=True).split()]
    run([*CLUSTER, "load", *map(str, archives)], show=True)
    version = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    if version is None or len(archives) != len(names):
        raise DemoError("pyproject.toml names no version, or the image builder printed something else than archives")
    return {
        name: Built(f"localhost/tidegate/{name}:{version[1]}", archive.stem.rsplit("-", 1)[-1])
        for name, archive in zip(names, archives, strict=True)
    }


def install_chart(kubectl: Kubectl, model: Model, images: dict[str, Built]) -> None:
    """Install or upgrade the release with the demo's values."""
    upstream = model.upstream or f"http://llm.{SERVICES}.svc:8080/v1"
    values: dict[str, object] = {
        "gateway": {
            "upstream": upstream,
            "podAnnotations": {"tidegate.dev/image-key": images["operator"].key},
            "egress": [] if model.upstream else [_llm_egress()],
            "keySecret": {"name": KEY_SECRET if model.key else ""},
        },
        "operator": {
            "podAnnotations": {"tidegate.dev/image-key": f"{images['operator'].key}-{images['runner'].key}"},
        },
        "agents": {"model": model.name},
    }
    if not model.upstream:
        values["gates"] = {"review": {"maxCharacters": EMBEDDED_CHARACTERS}}
    if model.key:
        secret = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": KEY_SECRET},
            "data": {"api-key": base64.b64encode(model.key.encode()).decode()},
        }
        kubectl.apply(json.dumps(secret), SYSTEM)
    say(f"Model: {model.name} at {upstream}")
    with step("Installing the chart"):
        demo_values = str(Path(__file__).parent / "values.yaml")
        try:
            kubectl.helm(
                "upgrade", "--install", "--take-ownership", "--force-conflicts", RELEASE, str(ROOT / "charts/tidegate"),
                "--namespace", SYSTEM, "--values", demo_values, "--set-json", *_set_json(values),
            )  # fmt: skip
        except DemoError as error:
            said = ""
            with contextlib.suppress(DemoError):  # another step failed than the Job
                said = kubectl("logs", "-n", SYSTEM, f"job/{RELEASE}-shipped")
            raise DemoError(f"{error}\n{said}".strip()) from None


def _set_json(values: dict[str, object]) -> list[str]:
    """Arguments of --set-json, one a top-level key path, so that the file's other values stay."""
    flat = [
        f"{section}.{key}={json.dumps(value)}"
        for section, content in values.items()
        if isinstance(content, dict)
        for key, value in content.items()
    ]
    return [part for number, text in enumerate(flat) for part in (["--set-json", text] if number else [text])]


def _llm_egress() -> dict[str, object]:
    peer = {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": SERVICES}},
        "podSelector": {"matchLabels": {"app": "llm"}},
    }
    return {"to": [peer], "ports": [{"port": 8080, "protocol": "TCP"}]}
