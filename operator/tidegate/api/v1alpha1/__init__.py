"""The resource types of tidegate.dev/v1alpha1, one file a kind."""

from .agentclass import AgentClass
from .agenttask import AgentTask
from .buildrequest import BuildRequest
from .gateprofile import GateProfile
from .gaterun import GateRun
from .mergejob import MergeJob
from .mergelane import MergeLane

__all__ = ["AgentClass", "AgentTask", "BuildRequest", "GateProfile", "GateRun", "MergeJob", "MergeLane"]
