"""What is hoped for, as ratios within a round or as plain figures, and whether a run has reached it.

Invariants: printed, never asserted: machines differ, and so do their moods.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from tests.benchmarks.measure import median, ratio, short
from tests.benchmarks.peers import crowds, scenarios

Rounds = Mapping[str, Mapping[str, Sequence[float]]]
"""Of a scenario: a server's name, a figure's name, its rounds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """`figure` of `server`, or its ratio to that of `base`, is at least or at most something."""

    scenario: str
    server: str
    figure: str
    base: str | None = None
    at_least: float | None = None
    at_most: float | None = None

    def judged(self, rounds: Rounds) -> tuple[str, str, str, str] | None:
        """What is compared, what was wanted, what came and the verdict; None where something was not measured."""
        if self.server not in rounds or (self.base and self.base not in rounds):
            return None
        own = rounds[self.server][self.figure]
        got = ratio(own, rounds[self.base][self.figure]) if self.base else median(own)
        wanted, good = f"at least {self.at_least}", self.at_least is not None and got >= self.at_least
        if self.at_most is not None:
            wanted, good = f"at most {self.at_most}", got <= self.at_most
        beside = f" / {self.base}" if self.base else ""
        return f"{self.server}{beside}: {self.figure}", wanted, short(got), "reached" if good else "missed"


TARGETS: Final = (
    Target(scenario="joined", server="statestream", figure=scenarios.EVENTS, base="floor", at_least=0.8),
    *(
        Target(scenario="joined", server="statestream", figure=scenarios.EVENTS, base=peer, at_least=30)
        for peer in scenarios.PEERS
    ),
    Target(scenario="single", server="statestream", figure=scenarios.EVENTS, base="floor", at_least=1.0),
    Target(scenario="large", server="statestream", figure=scenarios.LARGE_TO_SMALL, at_least=0.95),
    Target(scenario="latency", server="statestream", figure=scenarios.P50, base="floor", at_most=1.3),
    Target(scenario="latency", server="statestream", figure=scenarios.P99, base="floor", at_most=1.3),
    Target(scenario="idle", server="statestream", figure=crowds.IDLE_KB, at_most=1.5),
    Target(scenario="idle", server="statestream-transport", figure=crowds.IDLE_KB, at_most=11),
    Target(scenario="crowd", server="statestream", figure=crowds.REACHED, base="floor", at_most=1.5),
    Target(scenario="storm", server="statestream", figure=crowds.STORM, base="floor", at_most=2.5),
    Target(scenario="frozen", server="statestream", figure=crowds.WITH_TO_WITHOUT, at_most=1.1),
    Target(scenario="frozen", server="statestream", figure=crowds.FROZEN_KB, at_most=256),
    Target(scenario="chats", server="statestream", figure=scenarios.MANY_TO_FEW, at_most=1.2),
)


def judged(scenario: str, rounds: Rounds) -> Iterator[tuple[str, str, str, str]]:
    for target in TARGETS:
        if target.scenario == scenario and (verdict := target.judged(rounds)):
            yield verdict
