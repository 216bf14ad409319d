"""From rounds to figures: each is one number of one round; what is reported is its median over the rounds."""

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median, quantiles

from bench.rounds import Round
from bench.scenarios import BURST, IDLE, SPEED, Scenario


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A number to be read off every round of a scenario. `digits` after the point where it is shown."""

    label: str
    scenario: Scenario
    of: Callable[[Round], float]
    digits: int = 0


def first_token_ms(percent: int) -> Callable[[Round], float]:
    """A percentile of the times to first token, in milliseconds."""

    def read(played: Round) -> float:
        times = [answer.first_seconds * 1000 for answer in played.answers]
        return quantiles(times, n=100, method="inclusive")[percent - 1] if len(times) > 1 else times[0]

    return read


def answers_per_second(played: Round) -> float:
    """From the first request to the end of the last answer."""
    return median(len(batch.answers) / batch.wall_seconds for batch in played.batches)


def tokens_per_second(played: Round) -> float:
    """Of one answer, from its request to its end. Relays may join tokens, so the model's count is what counts."""
    return median(played.scenario.tokens / answer.total_seconds for answer in played.answers)


def worker_ms_per_token(played: Round) -> float:
    """CPU time of the process that calls the model."""
    return played.cpu_seconds[played.worker] * 1000 / (played.scenario.answers * played.scenario.tokens)


FIGURES = (
    Figure(label="first token, idle, p50, ms", scenario=IDLE, of=first_token_ms(50), digits=1),
    Figure(label="first token, idle, p99, ms", scenario=IDLE, of=first_token_ms(99), digits=1),
    Figure(label="first token, 50 at once, p50, ms", scenario=BURST, of=first_token_ms(50)),
    Figure(label="first token, 50 at once, p95, ms", scenario=BURST, of=first_token_ms(95)),
    Figure(label="first token, 50 at once, p99, ms", scenario=BURST, of=first_token_ms(99)),
    Figure(label="answers per second, 50 at once", scenario=BURST, of=answers_per_second, digits=1),
    Figure(label="tokens per second, full speed", scenario=SPEED, of=tokens_per_second),
    Figure(label="worker CPU per token, full speed, ms", scenario=SPEED, of=worker_ms_per_token, digits=2),
)


def values(figure: Figure, rounds: list[Round], subject: str) -> list[float]:
    """A figure's value in each round of a subject."""
    return [figure.of(played) for played in rounds if played.scenario == figure.scenario and played.subject == subject]
