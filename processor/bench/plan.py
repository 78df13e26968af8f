"""What one run is to do: how much, how fast, with what texts, and what does not count."""

from dataclasses import dataclass, field

from processor.errors import SettingsError

__all__ = ["Lengths", "Plan"]


@dataclass(frozen=True, slots=True)
class Lengths:
    """How long synthetic texts are: log-normal, as lengths of sentences and messages nearly are.

    ``median`` is in characters. ``spread`` is one standard deviation as a factor: two texts in
    three are between median / spread and median * spread; 1 makes all of a length.
    """

    median: float = 100.0
    spread: float = 1.6

    def __post_init__(self) -> None:
        if not 10 <= self.median <= 10_000:
            raise SettingsError("the median length must be 10 to 10000 characters")
        if not 1 <= self.spread <= 10:
            raise SettingsError("the spread of lengths must be 1 to 10")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One run. Raises SettingsError for what can't be done.

    ``requests`` that count, or ``seconds`` for which they do: one of the two. ``rate`` is in
    requests a second, with exponential gaps between them (a Poisson process, as of users who know
    nothing of each other), whatever the workers make of it; None keeps ``ahead`` requests
    unanswered all the time, so that the workers never run dry. What comes within ``warm_up_s`` of
    the first request of a schedule does not count; without a rate, what comes within it of the
    first answer, and the first half of ``ahead``: a pipeline that has just been filled answers in
    bursts, and the short ones first.
    """

    requests: int | None = None
    seconds: float | None = None
    rate: float | None = None
    warm_up_s: float = 3.0
    workers: int = 1
    """How many are started here; 0: those of the settings' topics, which run already."""
    ahead: int | None = None
    """Without a rate: requests unanswered at any time; None: twice the workers' windows."""
    lengths: Lengths = field(default_factory=Lengths)
    urgent: float = 0.0
    """Share of the requests that go to the priority topic; their latency is reported apart."""
    texts: tuple[str, ...] = ()
    """Spoken in turn, instead of synthetic ones."""
    seed: int = 0
    """The same seed, the same texts at the same moments."""
    pages: tuple[str, ...] = ()
    """URLs of ``/metrics`` of workers that run already."""
    look_every_s: float = 1.0
    """How often the workers' metrics are read, in seconds."""
    silence_s: float = 60.0
    """The run fails if for so long no answer comes."""

    def __post_init__(self) -> None:
        if (self.requests is None) == (self.seconds is None):
            raise SettingsError("give either how many requests count, or for how many seconds")
        bounds = {
            "requests": (self.requests, 1), "ahead": (self.ahead, 1), "workers": (self.workers, 0),
            "seconds": (self.seconds, 0.1), "rate": (self.rate, 0.001),
            "warm_up_s": (self.warm_up_s, 0), "look_every_s": (self.look_every_s, 0.05),
            "silence_s": (self.silence_s, 1),
        }  # fmt: skip
        for name, (value, least) in bounds.items():
            if value is not None and value < least:
                raise SettingsError(f"{name}: {value:g} is less than {least:g}")
        if not 0 <= self.urgent < 1:
            raise SettingsError("the share of urgent requests must be 0 or more, and less than 1")
        if self.workers and self.pages:
            raise SettingsError("metrics of other workers are read only when none are started here")
