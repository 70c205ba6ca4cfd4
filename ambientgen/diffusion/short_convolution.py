"""The vocoder's convolutions with a third of the multiplications, for the CPU.

HiFi-GAN is convolutions over time by 3, 7 and 11 taps, and on a CPU its cost is their multiplications. The schoolbook
takes m * r of them for m outputs of r taps, where m + r - 1 are enough (Toom 1963, Cook 1966; Winograd 1980; for neural
networks Lavin & Gray 2015): the inputs of a tile are transformed once for all output channels, the taps once for good,
and what is left between them is a product of matrices. Long kernels nest two short algorithms, because rounding grows
fast with the size of one. The function is the same; rounding, measured at the waveform, grows by a fifth.

It pays where there are many channels: a tile's transforms cost in proportion to them, its products to their square.
"""

from __future__ import annotations

import math
from functools import lru_cache
from types import MethodType
from typing import Any, NamedTuple

import numpy as np

#: For each kernel size the algorithms that are nested, the inner one first: (outputs, taps) of each.
_NESTED = {3: ((4, 3),), 7: ((2, 2), (4, 4)), 11: ((3, 3), (4, 4))}
#: Where an algorithm of so many products evaluates its polynomials, besides at infinity: what rounds least.
_POINTS = {
    3: (-2 / 3, 2 / 3),
    5: (-5 / 4, -2 / 5, 2 / 5, 5 / 4),
    6: (-3 / 2, -2 / 3, 0, 2 / 3, 3 / 2),
    7: (-5 / 3, -4 / 5, -1 / 4, 1 / 4, 4 / 5, 5 / 3),
}
#: With fewer channels the transforms eat most of the gain.
_MIN_CHANNELS = 128
#: Tiles under way at once: enough for a good product of matrices, and 36 MB with 512 channels.
_TILES = 256


def shorten_convolutions(vocoder: Any) -> None:
    """Give a vocoder's wide residual convolutions the short algorithm for good, if it is on the CPU in float32.

    Their weights are kept transformed, 3 times as large. They stay the modules they are, for hooks and moves.

    Args:
        vocoder: a `SpeechT5HifiGan`; from now on it takes one sound at a time.
    """
    import torch

    if vocoder.device.type != "cpu" or vocoder.dtype != torch.float32:
        return
    for conv in vocoder.resblocks.modules():
        if not isinstance(conv, torch.nn.Conv1d) or "forward" in vars(conv):
            continue
        (kernel_size,) = conv.kernel_size
        if kernel_size in _NESTED and conv.in_channels >= _MIN_CHANNELS:
            taps = torch.from_numpy(_algorithm(kernel_size).taps)
            weight = torch.einsum("pk,oik->pio", taps, conv.weight.detach().double())
            conv.weight = torch.nn.Parameter(weight.float().contiguous(), requires_grad=False)
            conv.forward = MethodType(_forward, conv)


class _Algorithm(NamedTuple):
    """`outputs @ ((taps @ h) * (inputs @ x))` is `np.correlate(x, h)`, for a tile of x.

    Attributes:
        outputs: shape (outputs, products).
        taps: shape (products, taps).
        inputs: shape (products, outputs + taps - 1).
    """

    outputs: Any
    taps: Any
    inputs: Any


@lru_cache
def _algorithm(kernel_size: int) -> _Algorithm:
    first, *others = _NESTED[kernel_size]
    algorithm = _toom_cook(*first)
    for sizes in others:
        algorithm = _nest(algorithm, _toom_cook(*sizes))
    outputs, taps, inputs = algorithm
    # There may be a tap too many, and a product that only this one needs.
    taps = taps[:, :kernel_size]
    needed = taps.any(axis=1)
    return _Algorithm(outputs[:, needed], taps[needed], inputs[needed, : len(outputs) + kernel_size - 1])


def _toom_cook(num_outputs: int, num_taps: int) -> _Algorithm:
    """A product of polynomials by its values at some points, transposed: what multiplies out then correlates."""
    num_products = num_outputs + num_taps - 1

    def values(length: int) -> Any:
        """Of polynomials with so many coefficients, at the points and at infinity."""
        return np.vstack([np.vander(_POINTS[num_products], length, increasing=True), np.eye(length)[-1]])

    return _Algorithm(values(num_outputs).T, values(num_taps), np.linalg.inv(values(num_products)).T)


def _nest(inner: _Algorithm, outer: _Algorithm) -> _Algorithm:
    """The outer algorithm, whose every product is a piece of signal that the inner one (square) correlates."""
    stride, (num_products, length) = len(inner.outputs), inner.inputs.shape
    num_outer_products, num_pieces = outer.inputs.shape
    inputs = np.zeros((num_outer_products, num_products, stride * (num_pieces - 1) + length))
    for piece in range(num_pieces):
        inputs[:, :, stride * piece :][:, :, :length] += np.multiply.outer(outer.inputs[:, piece], inner.inputs)
    return _Algorithm(
        np.kron(outer.outputs, inner.outputs),
        np.kron(outer.taps, inner.taps),
        inputs.reshape(num_outer_products * num_products, -1),
    )


def _forward(conv: Any, values: Any) -> Any:
    """What `Conv1d.forward` makes of one sound, shape (1, channels, samples)."""
    import torch
    from torch.nn.functional import pad

    algorithm = _algorithm(*conv.kernel_size)
    to_outputs, to_products = values.new_tensor(algorithm.outputs), values.new_tensor(algorithm.inputs)
    (num_outputs, num_products), num_inputs = to_outputs.shape, to_products.shape[1]
    (before,), (dilation,), num_samples = conv.padding, conv.dilation, values.shape[2]
    num_tiles = math.ceil(num_samples / (num_outputs * dilation))
    length = ((num_tiles - 1) * num_outputs + num_inputs) * dilation
    (sound,) = values.transpose(1, 2)
    sound = pad(sound, (0, 0, before, length - before - num_samples))
    # Dilated taps see interleaved signals that know nothing of each other: side by side, like more channels.
    tiles = sound.view(-1, dilation * conv.in_channels).unfold(0, num_inputs, num_outputs).transpose(1, 2)
    made = values.new_empty(num_tiles, num_outputs, dilation * conv.out_channels)
    num_at_once = max(1, _TILES // dilation)
    for start in range(0, num_tiles, num_at_once):
        transformed = to_products @ tiles[start : start + num_at_once]
        transformed = transformed.transpose(0, 1).reshape(num_products, -1, conv.in_channels)
        products = torch.bmm(transformed, conv.weight).view(num_products, -1, made.shape[2])
        made[start : start + num_at_once] = to_outputs @ products.transpose(0, 1)
    made = made.view(-1, conv.out_channels)[:num_samples]
    return made.add_(conv.bias).t()[None]
