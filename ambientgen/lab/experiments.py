"""The experiments, as data: which clips each one wants, and what is compared in it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from ambientgen.errors import RequestError
from ambientgen.recipe import SceneRequest, check_request
from ambientgen.scenes import clean_description
from ambientgen.spec import OPTION_WORDS, EngineSpec

DEFAULT_DURATION_S = 10.0
MAX_SEEDS = 20

EVERYDAY = (
    "gentle rain on a window",
    "ocean waves on a beach",
    "a crackling campfire at night",
    "wind in the trees",
    "birds in a forest in the morning",
    "a busy café",
    "a thunderstorm in the distance",
)
_RAIN = (
    ("minimal", "rain"),
    ("short", "gentle rain"),
    ("place", "gentle rain on a window"),
    ("surroundings", "gentle rain on a window at night, with distant thunder"),
    (
        "detailed",
        "gentle rain on a window at night, single drops running down the glass, with distant thunder now and then and "
        "soft wind in the trees outside",
    ),
)
#: One texture and one sound made of events.
_TEXTURE_AND_EVENTS = ("gentle rain on a window", "a crackling campfire at night")
_GUIDANCE_SCALES = (3.0, 4.0, 5.0, 6.0, 7.5, 9.0, 10.0, 12.0, 15.0)
_NUM_STEPS = (20, 30, 50, 75, 100, 150)
#: In these words: what the engine would add by itself depends on the scene.
_NEGATIVE_PROMPT = "music, voices, low quality, distorted"
#: A café is made of voices, which that prompt is to keep out.
_WITHOUT_VOICES = tuple(scene for scene in EVERYDAY if "café" not in scene)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One clip that an experiment wants, from every contestant and seed.

    Attributes:
        category: what it can be compared within ("gentle rain on a window").
        variant: what sets it apart there ("7.5"); "" where only the contestants differ.
        value: the variant's place on an axis, or None where it has none.
        request: what to make; engine, seed and length are filled in later.
    """

    category: str
    variant: str = ""
    value: float | None = None
    request: SceneRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class Experiment:
    """What is varied, and the clips that takes.

    Attributes:
        name: what people type.
        title: for the page.
        question: what one listens for.
        varies: what the variants are of ("guidance scale"); "" where only the contestants differ.
        needs: the names in `ENGINE_OPTIONS` that an engine must know; without them all clips would be the same.
        trials: in the order of the page.
    """

    name: str
    title: str
    question: str
    varies: str = ""
    needs: frozenset[str] = frozenset()
    trials: tuple[Trial, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One clip on the page: a trial, made by one contestant with one seed.

    Attributes:
        contestant: its label.
        request: complete, with engine, seed and length.
    """

    experiment: str
    category: str
    variant: str
    value: float | None
    contestant: str
    seed: int
    request: SceneRequest


def _of_scenes(scenes: Iterable[str]) -> tuple[Trial, ...]:
    return tuple(Trial(category=scene, request=SceneRequest(description=scene)) for scene in scenes)


EXPERIMENTS = MappingProxyType(
    {
        experiment.name: experiment
        for experiment in (
            Experiment(
                name="everyday",
                title="Seven everyday prompts",
                question="Is the scene there, and is anything there that was not asked for?",
                trials=_of_scenes(EVERYDAY),
            ),
            Experiment(
                name="rain",
                title="Rain, from a minimal to a detailed prompt",
                question="What do more words change?",
                varies="prompt",
                trials=tuple(
                    Trial(category="rain", variant=name, value=float(place), request=SceneRequest(description=prompt))
                    for place, (name, prompt) in enumerate(_RAIN, start=1)
                ),
            ),
            Experiment(
                name="guidance",
                title="Guidance scale, 3 to 15",
                question="From which guidance scale on is a clip overcooked: harsh, crunchy, too loud in itself?",
                varies="guidance scale",
                needs=frozenset({"guidance_scale"}),
                trials=tuple(
                    Trial(
                        category=scene,
                        variant=f"{scale:g}",
                        value=scale,
                        request=SceneRequest(description=scene, guidance_scale=scale),
                    )
                    for scene in _TEXTURE_AND_EVENTS
                    for scale in _GUIDANCE_SCALES
                ),
            ),
            Experiment(
                name="steps",
                title="Inference steps, 20 to 150",
                question="From how many steps on is no difference heard?",
                varies="steps",
                needs=frozenset({"num_inference_steps"}),
                trials=tuple(
                    Trial(
                        category=scene,
                        variant=f"{num_steps}",
                        value=float(num_steps),
                        request=SceneRequest(description=scene, num_inference_steps=num_steps),
                    )
                    for scene in _TEXTURE_AND_EVENTS
                    for num_steps in _NUM_STEPS
                ),
            ),
            Experiment(
                name="negative",
                title="Negative prompt, on and off",
                question=f"What does the negative prompt “{_NEGATIVE_PROMPT}” change?",
                varies="negative prompt",
                needs=frozenset({"negative_prompt"}),
                trials=tuple(
                    Trial(
                        category=scene,
                        variant=variant,
                        request=SceneRequest(description=scene, negative_prompt=negative_prompt),
                    )
                    for scene in _WITHOUT_VOICES
                    for variant, negative_prompt in (("on", _NEGATIVE_PROMPT), ("off", ""))
                ),
            ),
        )
    }
)


def comparison(scenes: Sequence[str]) -> Experiment:
    """The experiment that only compares contestants.

    Args:
        scenes: in people's words.
    """
    return Experiment(
        name="compare",
        title="Engine against engine",
        question="Which clip is nearer to the scene, and what gives each engine away?",
        trials=_of_scenes(dict.fromkeys(scenes)),
    )


def rows(
    experiments: Sequence[Experiment], contestants: Sequence[tuple[str, EngineSpec]], duration_s: float, num_seeds: int
) -> list[Row]:
    """Every clip that the experiments want, in the order of the page.

    Args:
        experiments: in order.
        contestants: the label and engine of each, in order.
        duration_s: of every clip.
        num_seeds: how many clips of each trial; all trials have the same seeds, 1 and on.

    Raises:
        RequestError: if an option is out of its range, a scene is unreadable, or an engine does not know what an
            experiment varies.
    """
    if not 1 <= num_seeds <= MAX_SEEDS:
        raise RequestError(f"The number of seeds goes from 1 to {MAX_SEEDS}.")
    for experiment in experiments:
        for _, spec in contestants:
            _check_engine(experiment, spec)
    planned = [
        Row(
            experiment=experiment.name,
            category=trial.category,
            variant=trial.variant,
            value=trial.value,
            contestant=label,
            seed=seed,
            request=dataclasses.replace(trial.request, engine=spec.name, seed=seed, duration_s=duration_s),
        )
        for experiment in experiments
        for trial in experiment.trials
        for label, spec in contestants
        for seed in range(1, num_seeds + 1)
    ]
    for row in planned:
        check_request(row.request)
        clean_description(row.request.description)
    return planned


def _check_engine(experiment: Experiment, spec: EngineSpec) -> None:
    unknown = sorted(experiment.needs - spec.supports)
    if unknown:
        raise RequestError(
            f"The experiment `{experiment.name}` varies what the engine `{spec.name}` does not have "
            f"({', '.join(OPTION_WORDS.get(name, name) for name in unknown)}): all its clips would be the same."
        )
