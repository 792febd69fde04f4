"""Steps of a network as compiled functions and CUDA graphs.

On a GPU the steps of SAM 2 are bound by the launches of their many small kernels. A CUDA graph launches all kernels of
a step at once. It is captured for one combination of shapes and settings; its kernels and results are those of the step
without it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

Step = Callable[..., tuple[Tensor, ...]]
"""A function of a module, tensors, None, and numbers."""

CAPTURE_AT = 3
"""A combination of shapes is captured when it occurs for the third time."""

MAX_GRAPHS = 64
"""Graphs of one module; further combinations run without."""


@dataclass
class _Graph:
    graph: torch.cuda.CUDAGraph
    inputs: list[Tensor]
    outputs: tuple[Tensor, ...]

    def __call__(self, tensors: list[Tensor]) -> tuple[Tensor, ...]:
        for static, tensor in zip(self.inputs, tensors, strict=True):
            static.copy_(tensor)
        self.graph.replay()
        return tuple(output.clone() for output in self.outputs)


@dataclass
class _Graphs:
    """The graphs of one module, which share their memory."""

    pool: Any
    captured: dict[tuple[Any, ...], _Graph] = field(default_factory=dict)
    seen: dict[tuple[Any, ...], int] = field(default_factory=dict)


_graphs: WeakKeyDictionary[nn.Module, _Graphs] = WeakKeyDictionary()
_compiled: dict[Step, Step] = {}
_switched_off = 0  # number of contexts of ``without_graphs``


@contextmanager
def without_graphs() -> Iterator[None]:
    """Run all steps without CUDA graphs."""
    global _switched_off
    _switched_off += 1
    try:
        yield
    finally:
        _switched_off -= 1


def compiled(step: Step) -> Step:
    """Compile a step as one graph, whose sizes become symbols where they vary; the same function on every call."""
    if step not in _compiled:
        _compiled[step] = torch.compile(step, fullgraph=True)
    return _compiled[step]


def run(module: nn.Module, step: Step, *arguments: Any, compile: bool = False) -> tuple[Tensor, ...]:
    """Run a step of a network: compiled where asked for, as a CUDA graph on a GPU without gradients.

    Args:
        module: whose parameters the step reads; in evaluation mode where a graph is to be used.
        step: called with the module and the arguments. It must not synchronise, nor read memory of the host.
        arguments: tensors on one device, None, or numbers, on which the result may depend.
        compile: compile the step by ``torch.compile``.

    Returns:
        New tensors.
    """
    function = compiled(step) if compile else step
    tensors = [argument for argument in arguments if isinstance(argument, Tensor)]
    if not _capturable(module, tensors):
        return function(module, *arguments)
    graphs = _graphs.setdefault(module, _Graphs(torch.cuda.graph_pool_handle()))
    key = _key(module, step, arguments, compile)
    if key not in graphs.captured:
        graphs.seen[key] = graphs.seen.get(key, 0) + 1
        if graphs.seen[key] < CAPTURE_AT or len(graphs.captured) >= MAX_GRAPHS:
            return function(module, *arguments)
        graphs.captured[key] = _capture(graphs.pool, module, function, arguments)
    return graphs.captured[key](tensors)


def _capturable(module: nn.Module, tensors: list[Tensor]) -> bool:
    return (
        not _switched_off
        and not module.training
        and not torch.is_grad_enabled()
        and not torch.compiler.is_compiling()
        and all(tensor.device.type == "cuda" for tensor in tensors)
        and not torch.cuda.is_current_stream_capturing()
    )


def _key(module: nn.Module, step: Step, arguments: tuple[Any, ...], compile: bool) -> tuple[Any, ...]:
    """Return all that a graph depends on but the values of its tensors."""
    weights = next(module.parameters())  # moved or converted weights lie elsewhere
    autocast = torch.get_autocast_dtype("cuda") if torch.is_autocast_enabled("cuda") else None
    shapes = tuple((a.shape, a.dtype, a.device) if isinstance(a, Tensor) else a for a in arguments)
    settings = (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32)
    return (
        step,
        compile,
        weights.data_ptr(),
        weights.dtype,
        autocast,
        settings,
        torch.is_inference_mode_enabled(),
        shapes,
    )


def _capture(pool: Any, module: nn.Module, function: Step, arguments: tuple[Any, ...]) -> _Graph:
    """Capture a graph, with autocast's casts of weights: its cache would not outlive the caller's context."""
    static = [a.clone(memory_format=torch.contiguous_format) if isinstance(a, Tensor) else a for a in arguments]
    cached = torch.is_autocast_cache_enabled()
    torch.set_autocast_cache_enabled(False)
    try:
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            function(module, *static)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=pool):
            outputs = function(module, *static)
    finally:
        torch.set_autocast_cache_enabled(cached)
    return _Graph(graph, [a for a in static if isinstance(a, Tensor)], outputs)
