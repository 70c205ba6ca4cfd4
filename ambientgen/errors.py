"""Everything that can go wrong, split by who can mend it.

AmbientError
├── RequestError            the person who asked can mend it
│   ├── DescriptionError        empty, too long, or no readable words
│   ├── OptionError             an option outside its range or of the wrong kind
│   ├── UnknownSceneError       no engine at hand can place the description
│   ├── UnknownEngineError      an engine name that does not exist
│   └── EngineNotReadyError     the engine exists, but is warming up or not installed
├── EngineError             the operator can mend it
│   ├── ModelMissingError       weights or packages are not on this machine
│   ├── OutOfMemoryError        the device ran out of memory
│   └── UnhealthyTakeError      the engine made something broken, twice
├── EncodingError           the clip is made, but could not become a file
│   ├── ClipTooLargeError       it does not fit the byte limit in any format
│   ├── StorageError            the disk is full or not writable
│   └── UnreadableClipError     a stored sound file is gone or damaged
└── GenerationCancelled     nobody: it is an outcome

Messages are written for the one who can mend it. They never hold a path, a secret or a stack trace, because
`bot/errors.py` may show them in Discord; details for the operator go to the log through `__cause__`.
"""

from __future__ import annotations


class AmbientError(Exception):
    """The root of every error AmbientGen raises on purpose."""


class RequestError(AmbientError):
    """The request cannot be met as it was asked; the person who asked can change it."""


class DescriptionError(RequestError):
    """The description is empty, too long, or holds no readable words."""


class OptionError(RequestError):
    """An option lies outside its range.

    Args:
        option: the option's name, as the person typed it.
        message: what is wrong and what is allowed.
    """

    def __init__(self, option: str, message: str) -> None:
        super().__init__(message)
        self.option = option


class UnknownSceneError(RequestError):
    """No engine at hand can place the description.

    Args:
        message: what happened.
        suggestions: descriptions that would work, nearest first.
    """

    def __init__(self, message: str, suggestions: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.suggestions = suggestions


class UnknownEngineError(RequestError):
    """The engine asked for does not exist."""


class EngineNotReadyError(RequestError):
    """The engine asked for exists but cannot serve now (warming up, or not installed)."""


class EngineError(AmbientError):
    """An engine failed; the operator can mend it."""


class ModelMissingError(EngineError):
    """The model's weights or packages are not on this machine, or are damaged."""


class OutOfMemoryError(EngineError):
    """The device has too little free memory for the model or the take."""


class UnhealthyTakeError(EngineError):
    """The engine made a broken clip, and a second one with another seed was broken too."""


class EncodingError(AmbientError):
    """The sound was made but could not be written as a file."""


class ClipTooLargeError(EncodingError):
    """The clip does not fit the byte limit, whatever the format."""


class StorageError(EncodingError):
    """The clip could not be stored: the disk is full or not writable."""


class UnreadableClipError(EncodingError):
    """A stored sound file is gone, damaged, or not a sound file."""


class GenerationCancelled(AmbientError):
    """The generation was cancelled before it finished."""
