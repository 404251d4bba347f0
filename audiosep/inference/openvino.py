"""Mask networks on OpenVINO, which on CPUs computes the same masks faster than torch's layers one by one.

Measured by `python -m research.engines`. The transforms, and everything around the network, stay in torch.
"""

from __future__ import annotations

import importlib
import threading
import warnings
from collections.abc import Callable
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from audiosep.errors import DependencyError, ModelError, install_extra
from audiosep.models.mask_graph import GraphModel, MaskGraph
from audiosep.models.separation_model import SeparationModel

PRECISIONS = {"fp32": "f32", "bf16": "bf16"}

Compiled = Callable[..., dict[str, Tensor]]

_LOCK = threading.RLock()
_CORES: list[Any] = []


class OpenVinoModel(GraphModel):
    """A mask network whose layers run in OpenVINO, on the CPU.

    Args:
        model: the network, with its weights.
        precision: of its layers, "fp32" or "bf16".

    Raises:
        DependencyError: openvino is not installed.
        ModelError: a network that does not compute masks.
    """

    def __init__(self, model: SeparationModel, precision: str) -> None:
        super().__init__()
        graphs = {False: MaskGraph(model.eval())}
        network = graphs[False].model
        self.take_description(network)
        if self.stem_names:
            graphs[True] = MaskGraph(network, stems=True)
        self._precision = precision
        self._graphs = graphs
        self._compiled: dict[bool, Compiled] = {}
        _package()

    def quick(self) -> SeparationModel:
        """See `SeparationModel.quick`."""
        return self if self._quicker is None else self._quicker

    @cached_property
    def _quicker(self) -> OpenVinoModel | None:
        """The quick form, kept with what it has compiled; None where that is this model itself."""
        model = self._graphs[False].model
        once = model.quick()
        return None if once is model else OpenVinoModel(once, self._precision)

    def computed(self, stems: bool, power: Tensor, *queries: Tensor) -> dict[str, Tensor]:
        """See `GraphModel.computed`; compiles the network at first."""
        with _LOCK:
            if stems not in self._compiled:
                self._compiled[stems] = compile_graph(self._graphs[stems], self._precision)
        return self._compiled[stems](power, *queries)


def compile_graph(graph: MaskGraph, precision: str) -> Compiled:
    """The graph as a function of tensors that gives its outputs by name.

    It takes any number of frames, and any number of queries where `graph.any_queries`.

    Raises:
        DependencyError: openvino is not installed.
        ModelError: it cannot compile the network for this machine.
    """
    _package()
    example = graph.eval().example()
    with torch.inference_mode(), torch.autocast("cpu", enabled=False), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracer warns of itself and of shapes that are constant
        converted = _converted(torch.jit.trace(graph, example, check_trace=False), example)
    hints = {
        "INFERENCE_PRECISION_HINT": PRECISIONS[precision],
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "PERFORMANCE_HINT": "LATENCY",
    }
    try:
        compiled = _core().compile_model(converted, "CPU", hints)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[0]
        raise ModelError(f"OpenVINO cannot compile this network ({reason}); use engine='torch'") from error

    own = threading.local()

    def run(*inputs: Tensor) -> dict[str, Tensor]:
        if not hasattr(own, "request"):  # one serves one thread at a time
            own.request = compiled.create_infer_request()
        outputs = own.request.infer([x.float().contiguous().numpy() for x in inputs])
        return {name: torch.from_numpy(outputs[i].copy()) for i, name in enumerate(graph.outputs)}

    return run


def _converted(traced: Any, example: tuple[Tensor, ...]) -> Any:
    """A traced network as OpenVINO's; `openvino.convert_model` would compile it once more on the way, for seconds."""
    frontend = _package("openvino.frontend").FrontEndManager().load_by_framework("pytorch")
    decoder = _package("openvino.frontend.pytorch.ts_decoder").TorchScriptPythonDecoder(traced, example_input=example)
    return frontend.convert(frontend.load(decoder))


def _core() -> Any:
    """One core for the process, never released.

    Its CPU plugin installs a stack for signal handlers, and when it is released, the one that it found. If the first
    of two cores is released first, the second brings back a stack that is gone, and the next signal, such as Ctrl-C,
    is a crash.
    """
    with _LOCK:
        if not _CORES:
            _CORES.append(_package().Core())
    return _CORES[0]


def _package(name: str = "openvino") -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise DependencyError(f"the engine 'openvino' needs its package: {install_extra('openvino')}") from error
