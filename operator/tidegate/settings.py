"""The process's settings: environment variables `TIDEGATE_<NAME>`, in upper case."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict


def _words(value: Any) -> Any:
    return [word.strip() for word in value.split(",") if word.strip()] if isinstance(value, str) else value


WordList = Annotated[list[str], NoDecode]


class Settings(BaseSettings):
    """Each field is one variable; lists are comma-separated. Times are in seconds."""

    model_config = SettingsConfigDict(env_prefix="TIDEGATE_", extra="ignore", frozen=True)

    namespaces: WordList = Field(default=["*"], description="Namespaces that are served; `*` alone means all.")
    operator_namespace: str = Field(default="tidegate-system", description="Where the Lease lives.")
    identity: str = Field(default="", description="The replica's name (its Pod's); the host name when empty.")
    lease_name: str = "tidegate"
    lease_duration_seconds: float = Field(default=12, gt=0, description="After which another replica may take over.")
    lease_renew_deadline_seconds: float = Field(default=9, gt=0, description="After which this one stops writing.")
    lease_retry_seconds: float = Field(default=2, gt=0, description="Between two renewals.")
    resync_seconds: float = Field(default=300, gt=0, description="Between two comparisons of cache and cluster.")
    workers: int = Field(default=40, ge=1, le=512)
    shutdown_seconds: float = Field(default=1, ge=0, description="For running work to end after SIGTERM.")

    runner_image: str = "localhost/tidegate/runner:dev"
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] = "IfNotPresent"
    gateway_url: str = Field(default="", description="The gateway's address for Pods; empty: no model for agents.")
    gateway_namespace: str = Field(default="", description="Where the gateway runs; the operator's when empty.")
    default_agent_class: str = "default"
    default_planner_class: str = "planner"
    default_gate_profile: str = "standard"
    gate_profile_by_role: dict[str, str] = Field(
        default={"Reviewer": "strict", "Tester": "minimal"},
        description="Default gate profiles (JSON) of changes by their task's role, instead of default_gate_profile.",
    )
    pod_retention_seconds: int = Field(default=300, ge=0, description="How long finished Pods stay.")
    max_pods_per_namespace: int = Field(default=1000, ge=1, description="Active Pods of Tidegate in a namespace.")

    allowed_git_hosts: WordList = Field(
        default=[], description="Git hosts that may have a cluster, loopback or link-local address."
    )
    allowed_http_hosts: WordList = Field(default=[], description="Git hosts that may be reached by plain http://.")
    allow_file_urls: bool = Field(default=False, description="Allow file:// repositories: for tests only.")
    git_egress: list[dict[str, Any]] = Field(
        default=[{"to": [{"ipBlock": {"cidr": "0.0.0.0/0"}}], "ports": [{"port": 443}, {"port": 22}]}],
        description="NetworkPolicy egress rules (JSON) for the git hosts that Pods may reach.",
    )
    mirror_dir: str = Field(default="/var/cache/tidegate/mirrors", description="Bare mirrors of target repositories.")

    metrics_host: str = Field(default="0.0.0.0", description="The address of /metrics, /healthz and /readyz.")  # noqa: S104
    metrics_port: int = Field(default=9090, ge=0, le=65535)
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    log_format: Literal["json", "console"] = "json"

    @field_validator("namespaces", "allowed_git_hosts", "allowed_http_hosts", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        return _words(value)

    @field_validator("git_egress", mode="before")
    @classmethod
    def _parse(cls, value: Any) -> Any:
        return json.loads(value) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.namespaces:
            raise ValueError("TIDEGATE_NAMESPACES is empty: name the namespaces to serve, or `*` for all")
        if "*" in self.namespaces and len(self.namespaces) > 1:
            raise ValueError("TIDEGATE_NAMESPACES: `*` stands alone")
        if not self.lease_retry_seconds < self.lease_renew_deadline_seconds < self.lease_duration_seconds:
            raise ValueError("the lease needs retry < renew deadline < duration")
        return self

    @property
    def clusterwide(self) -> bool:
        """Whether all namespaces are served."""
        return self.namespaces == ["*"]

    @property
    def scopes(self) -> list[str | None]:
        """The namespaces to list, each by its own request; None stands for all."""
        return [None] if self.clusterwide else list(self.namespaces)
