"""How long a job will take: learned from what was measured, and honest about its own errors.

A render's time alone is taken apart into factors, each learned as an average of log-ratios: its engine on its device,
its form, how much work it is, and both together. What was never seen counts as 1, so a new length is predicted from the
engine's others. Those who share an engine share its passes, and a pass costs something of its
own and something for each take in it; their proportion is learned too. Whatever was predicted is held
against what came: the errors of the last predictions are the range of the next one.
"""

from __future__ import annotations

import heapq
import json
import math
from collections import Counter, deque
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from ambientgen.recipe import Recipe
from ambientgen.spec import EngineSpec
from ambientgen.takes import num_candidates, take_duration_s, take_seeds
from ambientgen.timings import Timing

#: How much a new measurement counts at least, for each of a shape's factors: the coarse ones change seldom.
_WEIGHTS = (0.05, 0.1, 0.1, 0.2)
#: The first measurement of a fine factor counts half: it may have been chance.
_DOUBTS = (0, 1, 1, 1)
#: Once something is known, one measurement cannot say more than this factor: it may be an odd one.
_MOST_AT_ONCE = math.log(2.0)
_KNOWN_AFTER = 5
#: Factors that are kept; the one that was used longest ago goes first.
_MAX_FACTORS = 1000
#: Of amounts that are this many to a doubling, the ratio of time to amount is nearly the same.
_AMOUNTS_PER_DOUBLING = 4
#: What a take adds to a shared pass, as a share of the pass itself, where nothing was measured yet; how much one
#: measurement moves it at most (as a log), how fast, and between which bounds.
_SHARING, _SHARING_STEP, _SHARING_RATE = 0.5, 0.3, 0.2
_LEAST_SHARING, _MOST_SHARING = 1e-3, 100.0
#: Errors that are kept of each kind of prediction, and how many make a range.
_MAX_ERRORS, _ENOUGH_ERRORS = 200, 20
#: More would not be a measurement.
_LARGEST_LOG_RATIO = 50.0
#: The range without them, as a factor either way.
_UNSURE = math.log(2.5)
#: As in the executor: how many may join a batch before one that does not fit into it.
_MAX_OVERTAKEN = 8
#: Ranges go from this quantile to its counterpart: a little more than nine in ten.
_QUANTILE = 0.035


@dataclass(frozen=True, slots=True)
class Shape:
    """What decides how long a recipe takes.

    Attributes:
        engine: the one that its time depends on, with its device.
        amount: seconds of sound over all its takes, times their steps where they have any.
        num_steps: of all takes together; 0 where they have none.
        num_takes: of that engine.
        form: the rest: takes, steps, layers, loop.
        key: those with equal keys can share passes; None: it shares them with nobody.
        load: its part of a pass, in the engine's own unit.
        capacity: nothing joins a pass that holds this much.
    """

    engine: str
    amount: float
    num_steps: int
    num_takes: int
    form: str
    key: Hashable = None
    load: float = 1.0
    capacity: float = 1.0


@dataclass(frozen=True, slots=True)
class Eta:
    """A prediction, in seconds from now.

    Attributes:
        likely_s: as likely too long as too short.
        low_s, high_s: hold the truth nine times in ten.
    """

    likely_s: float
    low_s: float
    high_s: float


class Batching(NamedTuple):
    """How a recipe's takes share the passes of their engine.

    Attributes:
        key: takes with equal keys can share them; None: these share them with nobody.
        take_size: how much of a pass one take is, in the engine's own unit.
        capacity: nothing joins a pass that holds this much.
    """

    key: Hashable
    take_size: int
    capacity: int


def slowest_engine(recipe: Recipe) -> str:
    """The engine that a recipe's time depends on: one with weights, if any."""
    return next((layer.engine for layer in recipe.layers if layer.model), recipe.layers[0].engine)


def shape_of(recipe: Recipe, specs: Mapping[str, EngineSpec], device: str | None, batching: Batching) -> Shape:
    """A recipe's shape, on the device where its slowest engine runs, and in its batches."""
    engine = slowest_engine(recipe)
    amount, num_steps, num_takes = 0.0, 0, 0
    for layer in recipe.layers:
        if layer.engine != engine:
            continue
        spec = specs.get(engine)
        length_s, takes = recipe.duration_s, num_candidates(layer)
        if spec is not None:
            length_s = take_duration_s(recipe, spec)
            takes *= len(take_seeds(recipe, layer, spec))
        steps = layer.num_inference_steps or 0
        amount += length_s * takes * max(steps, 1)
        num_steps += takes * steps
        num_takes += takes
    form = f"{num_takes}x{num_steps} {len(recipe.layers)} {'loop' if recipe.loop else 'line'}"
    # Its takes join one by one, as long as there is room.
    num_at_once = min(num_takes, max(1, math.ceil(batching.capacity / batching.take_size)))
    return Shape(
        engine=f"{engine} {device or ''}".strip(),
        amount=amount,
        num_steps=num_steps,
        num_takes=num_takes,
        form=form,
        key=batching.key,
        load=float(num_at_once * batching.take_size),
        capacity=float(batching.capacity),
    )


class RenderTimes:
    """Learns how long renders take, and how far off its predictions are."""

    def __init__(self) -> None:
        self._factors: dict[str, tuple[float, int]] = {}  # mean log-ratio, and how many measurements are in it
        self._sharing: dict[str, float] = {}  # of each engine
        self._errors: dict[str, deque[float]] = {}  # log-ratios of truth to prediction, by kind

    # ------------------------------------------------------------------ renders

    def expect_s(self, shape: Shape, timings: Sequence[Timing] = ()) -> float | None:
        """Seconds from the start of a render to its end, if nothing else runs.

        Args:
            shape: what is rendered.
            timings: the engine's own, for when no whole render of it was measured yet.

        Returns:
            None if nothing is known of the engine.
        """
        keys = _keys(shape)
        if keys[0] not in self._factors:
            return _from_timings(shape, timings)
        return shape.amount * math.exp(sum(map(self._mean, keys)))

    def sharing(self, engine: str) -> float:
        """What a load of 1 adds to a pass of an engine, as a share of what the pass costs by itself."""
        return self._sharing.get(engine, _SHARING)

    def slowdown(self, shape: Shape, load: float) -> float:
        """How many times longer a render takes than alone when so much is in its passes, itself included."""
        sharing = self.sharing(shape.engine)
        return (1 + sharing * max(load, shape.load)) / (1 + sharing * shape.load)

    def learn(self, shape: Shape, load: float, took_s: float) -> None:
        """A render has ended; so much was in its passes, on average, itself included."""
        keys = _keys(shape)
        rest = math.log(max(took_s, 0.001) / self.slowdown(shape, load) / shape.amount) - sum(map(self._mean, keys))
        num_known = self._factors.get(keys[0], (0.0, 0))[1]
        if num_known >= _KNOWN_AFTER:
            rest = min(max(rest, -_MOST_AT_ONCE), _MOST_AT_ONCE)
        if num_known:
            rest -= self._learn_sharing(shape, load, rest)
        for key, weight, doubts in zip(keys, _WEIGHTS, _DOUBTS, strict=True):
            mean, num = self._factors.pop(key, (0.0, 0))
            part = rest * max(weight, 1 / (num + 1 + doubts))
            self._factors[key] = mean + part, num + 1  # the newest at the end
            rest -= part
        while len(self._factors) > _MAX_FACTORS:
            del self._factors[next(iter(self._factors))]

    def _mean(self, key: str) -> float:
        return self._factors.get(key, (0.0, 0))[0]

    def _learn_sharing(self, shape: Shape, load: float, rest: float) -> float:
        """Lay part of an error to the sharing, as far as it would have mattered; the answer is that part."""
        sharing = self.sharing(shape.engine)
        # How much a change of the sharing's log changes the log of the time.
        all_of_it, own = (sharing * part / (1 + sharing * part) for part in (max(load, shape.load), shape.load))
        slope = all_of_it - own
        step = _SHARING_RATE * rest * slope / (slope**2 + 0.05)
        step = min(max(step, -_SHARING_STEP), _SHARING_STEP)
        self._sharing[shape.engine] = min(max(sharing * math.exp(step), _LEAST_SHARING), _MOST_SHARING)
        return step * slope

    # ------------------------------------------------------------------ errors

    def score(self, kind: str, predicted_s: float, actual_s: float) -> None:
        """Hold a prediction against what came. A kind's first word is what to fall back to."""
        error = math.log(max(actual_s, 0.1) / max(predicted_s, 0.1))
        for name in {kind, _family(kind)}:
            self._errors.setdefault(name, deque(maxlen=_MAX_ERRORS)).append(error)

    def judged(self, kind: str, predicted_s: float) -> Eta:
        """A prediction, corrected by how the last ones of its kind turned out, with its range."""
        errors = next((e for e in map(self._known_errors, (kind, _family(kind))) if e), None)
        if errors is None:
            return Eta(predicted_s, predicted_s * math.exp(-_UNSURE), predicted_s * math.exp(_UNSURE))
        low, middle, high = (_quantile(errors, share) for share in (_QUANTILE, 0.5, 1 - _QUANTILE))
        return Eta(*(predicted_s * math.exp(error) for error in (middle, low, high)))

    def _known_errors(self, kind: str) -> list[float] | None:
        errors = self._errors.get(kind, ())
        return sorted(errors) if len(errors) >= _ENOUGH_ERRORS else None

    # ------------------------------------------------------------------ keeping

    def to_json(self) -> str:
        """All that was learned; `from_json` goes on from there."""
        return json.dumps(
            {
                "sharing": {engine: round(sharing, 5) for engine, sharing in self._sharing.items()},
                "factors": {key: [round(mean, 4), num] for key, (mean, num) in self._factors.items()},
                "errors": {kind: [round(error, 3) for error in errors] for kind, errors in self._errors.items()},
            }
        )

    @classmethod
    def from_json(cls, text: str | None) -> RenderTimes:
        """What `to_json` wrote; whatever cannot be read is learned anew."""
        times = cls()
        try:
            data: Any = json.loads(text or "{}")
            times._factors = {
                str(key): (_log_ratio(mean), max(0, int(num))) for key, (mean, num) in data.get("factors", {}).items()
            }
            times._sharing = {
                str(engine): min(max(_LEAST_SHARING, float(sharing)), _MOST_SHARING)
                for engine, sharing in data.get("sharing", {}).items()
            }
            times._errors = {
                str(kind): deque(map(_log_ratio, errors), _MAX_ERRORS)
                for kind, errors in data.get("errors", {}).items()
            }
        except (ValueError, TypeError, AttributeError, RecursionError):
            return cls()
        return times


@dataclass(frozen=True, slots=True)
class Part:
    """One job as `play` sees it.

    Attributes:
        job_id: the job.
        shape: what decides how long it takes.
        alone_s: what is left of it, as if it ran alone; None: unknown.
    """

    job_id: str
    shape: Shape
    alone_s: float | None


def play(
    running: Iterable[Part],
    waiting: Iterable[Part],
    sharing: Callable[[str], float],
    *,
    num_places: int,
) -> dict[str, tuple[float, float]]:
    """When each job starts and ends, in seconds from now, as far as that is known.

    Args:
        running: what runs already.
        waiting: what comes next, in order.
        sharing: as `RenderTimes.sharing`.
        num_places: how many run together at most.
    """
    later, line = iter(waiting), list[Part]()  # the line is what the executor has besides what runs
    num_overtaken: Counter[str] = Counter()
    times: dict[str, tuple[float, float]] = {}
    now_s = passes = load = 0.0  # the passes are counted in seconds that an empty one would take
    ends: list[tuple[float, int, Part, float]] = []  # by the pass in which each ends

    def begin(part: Part, alone_s: float) -> None:
        nonlocal load
        load += part.shape.load
        alone_passes = alone_s / (1 + sharing(part.shape.engine) * part.shape.load)
        heapq.heappush(ends, (passes + alone_passes, len(times) + len(ends), part, now_s))

    def end_one() -> None:
        nonlocal now_s, passes, load
        last_pass, _, part, start_s = heapq.heappop(ends)
        now_s += max(0.0, last_pass - passes) * (1 + sharing(part.shape.engine) * load)
        passes = max(passes, last_pass)
        load -= part.shape.load
        times[part.job_id] = start_s, now_s

    def next_one() -> Part | None:
        """Who joins now: the first that fits, as long as those before it were not overtaken too often."""
        if ends and (len(ends) >= num_places or load >= ends[0][2].shape.capacity):
            return None
        for number, part in enumerate(line):
            if not ends or (part.shape.key is not None and part.shape.key == ends[0][2].shape.key):
                num_overtaken.update(other.job_id for other in line[:number])
                return line.pop(number)
            if num_overtaken[line[0].job_id] >= _MAX_OVERTAKEN:
                return None
        return None

    known = True
    for part in running:
        if part.alone_s is None:
            known = False
        else:
            begin(part, part.alone_s)
    while True:
        while known and len(ends) + len(line) <= num_places and (coming := next(later, None)) is not None:
            known = coming.alone_s is not None
            if known:
                line.append(coming)
        if (joining := next_one()) is not None:
            assert joining.alone_s is not None
            begin(joining, joining.alone_s)
        elif ends:
            end_one()
        else:
            return times


def _keys(shape: Shape) -> tuple[str, str, str, str]:
    """A shape's factors, the coarsest first."""
    amount = round(_AMOUNTS_PER_DOUBLING * math.log2(max(shape.amount, 0.01)))
    form, amount_key = f"{shape.engine} {shape.form}", f"{shape.engine} ~{amount}"
    return shape.engine, form, amount_key, f"{amount_key} {shape.form}"


def _from_timings(shape: Shape, timings: Sequence[Timing]) -> float | None:
    """The sum of the stages as the engine measured them; a mean over their sizes, so no more than a guess."""
    steps_s = _usual_s(timings, "denoising")
    if steps_s is None:
        return None
    decoding_s, conditioning_s = (_usual_s(timings, stage) or 0.0 for stage in ("decoding", "conditioning"))
    return shape.num_steps * steps_s + shape.num_takes * decoding_s + conditioning_s


def _usual_s(timings: Sequence[Timing], stage: str) -> float | None:
    measured = [timing for timing in timings if timing.stage == stage]
    total = sum(timing.num_measured for timing in measured)
    return sum(timing.duration_s * timing.num_measured for timing in measured) / total if total else None


def _family(kind: str) -> str:
    return kind.split(maxsplit=1)[0]


def _quantile(values: Sequence[float], share: float) -> float:
    """Of sorted values; between two of them in proportion."""
    place = share * (len(values) - 1)
    below = math.floor(place)
    above = min(below + 1, len(values) - 1)
    return values[below] + (place - below) * (values[above] - values[below])


def _log_ratio(value: Any) -> float:
    number = float(value)
    if not abs(number) <= _LARGEST_LOG_RATIO:
        raise ValueError("not a log-ratio")
    return number
