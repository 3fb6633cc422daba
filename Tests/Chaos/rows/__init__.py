"""Rows of the fault catalogue that need a process, a socket or a disk to fail: each function provokes one and asserts what must
follow. The others are Swift tests (docs/reliability.md names them)."""
from rows import disk, edge, network, postgres, process, stores

ROWS = [network.slow_network, network.reset_connections, network.link_down, disk.disk_full, disk.disk_error,
        postgres.too_many_connections, postgres.wrong_password, postgres.schema_missing, postgres.failover,
        postgres.idle_in_transaction, stores.applied_then_killed, stores.changed_model, network.silent_names,
        process.jumping_clock, process.few_files, stores.everything_down, edge.client_gone, edge.slow_clients,
        edge.large_heads, edge.smuggling, disk.embedded_disk_full]
