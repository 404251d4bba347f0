"""Networks on OpenVINO, which on CPUs computes the same masks faster than torch's layers one by one.

Measured by `python -m research.engines`. The transforms, and everything around the network, stay in torch.
"""

from __future__ import annotations

import importlib
import threading
import warnings
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from audiosep.errors import DependencyError, ModelError
from audiosep.models.base import Estimate, SeparationModel
from audiosep.models.hybrid import QUERIES_TOGETHER
from audiosep.models.mask_network import TRACED_FRAMES, InOrder, MaskNetwork, Outside, network_of
from audiosep.models.stft import istft, mean_power, stft

PRECISIONS = {"fp32": "f32", "bf16": "bf16"}

Compiled = Callable[..., dict[str, Tensor]]

_ONE = threading.RLock()  # one thread at a time makes what is made once
_CORES: list[Any] = []


class OpenVinoModel(SeparationModel):
    """A hybrid or resunet30 network whose layers run in OpenVINO, on the CPU.

    Args:
        model: the network, with its weights. precision: "fp32" or "bf16".

    Raises:
        DependencyError: openvino is not installed.
        ModelError: a family of networks that cannot be handed over.
    """

    engine = "openvino"

    def __init__(self, model: SeparationModel, precision: str) -> None:
        super().__init__()
        self.config = model.config
        self.sample_rate, self.hop, self.dimension = model.sample_rate, model.hop, model.dimension
        self.capabilities, self.stem_names = model.capabilities, model.stem_names
        self.window, self.context, self.past = model.window, model.context, model.past
        self.alignment = model.alignment
        self._precision = precision
        self._masks = {False: network_of(model.eval())}
        if self.stem_names:
            self._masks[True] = network_of(model, stems=True)
        self._compiled: dict[bool, Compiled] = {}
        _package()

    def forward(self, mix: Tensor, embeddings: Tensor, negatives: Tensor | None = None) -> Estimate:
        """See `SeparationModel.forward`."""
        masks = self._masks[False]
        asked = (embeddings, torch.zeros_like(embeddings) if negatives is None else negatives)
        together = QUERIES_TOGETHER["cpu"] if masks.free else 1
        groups = zip(*(x.split(together) for x in asked), strict=True)
        return self._estimate(masks, mix, [(self._run(False), group) for group in groups])

    def stems(self, mix: Tensor) -> Estimate:
        """See `SeparationModel.stems`."""
        if not self.stem_names:
            raise ModelError("this model has no fixed stems; load one that has, such as 'mini'")
        return self._estimate(self._masks[True], mix, [(self._run(True), ())])

    def quick(self) -> SeparationModel:
        """See `SeparationModel.quick`."""
        model = self._masks[False].model
        once = model.quick()
        return self if once is model else OpenVinoModel(once, self._precision)

    def _run(self, stems: bool) -> Compiled:
        """The compiled network; compiled when it is first wanted."""
        with _ONE:
            if stems not in self._compiled:
                self._compiled[stems] = compile_network(self._masks[stems], self._precision)
        return self._compiled[stems]

    def _estimate(self, masks: MaskNetwork, mix: Tensor, passes: list[tuple[Compiled, tuple[Tensor, ...]]]) -> Estimate:
        samples, shortest = mix.shape[-1], masks.n_fft // 2 + 1
        if masks.pad == "reflect" and samples < shortest:  # too short to be continued by reflection
            mix = F.pad(mix, (0, shortest - samples))
        spectra = stft(mix.float(), masks.n_fft, masks.hop, pad_mode=masks.pad)
        frames = samples // masks.hop + 1
        waveforms, tops, scores = [], [], []
        for spectrum in spectra:
            targets: list[Tensor] = []
            said: dict[str, list[Tensor]] = {"top": [], "presence": []}
            for run, asked in passes:
                answer = run(mean_power(spectrum), *asked)
                for k, mask in enumerate(answer["mask"]):
                    turned = spectrum * mask
                    if "rotation" in answer:
                        turned = turned * torch.complex(*answer["rotation"][k])
                    targets.append(istft(turned, masks.n_fft, masks.hop, mix.shape[-1])[..., :samples])
                for name, values in said.items():
                    values.extend([answer[name]] if name in answer else [])
            waveforms.append(torch.stack(targets))
            tops.append(torch.cat(said["top"])[:, :frames])
            scores += [torch.cat(said["presence"])] if said["presence"] else []
        return Estimate(torch.stack(waveforms), torch.stack(tops), torch.stack(scores) if scores else None)


def compile_network(masks: MaskNetwork, precision: str) -> Compiled:
    """A function from power (bins, frames), and embeddings and negatives (queries, dimension), to named outputs.

    Any number of frames, and of queries where `masks.free`.

    Raises:
        DependencyError: openvino is not installed.
        ModelError: it cannot compile the network for this machine.
    """
    _package()
    network, count = Outside(masks).eval(), 2 if masks.free else 1
    example = (torch.ones(masks.bins, TRACED_FRAMES), *(torch.ones(count, masks.model.dimension) for _ in masks.names))
    with torch.inference_mode(), torch.autocast("cpu", enabled=False), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracer remarks on itself, and on shapes that are constant for a network
        names = list(network(*example))
        converted = _converted(torch.jit.trace(InOrder(network).eval(), example, check_trace=False), example)
    hints = {
        "INFERENCE_PRECISION_HINT": PRECISIONS[precision],
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "PERFORMANCE_HINT": "LATENCY",
    }
    try:
        compiled = _core().compile_model(converted, "CPU", hints)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[0]
        raise ModelError(f"OpenVINO cannot compile this network ({reason}); use device='cpu'") from error

    def run(*inputs: Tensor) -> dict[str, Tensor]:
        answer = compiled([x.float().contiguous().numpy() for x in inputs])
        return {name: torch.from_numpy(answer[i].copy()) for i, name in enumerate(names)}

    return run


def _converted(traced: Any, example: tuple[Tensor, ...]) -> Any:
    """A traced network as OpenVINO's: its `convert_model` also does for seconds what compiling does once more."""
    frontend = _package("openvino.frontend").FrontEndManager().load_by_framework("pytorch")
    decoder = _package("openvino.frontend.pytorch.ts_decoder").TorchScriptPythonDecoder(traced, example_input=example)
    return frontend.convert(frontend.load(decoder))


def _core() -> Any:
    """One for the process, never given back.

    Its CPU plugin puts a stack for signal handlers in place, and when it goes, the one that it found. If the first of
    two goes first, the second brings back a stack that is gone, and the next signal, such as Ctrl-C, is a crash.
    """
    with _ONE:
        if not _CORES:
            _CORES.append(_package().Core())
    return _CORES[0]


def _package(name: str = "openvino") -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise DependencyError("device 'openvino' needs its package: pip install 'audiosep[openvino]'") from error
