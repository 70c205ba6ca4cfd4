"""AmbientGen: ambient sound from words.

>>> from ambientgen import SceneRequest, resolve            # what was asked, and what is decided
>>> from ambientgen.engines.procedural import ProceduralEngine
>>> recipe = resolve(SceneRequest(description="gentle rain", seed=7), [ProceduralEngine().spec])
>>> recipe.layers[0].prompt
'light rain'
"""

__version__ = "0.1.0"

from ambientgen.errors import AmbientError, EncodingError, EngineError, GenerationCancelled, RequestError
from ambientgen.planning import resolve, unused_options
from ambientgen.recipe import Layer, Recipe, SceneRequest
from ambientgen.render import Output, Soundscape, render
from ambientgen.spec import EngineSpec

__all__ = [
    "AmbientError",
    "EncodingError",
    "EngineError",
    "EngineSpec",
    "GenerationCancelled",
    "Layer",
    "Output",
    "Recipe",
    "RequestError",
    "SceneRequest",
    "Soundscape",
    "render",
    "resolve",
    "unused_options",
]
