"""Networks as ONNX files, for programs that run without torch.

A file holds the query path or the fixed stems of one network, with its transforms inside (waveform in, waveforms out)
or outside (power spectrum in, masks out). Either way the time axis and, where the network allows it, the number of
queries are free. What a program needs to know about the model is in the metadata of the file under `audiosep`, as JSON.
"""

from __future__ import annotations

import importlib
import io
import json
import logging
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from audiosep.atomic import write_bytes
from audiosep.audio.synthetic import tone_and_noise
from audiosep.errors import DependencyError, InputError, ModelError, install_extra
from audiosep.models.families import family_of
from audiosep.models.mask_graph import GraphModel, MaskGraph, WaveformGraph
from audiosep.models.separation_model import SeparationModel
from audiosep.query.query import as_queries
from audiosep.query.resolve import resolve
from audiosep.separator import Queries, Separator

logger = logging.getLogger(__name__)

OPSET = 18
BOUND = 1e-4

Transforms = Literal["outside", "inside"]


@dataclass(frozen=True)
class Exported:
    """An ONNX file.

    Attributes:
        path: the file.
        size: of the file, bytes.
        inputs: name -> shape; sizes that are free are words.
        outputs: name -> shape, as for the inputs.
        deviation: largest difference between the targets of ONNX Runtime and of torch on a test sound, relative to
            the largest sample.
    """

    path: Path
    size: int
    inputs: dict[str, tuple[int | str, ...]]
    outputs: dict[str, tuple[int | str, ...]]
    deviation: float


def export(
    separator: Separator,
    path: str | Path,
    *,
    transforms: Transforms = "outside",
    stems: bool = False,
    queries: Queries = (),
    overwrite: bool = False,
) -> Exported:
    """Write a separator's network as an ONNX file, after comparing it with the network in ONNX Runtime.

    Args:
        separator: on the CPU.
        path: the file to write; it appears whole or not at all.
        transforms: whether the STFT and its inverse are in the file.
        stems: the fixed stems instead of the query path.
        queries: one or several; their embeddings are put into the metadata, so that a program needs no text encoder.
        overwrite: whether an existing file may be replaced.

    Raises:
        InputError: the file exists, the separator is not on the CPU, stems of a specialist are wanted, queries have
            negatives, or an unknown option.
        ModelError: a network that cannot be exported, or whose exported form computes something else.
        DependencyError: onnx or onnxruntime is not installed.
    """
    path = Path(path)
    if transforms not in get_args(Transforms):
        raise InputError(f"transforms must be one of {', '.join(get_args(Transforms))}, got {transforms!r}")
    if path.exists() and not overwrite:
        raise InputError(f"{path} exists already: name another file, or overwrite=True")
    if (separator.device.type, separator.engine) != ("cpu", "torch"):
        raise InputError("networks are exported by torch from the CPU: load the model with device='cpu'")
    if stems and separator.specialist is not None:
        raise InputError(f"its stems are those of {separator.specialist.name}: export the model of the stems itself")
    if stems and not separator.model.stem_names:
        raise ModelError(f"{separator.name} has no fixed stems; load a model that has them, such as 'mini'")
    onnx, runtime = _package("onnx"), _package("onnxruntime")
    graph = MaskGraph(separator.model, stems=stems)
    network = WaveformGraph(graph) if transforms == "inside" else graph
    content = _trace(network.eval(), graph.any_queries, onnx, _metadata(separator, graph, transforms, queries))
    session = runtime.InferenceSession(content, providers=["CPUExecutionProvider"])
    deviation = compare(session, separator.model)
    if not deviation <= BOUND:
        raise ModelError(f"the exported network differs from torch by {deviation:.1e} (at most {BOUND:.0e} is allowed)")
    write_bytes(path, content)
    logger.info("%s: %d bytes, deviation %.1e", path, len(content), deviation)
    return Exported(path, len(content), _shapes(session.get_inputs()), _shapes(session.get_outputs()), deviation)


def compare(session: Any, model: SeparationModel, mixes: Sequence[Tensor] | None = None) -> float:
    """How far an exported network is from its model.

    Args:
        session: of ONNX Runtime, on a file of `export`.
        model: the network it was made of.
        mixes: each (channels, samples) at the model's sample rate; a test sound of two lengths by default.

    Returns:
        The largest difference between their targets, relative to the largest sample of a target.
    """
    about = _about(session)
    if mixes is None:
        sound = torch.from_numpy(tone_and_noise(90 * model.hop, model.sample_rate))
        mixes = [sound, sound[:1, : 37 * model.hop + 11]]
    worst = 0.0
    for number, mix in enumerate(mixes):
        count = 1 + number if about["at_once"] == "any" else 1
        embeddings, negatives = random_queries(count, model.dimension), 0.5 * random_queries(count, model.dimension, 1)
        with torch.inference_mode():
            estimate = model.stems(mix[None]) if about["targets"] else model(mix[None], embeddings, negatives)
            want = estimate.waveforms[0]
            got = run(session, mix, embeddings, negatives)
        worst = max(worst, float((got - want).abs().max() / want.abs().max()))
    return worst


class OnnxModel(GraphModel):
    """An exported network with its transforms outside, in ONNX Runtime.

    Args:
        session: of ONNX Runtime.
    """

    def __init__(self, session: Any) -> None:
        super().__init__()
        about = _about(session)
        self.n_fft, self.hop, self.pad_mode = about["n_fft"], about["hop"], about["pad"]
        self.sample_rate, self.dimension = about["sample_rate"], about["dimension"]
        self.queries_at_once = about["at_once"] == "any"
        self.stem_names = tuple(about["targets"])
        self._session = session
        self._names = [output.name for output in session.get_outputs()]

    def computed(self, stems: bool, power: Tensor, *queries: Tensor) -> dict[str, Tensor]:
        """See `GraphModel.computed`; a file has one of the two graphs."""
        given = [power.contiguous().numpy(), *(query.numpy() for query in queries)]
        inputs = [one.name for one in self._session.get_inputs()]
        values = self._session.run(None, dict(zip(inputs, given, strict=True)))
        return dict(zip(self._names, map(torch.from_numpy, values), strict=True))


def run(session: Any, mix: Tensor, embeddings: Tensor, negatives: Tensor) -> Tensor:
    """Separate a mixture by an exported network.

    Args:
        session: of ONNX Runtime.
        mix: (channels, samples).
        embeddings: (queries, dimension); not used where the targets are stems.
        negatives: (queries, dimension); not used where the targets are stems.

    Returns:
        (queries, channels, samples).
    """
    about = _about(session)
    if about["transforms"] == "inside":
        queries = {} if about["targets"] else {"embeddings": embeddings.numpy(), "negatives": negatives.numpy()}
        return torch.from_numpy(session.run(["targets"], {"mix": mix.numpy(), **queries})[0])
    model = OnnxModel(session)
    return (model.stems(mix[None]) if about["targets"] else model(mix[None], embeddings, negatives)).waveforms[0]


def _about(session: Any) -> dict[str, Any]:
    """What `_metadata` wrote."""
    about: dict[str, Any] = json.loads(session.get_modelmeta().custom_metadata_map["audiosep"])
    return about


def random_queries(count: int, dimension: int, seed: int = 0) -> Tensor:
    """(count, dimension) of unit length."""
    return F.normalize(torch.randn(count, dimension, generator=torch.Generator().manual_seed(seed)), dim=-1)


# ---- the file ------------------------------------------------------------------------------------------------------


def _trace(graph: MaskGraph | WaveformGraph, any_queries: bool, onnx: Any, metadata: dict[str, Any]) -> bytes:
    """The bytes of an ONNX file."""
    axes = {name: _AXES[name] for name in (*graph.inputs, *graph.outputs)}
    if not any_queries:
        axes = {name: {k: axis for k, axis in free.items() if axis != "queries"} for name, free in axes.items()}
    file = io.BytesIO()
    with warnings.catch_warnings(), torch.inference_mode():
        # The tracer warns about itself, and about shapes that are constant for a given network.
        warnings.simplefilter("ignore")
        # The newer exporter reasons about free axes symbolically: 120 s against 1 s for a small network, and its
        # result was off by 1e-4 where this one is exact to 2e-7 (torch 2.11).
        torch.onnx.export(
            graph,
            graph.example(),
            file,  # type: ignore[arg-type]  # the tracer takes file objects too
            dynamo=False,
            opset_version=OPSET,
            input_names=list(graph.inputs),
            output_names=list(graph.outputs),
            dynamic_axes=axes,
        )
    model = onnx.load_model_from_string(file.getvalue())
    onnx.helper.set_model_props(model, {"audiosep": json.dumps(metadata)})
    onnx.checker.check_model(model)
    content: bytes = model.SerializeToString()
    return content


_AXES = {
    "mix": {0: "channels", 1: "samples"},
    "power": {1: "frames"},
    "embeddings": {0: "queries"},
    "negatives": {0: "queries"},
    "mask": {0: "queries", 2: "frames"},
    "rotation": {0: "queries", 3: "frames"},
    "targets": {0: "queries", 1: "channels", 2: "samples"},
    "top": {0: "queries", 1: "frames"},
    "presence": {0: "queries"},
}


def _metadata(separator: Separator, graph: MaskGraph, transforms: Transforms, queries: Queries) -> dict[str, Any]:
    """What a program needs to know; lengths in samples."""
    model = graph.model
    known: dict[str, list[float]] = {}
    if queries:
        if separator.encoder is None or graph.stems:
            raise InputError("only the query path of a model with a query encoder takes queries")
        items = as_queries(queries)
        if any(query.negatives for query in items):
            raise InputError(
                "queries are exported without negatives, which are an input of the file: export what is to be kept out "
                "as a query of its own, and pass its embedding as negative"
            )
        resolved = resolve(items, separator.encoder, prototypes=separator.prototypes, own=separator.own_names(items))
        known = dict(zip(resolved.names, resolved.embeddings.tolist(), strict=True))
    return {
        "format": 1,
        "name": separator.name,
        "family": family_of(model),
        "transforms": transforms,
        "sample_rate": model.sample_rate,
        "n_fft": model.n_fft,
        "hop": model.hop,
        "pad": model.pad_mode,
        "window": model.window,
        "context": model.context,
        "grid": int(np.lcm(model.hop, model.alignment)),
        "dimension": model.dimension,
        "at_once": "any" if graph.any_queries else 1,
        "targets": list(graph.targets),
        "queries": known,
    }


def _shapes(nodes: Sequence[Any]) -> dict[str, tuple[int | str, ...]]:
    return {node.name: tuple(node.shape) for node in nodes}


def _package(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise DependencyError(f"the ONNX export needs {name}: {install_extra('onnx')}") from error
