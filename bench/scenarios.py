"""What is asked, how often, and how the demo model answers."""

from dataclasses import dataclass

#: What everybody is asked. The demo model gives equal questions equal answers, so every byte can be checked.
MESSAGE = "What is a relay race?"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One round asks `times` times, `at_once` answers each, after `pause_seconds` of quiet each."""

    name: str
    model: str
    tokens: int
    times: int
    at_once: int = 1
    #: Before each asking: what the one before left to do (acks, closes) is done, and consumers wait again.
    pause_seconds: float = 0.1

    @property
    def answers(self) -> int:
        """Answers of one round."""
        return self.times * self.at_once


#: Time to first token where nothing else goes on. The model starts at once and then writes slowly, so that no later
#: token is mistaken for the first.
IDLE = Scenario(name="idle", model="demo/first=0,rate=50,tokens=10", tokens=10, times=30)

#: Fifty people at once. An answer takes one second, so four at a time give 3.9 answers a second at best.
BURST = Scenario(name="burst", model="demo/first=0,rate=30,tokens=30", tokens=30, times=1, at_once=50, pause_seconds=1)

#: A model as fast as it can be read, one answer at a time.
SPEED = Scenario(name="speed", model="demo/first=0,rate=0,tokens=2000", tokens=2000, times=4)

SCENARIOS = {scenario.name: scenario for scenario in (IDLE, BURST, SPEED)}

#: Before anything counts, everybody answers this: at least twice for each of the old design's processes, and once for
#: each connection that fifty at once need.
WARM_UP = Scenario(name="warm-up", model="demo/first=0,rate=50,tokens=10", tokens=10, times=2, at_once=50)
