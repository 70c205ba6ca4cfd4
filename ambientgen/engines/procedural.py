"""The procedural engine: textures made by rule, without weights (`ambientgen.synth`), fast on any CPU."""

from __future__ import annotations

import contextlib
from collections.abc import Hashable, Iterator

import numpy as np

from ambientgen.audio.clip import Clip, Samples
from ambientgen.engines.base import Feed, Progress, Report, Take
from ambientgen.errors import EngineError, GenerationCancelled, OutOfMemoryError, RequestError
from ambientgen.recipe import MAX_DURATION_S
from ambientgen.spec import EngineSpec
from ambientgen.synth import TextureParams, render_texture
from ambientgen.synth.params import VARIANTS

_SAMPLE_RATE_HZ = 48_000
#: A take up to this long is one circle; a longer one is a ring of segments, so that memory stays bounded.
_LONGEST_CIRCLE_S = 60.0
_SEGMENT_S = 40.0
_CROSSFADE_S = 3.0

_SPEC = EngineSpec(
    name="procedural",
    version="3",
    model=None,
    sample_rate_hz=_SAMPLE_RATE_HZ,
    num_channels=2,
    default_duration_s=30.0,
    longest_good_s=MAX_DURATION_S,
    longest_step_s=0.5,
    supports=frozenset({"loop"}),
    needs_gpu=False,
    license="MIT (no weights)",
    textures=frozenset(VARIANTS),
)


class ProceduralEngine:
    """Renders the texture a layer's `params` name; implements `Engine` and `StreamingEngine`.

    Every take is a circle, whether a loop was asked for or not: it costs nothing.
    """

    @property
    def spec(self) -> EngineSpec:
        """What it can do."""
        return _SPEC

    @property
    def device(self) -> str:
        """Always the CPU."""
        return "cpu"

    def load(self, report: Report) -> None:
        """Do nothing: there is nothing to load."""

    def unload(self) -> None:
        """Do nothing: there is nothing to give back."""

    def batch_key(self, take: Take) -> Hashable:
        """One key for all takes; they run one by one anyway."""
        return _SPEC.name

    def max_batch(self, key: Hashable) -> int:
        """One take at a time: a texture fills a core by itself."""
        return 1

    def run(self, feed: Feed) -> None:
        """Serve the feed, one take after the other, until nothing waits."""
        while takes := feed.admit(None, 1):
            for take in takes:
                _serve(feed, take)

    def blocks(self, take: Take, report: Report) -> Iterator[Samples]:
        """The take in order, in blocks of shape (2, n), holding no more than about a minute of sound at once.

        Raises:
            EngineError: if it cannot be made.
            GenerationCancelled: if `report` answered False.
        """
        with _engine_errors():
            yield from _blocks(take, report)


def _serve(feed: Feed, take: Take) -> None:
    """Render one take and finish it, unless it is dropped meanwhile."""
    try:
        with _engine_errors():
            samples = np.empty((_SPEC.num_channels, take.num_samples), dtype=np.float32)
            filled = 0
            for block in _blocks(take, lambda progress: feed.progress(take.id, progress)):
                samples[:, filled : filled + block.shape[1]] = block
                filled += block.shape[1]
    except GenerationCancelled:
        return
    except EngineError as error:  # whatever happens, the take must end and the next one must be served
        feed.finish(take.id, error)
    else:
        feed.finish(take.id, Clip(samples, _SAMPLE_RATE_HZ))


@contextlib.contextmanager
def _engine_errors() -> Iterator[None]:
    """Whatever goes wrong, in words."""
    try:
        yield
    except GenerationCancelled:
        raise
    except MemoryError as error:
        raise OutOfMemoryError("There is too little memory free for this take.") from error
    except (RequestError, ValueError) as error:
        raise EngineError(f"The procedural engine cannot make this layer: {error}") from error
    except Exception as error:
        raise EngineError("The procedural engine failed on this layer.") from error


def _blocks(take: Take, report: Report) -> Iterator[Samples]:
    """The take in order: one circle, or a ring of circles joined by equal-power crossfades.

    Segment k owns an equal share of the ring and reaches one crossfade into the next share. The ring is cut just after
    the first segment has faded in, so that only that head must be kept for the end, where the last segment joins it.
    """
    params = TextureParams.from_mapping(take.layer.params)
    seed, num_samples = take.layer.seed, take.num_samples
    if num_samples <= _LONGEST_CIRCLE_S * _SAMPLE_RATE_HZ:
        yield render_texture(params, num_samples, _SAMPLE_RATE_HZ, seed, report)
        return

    fade = round(_CROSSFADE_S * _SAMPLE_RATE_HZ)
    num_segments = round(num_samples / (_SEGMENT_S * _SAMPLE_RATE_HZ))
    bounds = [num_samples * k // num_segments for k in range(num_segments + 1)]
    head = tail = np.empty((_SPEC.num_channels, 0), dtype=np.float32)
    for k in range(num_segments):
        own = bounds[k + 1] - bounds[k]
        # The low 32 bits stay: segments share their character (a drone's root, the birds that sing) and nothing else.
        segment = render_texture(
            params, own + fade, _SAMPLE_RATE_HZ, seed + (k << 32), _counting(report, k, num_segments)
        )
        if k == 0:
            head = segment[:, :fade].copy()
        else:
            yield _crossfade(tail, segment[:, :fade])
        yield segment[:, fade:own]
        tail = segment[:, own:].copy()
    yield _crossfade(tail, head)


def _counting(report: Report, segment: int, num_segments: int) -> Report:
    """Report finished segments instead of a segment's own steps."""
    return lambda _: report(Progress("rendering", segment, num_segments))


def _crossfade(old: Samples, new: Samples) -> Samples:
    """From `old` to `new` with equal power: the right law for sounds that have nothing to do with each other."""
    angle = np.linspace(0.0, np.pi / 2.0, old.shape[1], dtype=np.float32)
    return old * np.cos(angle) + new * np.sin(angle)
