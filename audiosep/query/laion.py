"""LAION's CLAP through `laion-clap` itself, for users who have that package and its checkpoints.

An optional extra that needs an environment of its own: laion-clap 1.1.7 needs NumPy 1 and torchvision, and downloads
three tokenizers from the hub when it is imported.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from audiosep.errors import DependencyError, ModelError, QueryError, install_extra
from audiosep.query.clap import ten_second_pieces
from audiosep.query.encoder import canary
from audiosep.weights import configs

RATE = 48000
_TEXTS = 32
_REMEDY = (
    f"in an environment of its own: {install_extra('laion')}; its first import needs a network, or tokenizers in "
    "$HF_HOME. `audiosep convert` turns the same checkpoint into a query encoder that needs none of this"
)


@dataclass(frozen=True)
class LaionConfig:
    """The "query" object of a model's `config.json`.

    Attributes:
        checkpoint: LAION's `.pt`, relative to the model's folder.
        encoder: always "laion".
        audio_model: of the checkpoint, as in `LaionEncoder`.
        fusion: of the checkpoint, as in `LaionEncoder`.
    """

    checkpoint: str
    encoder: str = "laion"
    audio_model: str = "HTSAT-base"
    fusion: bool = False


class LaionEncoder:
    """Embeddings of text and audio in CLAP's joint space.

    Args:
        checkpoint: LAION's `.pt`, read without running its pickle.
        audio_model: "HTSAT-base" or "HTSAT-tiny".
        fusion: whether the checkpoint was trained with feature fusion.

    Raises:
        DependencyError: laion-clap is missing or broken.
        ModelError: the checkpoint is damaged, or not of this audio model.
        QueryError: the tokenizer is not RoBERTa's, or different prompts have the same embedding.
    """

    def __init__(self, checkpoint: str | Path, *, audio_model: str = "HTSAT-base", fusion: bool = False) -> None:
        from audiosep.convert.unpickle import read_pickle, state_dict

        checkpoint = Path(checkpoint)
        state = state_dict(read_pickle(checkpoint), checkpoint)
        self._module = _module(audio_model, fusion)
        known = self._module.model.state_dict()
        # Newer transformers compute the table of positions instead of storing it.
        state = {key: value for key, value in state.items() if key in known or not key.endswith("position_ids")}
        try:
            self._module.model.load_state_dict(state)
        except RuntimeError as error:
            raise ModelError(f"{checkpoint} is not a CLAP with {audio_model}, fusion {fusion}: {error}") from error
        self._module.model.eval().requires_grad_(False)
        self._check_tokenizer()
        self.name = f"laion:{checkpoint.resolve()}"
        self.dimension = int(self._module.model.text_projection[-1].out_features)
        self.device = torch.device("cpu")
        canary(self)

    @classmethod
    def from_config(
        cls, config: Mapping[str, Any], folder: Path, network: torch.nn.Module | None = None
    ) -> LaionEncoder:
        """The encoder that a model's `config.json` names.

        Args:
            config: the "query" object.
            folder: the model's.
            network: not used: this encoder shares nothing with the model.

        Raises:
            ConfigError: an unknown or missing key in `config`.
        """
        named = configs.from_dict(LaionConfig, config, "query")
        return cls(folder / named.checkpoint, audio_model=named.audio_model, fusion=named.fusion)

    @torch.no_grad()
    def text(self, texts: Sequence[str]) -> Tensor:
        """(n, dimension) L2-normalised embeddings of n texts.

        Raises:
            QueryError: a text is too long for the model.
        """
        longest = self._module.model.text_branch.config.max_position_embeddings - 2
        found = []
        for i in range(0, len(texts), _TEXTS):
            tokens = self._module.tokenize(list(texts[i : i + _TEXTS]), padding=True, return_tensors="pt")
            if tokens["input_ids"].shape[1] > longest:
                raise QueryError(f"a query is longer than the {longest} tokens that the model can read: shorten it")
            found.append(self._module.model.get_text_embedding(dict(tokens)))
        return torch.cat(found) if found else torch.zeros(0, self.dimension)

    @torch.no_grad()
    def audio(self, waveforms: Sequence[Tensor], sample_rate: int) -> Tensor:
        """(n, dimension) L2-normalised embeddings of n mono recordings, each (samples,) at `sample_rate` Hz.

        Recordings of more than ten seconds are cut into pieces, as by `ClapEncoder.audio`.

        Raises:
            QueryError: a recording is empty or silent.
        """
        found = []
        for waveform in waveforms:
            pieces = ten_second_pieces(waveform, sample_rate, RATE)
            embeddings: Tensor = self._module.get_audio_embedding_from_data(pieces, use_tensor=True)
            found.append(F.normalize(embeddings.sum(0), dim=-1))
        return torch.stack(found) if found else torch.zeros(0, self.dimension)

    def to(self, device: torch.device | str) -> LaionEncoder:
        """Move the weights."""
        self.device = torch.device(device)
        self._module.model.to(self.device)
        return self

    def _check_tokenizer(self) -> None:
        known, expected = len(self._module.tokenize), self._module.model.text_branch.config.vocab_size
        if known != expected:
            raise QueryError(
                f"laion-clap's tokenizer knows {known} tokens, the model {expected}: the files of roberta-base in "
                "$HF_HOME are missing or damaged, and no query would be understood; fetch them again"
            )


def _module(audio_model: str, fusion: bool) -> Any:
    """`laion_clap.CLAP_Module` on the CPU."""
    try:
        import laion_clap

        return laion_clap.CLAP_Module(enable_fusion=fusion, device="cpu", amodel=audio_model)
    except Exception as error:  # missing parts, NumPy 2 and a missing network each raise their own kind
        reason = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
        raise DependencyError(f"laion-clap cannot be used ({type(error).__name__}: {reason}): {_REMEDY}") from error
