"""Rows of the fault catalogue that need a process, a socket or a disk to fail: each function provokes one and asserts what must
follow; the first words of its description name it, most by the number in the catalogue. The others are Swift tests
(docs/reliability.md names them)."""
from rows import access, crowds, disk, edge, failover, network, postgres, process, stores, stream


def name(row):
    return row.__doc__.partition(":")[0]


def order(row):
    return (0, int(name(row))) if name(row).isdigit() else (1, 0)


ROWS = sorted([row for file in (network, disk, postgres, failover, stores, process, edge, crowds, access, stream) for row in file.ROWS],
              key=order)
