"""Giving up inside a model call: models have no such thing, but torch calls back before each of their layers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def interruptible(models: Iterable[Any], check: Callable[[], None]) -> Iterator[None]:
    """Call `check` before every layer of the models, for as long as this context is open; it may raise to give up.

    Args:
        models: torch modules.
        check: cheap; called hundreds of times a second.
    """
    layers = [module for model in models for module in model.modules() if not any(module.children())]
    hooks = [layer.register_forward_pre_hook(lambda *_: check()) for layer in layers]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
