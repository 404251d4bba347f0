"""Checkpoints as others publish them, tiny and with random weights: what `convert` reads in the tests."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

GOLDEN = Path(__file__).parent / "golden"
sys.path.insert(0, str(GOLDEN))
import seeded  # noqa: E402
import tokenizer  # noqa: E402

# What the modules compute themselves: in published files, but not drawn by formula.
COMPUTED = (
    "spectrogram_extractor",
    "logmel_extractor",
    "attn_mask",
    "relative_position_index",
    "base.stft.",
    "base.istft.",
)
WIDTHS, DIMENSION, N_FFT = (4, 8, 8), 16, 1024


def figures(name: str) -> dict[str, Any]:
    """A file of golden figures."""
    return json.loads((GOLDEN / f"{name}.json").read_text())


def drawn(shapes: dict[str, list[int]], seed: int) -> dict[str, Tensor]:
    """A state with weights by formula, and zeros for what published modules compute themselves."""
    learnt = {key: tuple(shape) for key, shape in shapes.items() if not any(part in key for part in COMPUTED)}
    state = {key: torch.from_numpy(value) for key, value in seeded.state(learnt, seed).items()}
    return state | {key: torch.zeros(shape) for key, shape in shapes.items() if key not in learnt}


def separator_state() -> dict[str, Tensor]:
    """A small ResUNet30 under its published names."""
    shapes = dict(_norm("base.bn0", N_FFT // 2 + 1))
    shapes |= {"base.pre_conv.weight": [WIDTHS[0], 1, 1, 1], "base.pre_conv.bias": [WIDTHS[0]]}
    shapes |= {"base.after_conv.weight": [3, WIDTHS[0], 1, 1], "base.after_conv.bias": [3]}
    for i, (a, b) in enumerate(zip((WIDTHS[0], *WIDTHS), WIDTHS, strict=False), start=1):
        shapes |= _block(f"encoder_block{i}", "conv_block1", a, b)
    shapes |= _block("conv_block7a", "conv_block1", WIDTHS[-1], WIDTHS[-1])
    for i, (a, b) in enumerate(zip((WIDTHS[-1], *WIDTHS[::-1]), WIDTHS[::-1], strict=False), start=1):
        shapes |= _block(f"decoder_block{i}", "conv_block2", 2 * b, b)
        shapes[f"base.decoder_block{i}.conv1.weight"] = [a, b, 1 if i == 1 else 2, 2]
        for n in (1, 2):
            shapes |= _norm(f"base.decoder_block{i}.bn{n}", a)
            shapes |= {f"film.decoder_block{i}->beta{n}.{leaf}": s for leaf, s in _linear(a, DIMENSION)}
    shapes |= {"base.stft.conv_real.weight": [N_FFT // 2 + 1, 1, N_FFT], "base.istft.ola_window": [N_FFT]}
    return drawn(shapes, 1)


def clap_state(vocabulary: int | None = None) -> dict[str, Tensor]:
    """A small CLAP under LAION's names."""
    vocabulary = vocabulary or len(tokenizer.vocabulary())
    shapes: dict[str, list[int]] = {"logit_scale_a": [], "logit_scale_t": []}
    shapes |= dict(_text("text_branch.", vocabulary, 64)) | dict(_audio("audio_branch.", 8))
    for tower, hidden in (("text", 64), ("audio", 16)):
        for layer, inputs in (("projection.0", hidden), ("projection.2", DIMENSION), ("transform.sequential.0", 16)):
            shapes |= {f"{tower}_{layer}.{leaf}": s for leaf, s in _linear(DIMENSION, inputs)}
    state = drawn(shapes, 2)
    return state | {"text_branch.embeddings.position_ids": torch.arange(40)[None]}


def lightning(separator: dict[str, Tensor], clap: dict[str, Tensor], path: Path) -> Path:
    """A file as Lightning's trainer leaves it, NumPy numbers and optimiser included."""
    state = {f"ss_model.{key}": value for key, value in separator.items()}
    state |= {f"query_encoder.model.{key}": value for key, value in clap.items()}
    optimiser = {"state": {0: {"step": torch.tensor(1.0), "exp_avg": torch.zeros(3)}}, "param_groups": [{"lr": 1e-3}]}
    progress = {"total": {"ready": 1, "completed": 1}, "current": {"ready": 1, "completed": 1}}
    torch.save(
        {
            "epoch": 3,
            "global_step": np.int64(4000000),
            "pytorch-lightning_version": "2.0.0",
            "state_dict": state,
            "loops": {"fit_loop": {"state_dict": {}, "epoch_progress": progress}},
            "callbacks": {"ModelCheckpoint": {"best_model_score": None, "current_score": np.float64(0.5)}},
            "optimizer_states": [optimiser],
            "lr_schedulers": [{"base_lrs": [1e-3], "last_epoch": np.float32(2.0)}],
        },
        path,
    )
    return path


def laion(clap: dict[str, Tensor], path: Path) -> Path:
    """A file as LAION's trainer leaves it."""
    torch.save({"epoch": 15, "name": "small", "state_dict": {f"module.{k}": v for k, v in clap.items()}}, path)
    return path


def _linear(outputs: int, inputs: int) -> list[tuple[str, list[int]]]:
    return [("weight", [outputs, inputs]), ("bias", [outputs])]


def _norm(name: str, channels: int) -> Iterator[tuple[str, list[int]]]:
    for leaf in ("weight", "bias", "running_mean", "running_var"):
        yield f"{name}.{leaf}", [channels]
    yield f"{name}.num_batches_tracked", []


def _block(place: str, name: str, inputs: int, outputs: int) -> dict[str, list[int]]:
    at = f"base.{place}.{name}"
    shapes = {f"{at}.conv1.weight": [outputs, inputs, 3, 3], f"{at}.conv2.weight": [outputs, outputs, 3, 3]}
    if inputs != outputs:
        shapes |= {f"{at}.shortcut.weight": [outputs, inputs, 1, 1], f"{at}.shortcut.bias": [outputs]}
    for n, channels in ((1, inputs), (2, outputs)):
        shapes |= dict(_norm(f"{at}.bn{n}", channels))
        shapes |= {f"film.{place}->{name}->beta{n}.{leaf}": s for leaf, s in _linear(channels, DIMENSION)}
    return shapes


def _text(at: str, vocabulary: int, hidden: int) -> Iterator[tuple[str, list[int]]]:
    for name, rows in (("word", vocabulary), ("position", 40), ("token_type", 1)):
        yield f"{at}embeddings.{name}_embeddings.weight", [rows, hidden]
    layer = f"{at}encoder.layer.0."
    dense = {f"{layer}attention.self.{name}": (hidden, hidden) for name in ("query", "key", "value")}
    dense |= {f"{layer}attention.output.dense": (hidden, hidden), f"{at}pooler.dense": (hidden, hidden)}
    dense |= {f"{layer}intermediate.dense": (32, hidden), f"{layer}output.dense": (hidden, 32)}
    for name, (outputs, inputs) in dense.items():
        yield from ((f"{name}.{leaf}", shape) for leaf, shape in _linear(outputs, inputs))
    for name in (f"{at}embeddings", f"{layer}attention.output", f"{layer}output"):
        yield from ((f"{name}.LayerNorm.{leaf}", [hidden]) for leaf in ("weight", "bias"))


def _audio(at: str, width: int) -> Iterator[tuple[str, list[int]]]:
    yield from _norm(f"{at}bn0", 64)
    yield from ((f"{at}patch_embed.proj.{leaf}", s) for leaf, s in (("weight", [width, 1, 4, 4]), ("bias", [width])))
    yield from ((f"{at}head.{leaf}", s) for leaf, s in _linear(5, 5))
    yield f"{at}logmel_extractor.melW", [513, 64]
    norms = {f"{at}patch_embed.norm": width, f"{at}norm": 2 * width, f"{at}layers.0.downsample.norm": 4 * width}
    yield f"{at}layers.0.downsample.reduction.weight", [2 * width, 4 * width]
    for i, size in enumerate((width, 2 * width)):
        block = f"{at}layers.{i}.blocks.0."
        norms |= {f"{block}norm1": size, f"{block}norm2": size}
        dense = {"attn.qkv": (3 * size, size), "attn.proj": (size, size), "mlp.fc1": (2 * size, size)}
        for name, (outputs, inputs) in (dense | {"mlp.fc2": (size, 2 * size)}).items():
            yield from ((f"{block}{name}.{leaf}", s) for leaf, s in _linear(outputs, inputs))
        yield f"{block}attn.relative_position_bias_table", [225, 2]
        yield f"{block}attn.relative_position_index", [64, 64]
    for name, channels in norms.items():
        yield from ((f"{name}.{leaf}", [channels]) for leaf in ("weight", "bias"))
