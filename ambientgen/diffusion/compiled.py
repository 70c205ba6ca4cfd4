"""Calling the UNet: as it is, compiled, or replayed as a CUDA graph, with the same answer.

On a GPU one take's pass is about two thousand small kernels, and launching them from Python costs more than running
them. So each shape's launches are recorded once as a CUDA graph, and `torch.compile` fuses them in the background, one
compilation for each window length with the number of rows and tokens left open: 200 requests of any mixture compile
nothing new. Until it is ready, and wherever either fails, the plain call serves.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from ambientgen.diffusion.devices import is_out_of_memory
from ambientgen.diffusion.sampling import Rows

log = logging.getLogger(__name__)

#: A recorded graph has one shape for good, so tokens are padded to a multiple of this, rows to a power of two.
_GRAPH_TOKENS = 32


def plain_unet(unet: Any) -> Callable[[Rows], Any]:
    """The UNet as a function of `Rows`, in its own precision."""

    def call(rows: Rows) -> Any:
        return unet(
            rows.sample.to(unet.dtype),
            rows.timesteps,
            encoder_hidden_states=rows.generated,
            encoder_hidden_states_1=rows.text,
            encoder_attention_mask_1=rows.mask,
            return_dict=False,
        )[0]

    return call


class CompiledUNet:
    """The UNet as a function of `Rows`, as fast as the device allows.

    Args:
        unet: an `AudioLDM2UNet2DConditionModel` in its final place and precision.
        backend: of `torch.compile`, such as "inductor"; None: not compiled.
        graphs: record CUDA graphs.
    """

    def __init__(self, unet: Any, *, backend: str | None, graphs: bool) -> None:
        self.num_compilations = 0
        self._plain = plain_unet(unet)
        self._compiled = None if backend is None else self._compile(unet, backend)
        self._ready: set[int] = set()
        self._graphs: dict[tuple[object, ...], _Graph] | None = {} if graphs else None
        self._graph_pool: Any = None
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def ready_windows(self) -> frozenset[int]:
        """The window lengths that are served compiled."""
        return frozenset(self._ready)

    def warm_up(self, examples: Sequence[Rows]) -> None:
        """Compile for each example's window length, in a thread of its own, while calls go on.

        Args:
            examples: rows as they will be, in the order of their urgency; at least two rows and two tokens each.
        """
        if self._compiled is not None:
            self._thread = threading.Thread(
                target=self._warm_up, args=(list(examples),), name="ambient-compile", daemon=True
            )
            self._thread.start()

    def close(self) -> None:
        """Stop warming up after the shape that is being compiled, and let go of all recordings."""
        self._stopped.set()
        if self._graphs is not None:
            self._graphs = {}

    def wait(self, timeout_s: float) -> bool:
        """Wait for the warm-up; True if it has ended."""
        if self._thread is not None:
            self._thread.join(timeout_s)
        return self._thread is None or not self._thread.is_alive()

    def __call__(self, rows: Rows) -> Any:
        """The UNet's answer, shape of `rows.sample`."""
        window = rows.sample.shape[2]
        # The compiled code is for two rows or more; a single row (no guidance) is rare.
        compiled = self._compiled if window in self._ready and len(rows) > 1 else None
        function = compiled or self._plain
        if self._graphs is None:
            return function(rows)
        padded = _pad_for_graph(rows)
        key = (len(padded), window, padded.text.shape[1], compiled is not None)
        try:
            graph = self._graphs.get(key)
            if graph is None:
                graph = self._graphs[key] = _Graph(function, padded, self._pool())
            return graph(padded)[: len(rows)]
        except RuntimeError as error:
            if is_out_of_memory(error):
                raise
            log.warning("CUDA graphs do not work here, so the UNet runs without them", exc_info=error)
            self._graphs = None
            return function(rows)

    def _pool(self) -> Any:
        """One memory for all recordings: they never run at the same time, and each one's answer is copied at once."""
        if self._graph_pool is None:
            import torch

            self._graph_pool = torch.cuda.graph_pool_handle()
        return self._graph_pool

    def _compile(self, unet: Any, backend: str) -> Callable[[Rows], Any]:
        import torch
        from torch._dynamo import lookup_backend

        compiler = lookup_backend(backend)

        def counting(graph: Any, inputs: Any) -> Any:
            self.num_compilations += 1
            return compiler(graph, inputs)

        forward = torch.compile(unet.forward, backend=counting, fullgraph=True)

        def call(rows: Rows) -> Any:
            inputs = (rows.sample.to(unet.dtype), rows.timesteps, rows.generated, rows.text, rows.mask)
            for tensor in inputs:
                torch._dynamo.mark_dynamic(tensor, 0)
            for tensor in inputs[3:]:
                torch._dynamo.mark_dynamic(tensor, 1)
            torch._dynamo.mark_static(inputs[0], 2)
            sample, timesteps, generated, text, mask = inputs
            return forward(
                sample,
                timesteps,
                encoder_hidden_states=generated,
                encoder_hidden_states_1=text,
                encoder_attention_mask_1=mask,
                return_dict=False,
            )[0]

        return call

    def _warm_up(self, examples: list[Rows]) -> None:
        import torch

        assert self._compiled is not None
        for rows in examples:
            if self._stopped.is_set():
                return
            window, started_at_s = rows.sample.shape[2], time.perf_counter()
            try:
                with torch.no_grad():
                    self._compiled(rows)
            except Exception as error:
                log.warning("the UNet cannot be compiled here, so it runs uncompiled", exc_info=error)
                return
            self._ready.add(window)
            log.info("UNet compiled for windows of %d frames in %.1f s", window, time.perf_counter() - started_at_s)


class _Graph:
    """One shape's kernel launches, recorded once and replayed."""

    def __init__(self, function: Callable[[Rows], Any], rows: Rows, pool: Any) -> None:
        import torch

        self._inputs = Rows(*(tensor.clone() for tensor in _tensors(rows)))
        # Outside of a recording first: libraries set themselves up at their first call.
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            function(self._inputs)
        torch.cuda.current_stream().wait_stream(stream)
        self._graph = torch.cuda.CUDAGraph()
        # Another thread may be compiling, which this recording must not forbid it.
        with torch.cuda.graph(self._graph, pool=pool, capture_error_mode="thread_local"):
            self._answer = function(self._inputs)

    def __call__(self, rows: Rows) -> Any:
        for own, given in zip(_tensors(self._inputs), _tensors(rows), strict=True):
            own.copy_(given)
        self._graph.replay()
        return self._answer.clone()


def _tensors(rows: Rows) -> tuple[Any, ...]:
    return rows.sample, rows.timesteps, rows.generated, rows.text, rows.mask


def _pad_for_graph(rows: Rows) -> Rows:
    """The rows with some more behind them whose answers nobody reads, and with masked tokens."""
    from torch.nn.functional import pad

    more_rows = (1 << (len(rows) - 1).bit_length()) - len(rows)
    more_tokens = -rows.text.shape[1] % _GRAPH_TOKENS
    padded = (pad(tensor, (0, 0) * (tensor.dim() - 1) + (0, more_rows)) for tensor in _tensors(rows))
    sample, timesteps, generated, text, mask = padded
    return Rows(sample, timesteps, generated, pad(text, (0, 0, 0, more_tokens)), pad(mask, (0, more_tokens)))
