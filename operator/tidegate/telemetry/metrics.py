"""Every metric of the process; the only place that spells their names. Labels are bounded: no names of users' objects
but namespaces, lanes and gates (of GateProfiles, which are the platform's), no words of agents or models."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from prometheus_client import (
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

disable_created_metrics()  # type: ignore[no-untyped-call]  # half the series, and of no use

_SHORT = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_LONG = (0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600)

# Builds and tasks
FINALIZATIONS = Counter("tidegate_finalizations_total", "Builds that ended, by reason.", ["reason"])
FINALIZATION_SECONDS = Histogram(
    "tidegate_finalization_seconds", "From all tasks ended to the verdict of a build.", buckets=_LONG
)
BUILD_SECONDS = Histogram("tidegate_build_seconds", "From start to verdict of a build.", ["reason"], buckets=_LONG)
PLANS = Counter("tidegate_plans_total", "Plans that were applied or refused.", ["outcome"])
ATTEMPTS = Counter("tidegate_attempts_total", "Attempts that ended.", ["role", "outcome", "reason"])
ATTEMPT_SECONDS = Histogram("tidegate_attempt_seconds", "From claim to end of an attempt.", ["outcome"], buckets=_LONG)
OWN_GATES = Counter(
    "tidegate_own_gates_total", "Own gates of tasks that were all judged, by what followed.", ["role", "outcome"]
)  # Passed | Continued | Failed | Infra | Cancelled
POD_CREATE_SECONDS = Histogram(
    "tidegate_pod_create_seconds", "From the creation of a task to that of its first Pod.", buckets=_SHORT
)
POD_START_SECONDS = Histogram(
    "tidegate_pod_start_seconds", "From the creation of an agent Pod to its agent container running.", buckets=_LONG
)
TOKENS = Counter("tidegate_tokens_total", "Model tokens that attempts used.", ["direction"])  # in | out
MODEL_CALLS = Counter("tidegate_model_calls_total", "Model calls that attempts made.")
SWEEPS = Counter(
    "tidegate_sweeps_total", "Sweeps of a target's head.", ["outcome"]
)  # Green | Red | Stale | Infra | TimedOut

# Lanes
CANDIDATE_SECONDS = Histogram("tidegate_candidate_seconds", "Forming one candidate.", buckets=_SHORT)
LANDING_SECONDS = Histogram("tidegate_landing_seconds", "From intent to the known result of a push.", buckets=_SHORT)
GATE_SECONDS = Histogram("tidegate_gate_seconds", "From start to verdict of a gate.", ["verdict"], buckets=_LONG)
GATE_RUNS = Counter("tidegate_gate_runs_total", "Runs of gates that ended.", ["gate", "verdict"])
REVIEWS = Counter("tidegate_reviews_total", "Reviews of changes that ended.", ["verdict", "reason"])
GATE_FLAKES = Counter(
    "tidegate_gate_flakes_total",
    "Runs of gates that passed after one on the same commit had failed.",
    ["gate"],
)
MERGES = Counter("tidegate_merges_total", "MergeJobs that ended.", ["outcome"])  # a reason
QUEUE_SECONDS = Histogram("tidegate_merge_queue_seconds", "From creation to the end of a MergeJob.", buckets=_LONG)
OVERHEAD_SECONDS = Histogram(
    "tidegate_merge_overhead_seconds",
    "Of a landed MergeJob: from creation to landing, without the time of its last candidate's gates.",
    buckets=_LONG,
)
WAITING_SECONDS = Counter(
    "tidegate_merge_waiting_seconds_total", "Time that MergeJobs spent in queues, by what they waited for.", ["cause"]
)
CANDIDATES = Counter("tidegate_candidates_total", "Candidates that gates were started on.")
RESETS = Counter(
    "tidegate_lane_resets_total",
    "Times that candidates had to be formed anew.",
    ["cause"],  # TargetMoved | Ejected
)
GATE_LANDED_SECONDS = Counter(
    "tidegate_gate_landed_seconds_total",
    "Time of the gates of candidates that landed; what else is in tidegate_gate_seconds_sum landed nothing.",
)
GATE_CANCELLED_SECONDS = Counter(
    "tidegate_gate_cancelled_seconds_total", "Time of gate runs that were ended because nothing needed them any more."
)
FALSE_EJECTIONS = Counter(
    "tidegate_false_ejections_total", "Commits that landed after their gates had put them out of the queue."
)
RED_HEADS = Counter(
    "tidegate_red_heads_total", "Heads made by a lane that then failed a gate twice: should stay 0 but for flaky gates."
)
LANDINGS = Counter("tidegate_landings_total", "Pushes to target branches by what became of them.", ["result"])
TAKES = Counter("tidegate_lane_takes_total", "Times that a lane's ledger was taken, or the race lost.", ["result"])
GIT_ERRORS = Counter("tidegate_git_errors_total", "Git commands on remotes that failed.", ["operation"])

# The machine room
RECONCILE_SECONDS = Histogram("tidegate_reconcile_seconds", "One reconcile.", ["kind"], buckets=_SHORT)
RECONCILE_ERRORS = Counter("tidegate_reconcile_errors_total", "Reconciles that failed.", ["kind", "error"])
API_CALLS = Counter("tidegate_api_calls_total", "Requests to the API server.", ["verb", "kind", "code"])
WATCH_EVENTS = Counter("tidegate_watch_events_total", "Watch events taken, listed objects included.", ["kind"])
GHOSTS = Counter("tidegate_cache_ghosts_total", "Objects whose deletion no event told of.", ["kind"])
MISSED = Counter("tidegate_cache_missed_total", "Changes that no event told of in time.", ["kind"])
LEADER = Gauge("tidegate_leader", "1 while this replica holds the Lease.")
LEADER_CHANGES = Counter("tidegate_leader_changes_total", "Times this replica took or lost the Lease.", ["to"])
LOOP_LAG_SECONDS = Gauge("tidegate_loop_lag_seconds", "How late the event loop's last heartbeat was.")


def count_api_call(verb: str, kind: str, code: str) -> None:
    """Count a request; the observer that the API client is given."""
    API_CALLS.labels(verb, kind, code).inc()


Counts = Mapping[tuple[str, ...], float]


class StateCollector(Collector):
    """Gauges that are read from the cache when somebody scrapes."""

    def __init__(self, gauges: Iterable[tuple[str, str, tuple[str, ...], Callable[[], Counts]]]) -> None:
        self._gauges = list(gauges)  # name, help, labels, counts by label values

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """Called at each scrape."""
        for name, text, labels, read in self._gauges:
            family = GaugeMetricFamily(name, text, labels=labels)
            for values, number in read().items():
                family.add_metric(values, number)
            yield family


def exposition(registry: CollectorRegistry = REGISTRY) -> bytes:
    """All metrics in the Prometheus text format."""
    return generate_latest(registry)
