"""Calling the UNet: as it is, compiled, or replayed as a CUDA graph, with the same answer.

On a GPU one take's pass is about two thousand small kernels, and launching them from Python costs more than running
them. So each shape's launches are recorded once as a CUDA graph, and `torch.compile` fuses them in the background, one
compilation for each window length with the number of rows and tokens left open, so that no mixture of requests compiles
anything new. Until it is ready, and wherever either fails, the plain call serves.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

from ambientgen.diffusion.devices import is_out_of_memory, let_go, use_device
from ambientgen.diffusion.sampling import Rows

log = logging.getLogger(__name__)

#: The name of the thread that compiles.
COMPILE_THREAD = "ambient-compile"
#: A recording has one shape for good, so tokens are padded to a multiple of this, and rows to the next of these: 2 is a
#: take of one window, 6 the three candidates of `high`, 14 a minute.
_GRAPH_TOKENS = 32
_GRAPH_ROWS = (*range(2, 17, 2), *range(20, 33, 4), *range(40, 65, 8))
#: The least recently recorded goes first.
_MAX_GRAPHS = 48


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

    Attributes:
        num_compilations: how often the backend was asked, one for each window length if all is well.
    """

    def __init__(self, unet: Any, *, backend: str | None, graphs: bool) -> None:
        self.num_compilations = 0
        self._plain = plain_unet(unet)
        self._compiled = None if backend is None else self._compile(unet, backend)
        self._ready: set[int] = set()
        self._records = graphs
        self._graphs: OrderedDict[tuple[object, ...], _Graph] = OrderedDict()
        self._graph_pool: Any = None
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def ready_windows(self) -> frozenset[int]:
        """The window lengths that are served compiled."""
        return frozenset(self._ready)

    def warm_up(self, examples: Sequence[Rows]) -> None:
        """Compile for each example's window length, in a thread of its own, while calls go on.

        A compilation cannot be stopped: a process that ends during one must not wait for its threads to be torn down.

        Args:
            examples: rows as they will be, in the order of their urgency; at least two rows and two tokens each.
        """
        if self._compiled is not None and self._thread is None:
            self._thread = threading.Thread(
                target=self._warm_up, args=(list(examples),), name=COMPILE_THREAD, daemon=True
            )
            self._thread.start()

    def close(self) -> None:
        """Stop warming up after the shape that is being compiled, and let go of all recordings."""
        self._stopped.set()
        self.forget_recordings()

    def forget_recordings(self) -> bool:
        """Give back the memory of all recordings; False if there are none."""
        had_some = bool(self._graphs)
        self._graphs.clear()
        self._graph_pool = None  # a pool must not outlive the last of its graphs
        return had_some

    def wait(self, timeout_s: float) -> bool:
        """Wait for the warm-up; True if it has ended."""
        if self._thread is not None:
            self._thread.join(timeout_s)
        return self._thread is None or not self._thread.is_alive()

    def __call__(self, rows: Rows) -> Any:
        """The UNet's answer, shape of `rows.sample`."""
        # The compiled code is for two rows or more; a single row (no guidance) is rare.
        compiled = self._compiled if rows.sample.shape[2] in self._ready and len(rows) > 1 else None
        if compiled is not None:
            try:
                return self._recorded(compiled, rows, is_compiled=True)
            except Exception as error:
                if is_out_of_memory(error):
                    raise
                let_go(error)
                log.warning("the compiled UNet fails, so it runs uncompiled", exc_info=error)
                self._compiled = None
                self._ready.clear()
        return self._recorded(self._plain, rows, is_compiled=False)

    def _recorded(self, function: Callable[[Rows], Any], rows: Rows, *, is_compiled: bool) -> Any:
        # While another thread works on the GPU, as the warm-up does, nothing can be recorded.
        if not self._records or not self.wait(0):
            return function(rows)
        padded = _pad_for_graph(rows)
        key = (len(padded), padded.sample.shape[2], padded.text.shape[1], is_compiled)
        try:
            graph = self._graphs.get(key) or self._record(key, function, padded)
            return graph(padded)[: len(rows)]
        except Exception as error:
            if is_out_of_memory(error):
                raise
            let_go(error)
            log.warning("CUDA graphs do not work here, so the UNet runs without them", exc_info=error)
            self._records = False
            self.forget_recordings()
        return function(rows)

    def _record(self, key: tuple[object, ...], function: Callable[[Rows], Any], rows: Rows) -> _Graph:
        import torch

        if self._graph_pool is None:
            # One memory for all recordings: they never run at the same time, and each one's answer is copied at once.
            self._graph_pool = torch.cuda.graph_pool_handle()
        self._graphs[key] = graph = _Graph(function, rows, self._graph_pool)
        if len(self._graphs) > _MAX_GRAPHS:
            self._graphs.popitem(last=False)
        return graph

    def _compile(self, unet: Any, backend: str) -> Callable[[Rows], Any]:
        import torch
        from torch._dynamo import lookup_backend

        compiler = lookup_backend(backend)

        def counting(graph: Any, inputs: Any) -> Any:
            self.num_compilations += 1
            if threading.current_thread() is not self._thread:
                log.warning("the UNet is compiled while a take waits: a shape was not foreseen")
            return compiler(graph, inputs)

        # Isolated: a second engine, or this one loaded again, would fill up the room for compiled shapes otherwise.
        forward = torch.compile(unet.forward, backend=counting, fullgraph=True, isolate_recompiles=True)

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
            use_device(rows.sample.device)
            if self._stopped.is_set():
                return
            window, started_at_s = rows.sample.shape[2], time.perf_counter()
            try:
                with torch.no_grad():
                    self._compiled(_pad_for_graph(rows) if self._records else rows)
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
        own_stream, stream = torch.cuda.current_stream(), torch.cuda.Stream()
        stream.wait_stream(own_stream)
        with torch.cuda.stream(stream):
            function(self._inputs)
        own_stream.wait_stream(stream)
        self._graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(self._graph, pool=pool):
                self._answer = function(self._inputs)
        finally:
            torch.cuda.set_stream(own_stream)  # a recording that fails leaves its own behind

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

    more_rows = next((number for number in _GRAPH_ROWS if number >= len(rows)), len(rows)) - len(rows)
    more_tokens = -rows.text.shape[1] % _GRAPH_TOKENS
    padded = (pad(tensor, (0, 0) * (tensor.dim() - 1) + (0, more_rows)) for tensor in _tensors(rows))
    sample, timesteps, generated, text, mask = padded
    return Rows(sample, timesteps, generated, pad(text, (0, 0, 0, more_tokens)), pad(mask, (0, more_tokens)))
