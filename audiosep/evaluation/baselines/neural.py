"""Published networks, run by their own packages. Weights are read from the user's cache; nothing is downloaded."""

from __future__ import annotations

import importlib
from abc import abstractmethod
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from audiosep.audio import resample
from audiosep.errors import DependencyError, ModelError
from audiosep.evaluation.baselines.base import Array, FixedBaseline
from audiosep.inference.overlap_add import OverlapAdd
from audiosep.inference.windows import Windows

STEMS = ("drums", "bass", "other", "vocals")


class _Network(FixedBaseline):
    """Common to the networks: conversion to their sample rate and channels, and back.

    Attributes:
        rate: sample rate of the network, Hz.
        stereo: whether it takes two channels. Mono, or more than two channels, are then separated one channel at a
            time, given twice. Otherwise every channel is separated on its own.
        outputs: names in the network's order.
    """

    rate: ClassVar[int]
    stereo: ClassVar[bool] = True
    outputs: ClassVar[tuple[str, ...]] = STEMS

    def __init__(self, device: str = "auto") -> None:
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        self.device = torch.device(device)
        self.network = self._load()

    @abstractmethod
    def _load(self) -> Any:
        """The network with its weights, on the device.

        Raises:
            DependencyError: its package is not installed.
            ModelError: its weights are not in the cache.
        """

    @abstractmethod
    def _run(self, x: Tensor) -> Tensor:
        """(batch, channels, samples) -> (batch, outputs, channels, samples)."""

    def parts(self, mix: Array, sample_rate: int) -> dict[str, Array]:
        x = torch.from_numpy(resample(mix, sample_rate, self.rate)).to(self.device)
        paired = self.stereo and len(mix) == 2
        batch = x[None] if paired else x[:, None].expand(-1, 2 if self.stereo else 1, -1)
        with torch.inference_mode():
            y = self._run(batch.contiguous())
        y = y[0] if paired else y.mean(2).transpose(0, 1)  # (outputs, channels, samples)
        estimates = y.float().cpu().numpy()
        parts = {
            name: resample(estimate, self.rate, sample_rate)[:, : mix.shape[-1]]
            for name, estimate in zip(self.outputs, estimates, strict=True)
        }
        if "vocals" in parts:
            parts["accompaniment"] = mix - parts["vocals"]
        return parts


class HybridDemucs(_Network):
    """Hybrid Demucs trained on the training songs of MUSDB18-HQ (A. Defossez, MDX workshop 2021), from torchaudio."""

    name: ClassVar[str] = "hdemucs"
    about: ClassVar[str] = "Hybrid Demucs, MUSDB18-HQ training set (Defossez 2021), torchaudio"
    targets = frozenset({*STEMS, "accompaniment"})
    rate: ClassVar[int] = 44100
    bundle: ClassVar[str] = "HDEMUCS_HIGH_MUSDB"
    weights: ClassVar[str] = "hdemucs_high_musdbhq_only.pt"

    def _load(self) -> nn.Module:
        network: nn.Module = _package("torchaudio.models", "torchaudio").hdemucs_high(sources=list(self.outputs))
        return _with_weights(network, _torchaudio_weights(self.weights, self.bundle)).to(self.device)

    def _run(self, x: Tensor) -> Tensor:
        mono = x.mean(1, keepdim=True)
        mean, scale = mono.mean(-1, keepdim=True), mono.std(-1, keepdim=True) + 1e-8
        y = _in_windows(self.network, (x - mean) / scale, self.rate)
        return y * scale[:, None] + mean[:, None]


class HybridDemucsPlus(HybridDemucs):
    """The same network also trained on 150 more songs and the test songs of MUSDB18: its scores there do not count."""

    name: ClassVar[str] = "hdemucs-plus"
    about: ClassVar[str] = "Hybrid Demucs, all of MUSDB18-HQ (test songs too) + 150 songs, torchaudio"
    bundle: ClassVar[str] = "HDEMUCS_HIGH_MUSDB_PLUS"
    weights: ClassVar[str] = "hdemucs_high_trained.pt"


class ConvTasNet(_Network):
    """Conv-TasNet for two talkers at 8 kHz, Libri2Mix (Y. Luo, N. Mesgarani, TASLP 2019), from torchaudio."""

    name: ClassVar[str] = "convtasnet"
    about: ClassVar[str] = "Conv-TasNet, two talkers, Libri2Mix 8 kHz (Luo & Mesgarani 2019), torchaudio"
    targets = frozenset({"speaker 1", "speaker 2"})
    rate: ClassVar[int] = 8000
    stereo: ClassVar[bool] = False
    outputs: ClassVar[tuple[str, ...]] = ("speaker 1", "speaker 2")

    def _load(self) -> nn.Module:
        network: nn.Module = _package("torchaudio.models", "torchaudio").conv_tasnet_base(num_sources=2)
        path = _torchaudio_weights("conv_tasnet_base_libri2mix.pt", "CONVTASNET_BASE_LIBRI2MIX")
        return _with_weights(network, path).to(self.device)

    def _run(self, x: Tensor) -> Tensor:
        estimate: Tensor = self.network(x)
        return estimate[:, :, None]


class Demucs(_Network):
    """Hybrid Transformer Demucs v4, trained on MUSDB18-HQ and 800 songs (S. Rouard et al., ICASSP 2023)."""

    name: ClassVar[str] = "demucs"
    about: ClassVar[str] = "HT-Demucs v4, MUSDB18-HQ + 800 songs (Rouard et al. 2023), demucs"
    targets = frozenset({*STEMS, "accompaniment"})
    rate: ClassVar[int] = 44100
    repository: ClassVar[str] = "adefossez/HTDemucs"
    weights: ClassVar[str] = "955717e8.safetensors"

    def _load(self) -> nn.Module:
        from huggingface_hub import try_to_load_from_cache
        from safetensors import safe_open

        hub = _package("demucs.hf", "demucs>=4.1")
        path = try_to_load_from_cache(self.repository, self.weights)
        if not isinstance(path, str):
            raise ModelError(
                f"demucs: {self.weights} of {self.repository} is not in the hub cache; fetch it once with "
                f"`hf download {self.repository}`"
            )
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
        # demucs imports any class that the file names, so only its own network is accepted.
        if metadata.get("klass") != "demucs.htdemucs.HTDemucs" or "structure" in metadata:
            raise ModelError(f"{path}: not the published HT-Demucs; fetch {self.repository} again")
        network: nn.Module = hub.load_safetensors_model(path)
        return network.to(self.device).eval()

    def _run(self, x: Tensor) -> Tensor:
        mono = x.mean(1, keepdim=True)
        mean, scale = mono.mean(-1, keepdim=True), mono.std(-1, keepdim=True) + 1e-8
        apply = _package("demucs.apply", "demucs>=4.1").apply_model
        y: Tensor = apply(self.network, (x - mean) / scale, shifts=0, split=True, overlap=0.25, device=self.device)
        order = [self.network.sources.index(name) for name in self.outputs]
        return y[:, order] * scale[:, None] + mean[:, None]


class OpenUnmix(_Network):
    """Open-Unmix trained on MUSDB18-HQ, with its Wiener filter (F.-R. Stoeter et al., JOSS 2019)."""

    name: ClassVar[str] = "openunmix"
    about: ClassVar[str] = "Open-Unmix umxhq with Wiener filter (Stoeter et al. 2019), openunmix"
    targets = frozenset({*STEMS, "accompaniment"})
    rate: ClassVar[int] = 44100
    files: ClassVar[dict[str, str]] = {
        "drums": "drums-9619578f.pth",
        "bass": "bass-8d85a5bd.pth",
        "other": "other-b52fbbf7.pth",
        "vocals": "vocals-b62c91ce.pth",
    }

    def _load(self) -> nn.Module:
        umx = _package("openunmix", "openunmix")
        network = umx.umxhq(targets=list(self.outputs), pretrained=False)
        folder = Path(torch.hub.get_dir()) / "checkpoints"
        for target, file in self.files.items():
            how = 'python -c "import openunmix; openunmix.umxhq()"'
            _with_weights(network.target_models[target], _cached(folder / file, "openunmix", how), strict=False)
        ready: nn.Module = network.to(self.device).eval()
        return ready

    def _run(self, x: Tensor) -> Tensor:
        estimate: Tensor = self.network(x)
        return estimate


def _package(module: str, requirement: str) -> Any:
    try:
        return importlib.import_module(module)
    except (ImportError, OSError, RuntimeError) as error:  # a torchaudio beside the wrong torch raises all three
        raise DependencyError(
            f"cannot import {module}: {error}; install it with `pip install '{requirement}'` "
            "(torchaudio must be built for the CUDA version of the installed torch; see `audiosep doctor`)"
        ) from error


def _torchaudio_weights(file: str, bundle: str) -> Path:
    how = f'python -c "import torchaudio; torchaudio.pipelines.{bundle}.get_model()"'
    return _cached(Path(torch.hub.get_dir()) / "torchaudio" / "models" / file, bundle, how)


def _cached(path: Path, what: str, how: str) -> Path:
    if not path.is_file():
        raise ModelError(f"{what}: no weights at {path}; fetch them once with `{how}`")
    return path


def _with_weights(network: nn.Module, path: Path, strict: bool = True) -> nn.Module:
    """Load a published state dictionary; only tensors are unpickled."""
    try:
        missing, _ = network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True), strict=strict)
    except Exception as error:
        raise ModelError(f"{path}: not the published weights ({error}); delete the file and fetch it again") from error
    if missing:
        raise ModelError(f"{path}: lacks {missing[0]!r}; delete the file and fetch it again")
    return network.eval()


def _in_windows(network: Any, x: Tensor, rate: int) -> Tensor:
    """Run a network over windows of 10 s with cross-fades of 1 s.

    Args:
        network: maps (batch, channels, samples) to (batch, outputs, channels, samples).
        x: (batch, channels, samples).
        rate: sample rate, Hz.

    Returns:
        (batch, outputs, channels, samples).
    """
    outputs = []
    for one in x:
        adder = OverlapAdd(lambda w: network(w).flatten(1, 2), Windows(10 * rate, 0, 0, rate))
        rows = [part for part in (adder.push(one), adder.finish()) if part is not None]
        whole = torch.cat(rows, -1)
        outputs.append(whole.reshape(-1, len(one), whole.shape[-1]))
    return torch.stack(outputs)
