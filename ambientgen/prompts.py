"""What the model reads: prompt and negative prompt for a description, by the findings of our listening tests.

"high quality recording" and "ambient soundscape" in the prompt help; the negative prompt below always helps;
guidance between 5.0 and 7.5 is best and above 10 sounds overcooked.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

QUALITY_PHRASES = ("high quality recording", "ambient soundscape")
NEGATIVE_TERMS = ("music", "voices", "low quality", "distorted")
DEFAULT_GUIDANCE_SCALE = 6.0
OVERCOOKED_GUIDANCE_SCALE = 10.0

#: Words by which a person asks for what the negative prompt would take away.
_ASKED_FOR = {
    "music": re.compile(r"\b(music|musical|melody|melodies|song|songs|piano|guitar|flute|choir)\b", re.IGNORECASE),
    "voices": re.compile(
        r"\b(voices?|talk(ing)?|chatter(ing)?|murmur(ing)?|crowds?|people|speech|sing(ing)?|choir|chant(ing)?|"
        r"conversations?|whisper(s|ing)?)\b",
        re.IGNORECASE,
    ),
    "distorted": re.compile(r"\bdistort(ed|ion)\b", re.IGNORECASE),
}


@dataclass(frozen=True, slots=True)
class Wording:
    """What the model reads.

    Attributes:
        prompt: the description with the quality phrases it lacked.
        negative_prompt: what to avoid; an empty string avoids nothing.
    """

    prompt: str
    negative_prompt: str


def word(description: str, negative_prompt: str | None = None) -> Wording:
    """Word a description for the model; a phrase the person wrote is never doubled, one they gave always wins.

    Args:
        description: a cleaned description.
        negative_prompt: the person's own, used as it is (also when empty); None for the default, less what the
            description asks for.
    """
    lowered = description.lower()
    missing = [phrase for phrase in QUALITY_PHRASES if phrase not in lowered]
    prompt = ", ".join([description.rstrip(" .,;"), *missing])
    if negative_prompt is None:
        asked = {term for term, pattern in _ASKED_FOR.items() if pattern.search(description)}
        negative_prompt = ", ".join(term for term in NEGATIVE_TERMS if term not in asked)
    return Wording(prompt, negative_prompt)
