"""AgentClass: how an agent runs."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from .common import (
    ATOMIC_LIST,
    ApiModel,
    Command,
    Egress,
    EnvList,
    ImageName,
    NamespaceList,
    ObjectName,
    PullPolicy,
    Resources,
    rule,
    rules,
    text_size,
)

MAX_ENGINE_TEXT = 64 * 1024


class Engine(ApiModel):
    """What is run in the agent container."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "self.protocol != 'Exec' || (has(self.command) && size(self.command) > 0)",
                "engine.command is required for protocol Exec: name the program that works on the prompt",
                fieldPath=".command",
            ),
            rule(
                "self.protocol == 'Exec' || ((!has(self.command) || size(self.command) == 0)"
                " && (!has(self.args) || size(self.args) == 0))",
                "engine.command and engine.args are for protocol Exec only: leave them out",
                fieldPath=".command",
            ),
            rule(
                f"{text_size('self', 'command', 'args', 'env')} <= {MAX_ENGINE_TEXT}",
                f"engine.command, args and env may have {MAX_ENGINE_TEXT} characters together: put longer texts "
                "into the image",
            ),
        )
    )

    protocol: Literal["Exec", "Script", "Planner", "Reviewer"] = Field(
        description="Exec: a command, with the prompt in a file. Script: the prompt is the script. "
        "Planner: one call of the model that returns a plan. Reviewer: one that returns a verdict on a change."
    )
    command: Command = Field(default=[], description="Program and first arguments, for protocol Exec.")
    args: Command = Field(default=[], description="Further arguments, for protocol Exec.")
    env: EnvList = Field(default=[], description="Environment variables; no secrets.")


class AgentClassSpec(ApiModel):
    """Image, engine, model, limits and sandbox of an agent."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "has(self.image) || self.engine.protocol in ['Planner', 'Reviewer']",
                "image is required unless engine.protocol is Planner or Reviewer: name an image that has /bin/sh and "
                "the engine",
                fieldPath=".image",
            )
        )
    )

    image: ImageName | None = Field(
        default=None,
        description="Image of the agent container; needs /bin/sh. For Planner and Reviewer the operator's runner "
        "image.",
    )
    image_pull_policy: PullPolicy | None = Field(
        default=None, description="Always, IfNotPresent or Never; the operator's default otherwise."
    )
    engine: Engine = Field(description="What is run in the agent container.")
    model: str | None = Field(
        default=None, min_length=1, max_length=256, description="Model that the engine asks the gateway for."
    )
    resources: Resources | None = Field(default=None, description="Requests and limits of the agent container.")
    runtime_class_name: ObjectName | None = Field(default=None, description="RuntimeClass of the Pod, for a sandbox.")
    egress: Annotated[list[Egress], Field(max_length=16, json_schema_extra=ATOMIC_LIST)] = Field(
        default=[], description="What the Pod may reach besides DNS, gateway and git host; nothing more when empty."
    )
    stop_seconds: int = Field(
        default=10, ge=1, le=600, description="Time that the agent's processes have to end after SIGTERM."
    )
    publish_seconds: int = Field(
        default=110, ge=10, le=3600, description="Time that the publisher has to push the work after the agent ended."
    )
    checkpoint_seconds: int = Field(
        default=60, ge=5, le=86_400, description="Time between two pushes of unfinished work."
    )
    allowed_namespaces: NamespaceList = Field(
        default=[], description="Namespaces whose objects may name the class; all when empty."
    )


class AgentClass(ApiModel):
    """How an agent runs. A change touches new attempts only."""

    spec: AgentClassSpec = Field(description="Image, engine, model, limits and sandbox of an agent.")
