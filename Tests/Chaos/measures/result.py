"""What a measurement answers."""
from dataclasses import dataclass

from world import bound


@dataclass
class Result:
    number: str
    what: str
    n: int
    failures: int
    measured: str
    met: bool

    def row(self):
        return (f"| {self.number} | {self.what} | {self.n:,} | {self.failures} | {bound(self.failures, self.n)} | "
                f"{self.measured} | {'yes' if self.met else 'NO'} |")
