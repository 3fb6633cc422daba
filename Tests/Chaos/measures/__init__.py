"""The numbers N1 to N16: each function measures one and answers Results."""
from measures.fuzzing import fuzzed
from measures.growth import resources
from measures.kills import kill_rounds
from measures.latency import latency
from measures.outbox import backlog, drift
from measures.overload import overload
from measures.result import Result
from measures.shutdown import shutdowns
from measures.stores import single_failures, without_postgres
from measures.stream import stream
from measures.tenants import canaries
from measures.torture import torture

__all__ = ["Result", "backlog", "canaries", "drift", "fuzzed", "kill_rounds", "latency", "overload", "resources", "shutdowns",
           "single_failures", "stream", "torture", "without_postgres"]
