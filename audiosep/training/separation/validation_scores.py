"""Scores on part of a validation recipe during training, with query embeddings from the caption table."""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from audiosep.data.corpus import Corpus
from audiosep.data.validation_recipe import RecipeAudio, RecipeEntry, ValidationRecipe
from audiosep.errors import ConfigError
from audiosep.metrics import roc_auc, sdr, si_sdr
from audiosep.models.separation_model import SeparationModel
from audiosep.training.caption_table import CaptionTable
from audiosep.training.engine import distributed
from audiosep.training.engine.trackers import Sample, comparison_samples


class ValidationScores:
    """Scores of a model on part of a validation recipe; the processes of a run share the entries.

    Args:
        path: the recipe.
        corpus: its recordings.
        captions: embeddings of its queries; None to validate the stems alone.
        count: about how many entries.

    Raises:
        DataError: the recipe cannot be read, or is of other recordings or captions.
        ConfigError: it is no recipe, or has no mixtures of these kinds.
    """

    def __init__(self, path: Path, corpus: Corpus, captions: CaptionTable | None, count: int) -> None:
        self.recipe, self.audio, self.captions = ValidationRecipe.load(path), RecipeAudio(corpus), captions
        groups: dict[tuple[str, str], list[RecipeEntry]] = {}
        for entry in self.recipe.entries:
            if entry.group in ("e" if captions is None else "abceg"):
                groups.setdefault((entry.group, entry.family), []).append(entry)
        if not groups:
            kind = "songs with their stems" if captions is None else "queries"
            raise ConfigError(
                f"options.validation: {path} has no mixtures for {kind}: hold recordings of them back and draw it "
                'again (`audiosep data recipe`), or do not validate (options.validation="")'
            )
        share = max(1, round(count / len(groups)))
        # In the order of crc32, because a recipe lists entries of one label together.
        shuffled = (sorted(entries, key=lambda e: zlib.crc32(e.id.encode())) for entries in groups.values())
        self.entries = [e for entries in shuffled for e in entries[:share]]
        # Now, so that a recipe of another corpus does not end the training at its first validation.
        for name in {source.clip for entry in self.entries for source in entry.sources}:
            corpus.index(name)
        if captions is not None:
            captions[[entry.query for entry in self.entries if entry.group != "e"]]

    def __call__(self, model: SeparationModel) -> dict[str, float]:
        """Return means over groups ("val/a/si_sdri"), families and labels; see `summary`."""
        entries = [e for e in self.entries if e.group != "e" or e.label in model.stem_names]
        return summary(distributed.gather([self._row(model, entry) for entry in distributed.share(entries)]))

    @torch.no_grad()
    def samples(self, model: SeparationModel, count: int = 3) -> list[Sample]:
        """Return mixture, target and estimate of an entry of each of the first families or stems, with spectrograms."""
        samples: list[Sample] = []
        if self.captions is None:
            shown = {e.label: e for e in self.entries if e.label in model.stem_names}
        else:
            shown = {e.family: e for e in self.entries if e.group == "a"}
        for entry in list(shown.values())[:count]:
            mix, target = self._mix_and_target(entry)
            estimate, _ = self._estimate(model, entry, mix)
            sounds = {"mixture": mix[None], "target": target[None], "estimate": estimate[None]}
            samples += comparison_samples(f"{entry.family} {entry.query}", self.recipe.sample_rate, sounds)
        return samples

    def _mix_and_target(self, entry: RecipeEntry) -> tuple[Tensor, Tensor]:
        """Mixture and target, (samples,) each, on the CPU; an absent target is silent."""
        sources = self.audio.sources(entry).cpu()
        return sources.sum(0), sources[list(entry.target)].sum(0)

    def _estimate(self, model: SeparationModel, entry: RecipeEntry, mix: Tensor) -> tuple[Tensor, float | None]:
        """Estimate (samples,) on the CPU, and the presence, which a stem does not have."""
        device = next(model.parameters()).device
        mix = mix[None, None].to(device)
        if entry.group == "e":
            return model.stems(mix).waveforms[0, model.stem_names.index(entry.label), 0].float().cpu(), None
        assert self.captions is not None  # without them there are entries for stems alone
        result = model(mix, self.captions[[entry.query]].to(device))
        presence = None if result.presence is None else float(result.presence[0, 0])
        return result.waveforms[0, 0, 0].float().cpu(), presence

    def _row(self, model: SeparationModel, entry: RecipeEntry) -> dict[str, Any]:
        mix, target = self._mix_and_target(entry)
        estimate, presence = self._estimate(model, entry, mix)
        row: dict[str, Any] = {"group": entry.group, "family": entry.family, "label": entry.label}
        row |= {} if presence is None else {"presence": presence}
        if not entry.target:
            level = estimate.square().sum() / mix.square().sum()
            return row | {"level_db": float(10 * torch.log10(level.clamp_min(1e-8)))}
        return row | {
            "si_sdri": float(si_sdr(estimate, target) - si_sdr(mix, target)),
            "sdri": float(sdr(estimate[None], target[None]) - sdr(mix[None], target[None])),
        }


class RecipeValidation:
    """Validation of a training on a recipe.

    Args:
        path: the recipe; "" for a training without validation.
        corpus: as in `ValidationScores`.
        captions: as in `ValidationScores`.
        count: as in `ValidationScores`.

    Raises:
        DataError, ConfigError: as `ValidationScores`.
    """

    def __init__(self, path: str, corpus: Corpus, captions: CaptionTable | None, count: int) -> None:
        self._scores = ValidationScores(Path(path), corpus, captions, count) if path else None

    def scores(self, model: nn.Module) -> dict[str, float]:
        """SI-SDRi, SDRi and the share of improved clips on part of the recipe, see `summary`; {} without one."""
        return {} if self._scores is None else self._scores(_separating(model))

    def samples(self, model: nn.Module) -> list[Sample]:
        """A few mixtures of the recipe and what the model makes of them, for the trackers; [] without a recipe."""
        return [] if self._scores is None else self._scores.samples(_separating(model))


def _separating(model: nn.Module) -> SeparationModel:
    assert isinstance(model, SeparationModel)
    return model


def summary(rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Compute means by group, by family and label of group a, by stem, and the presence AUC of a against c.

    Args:
        rows: one for each entry; gains that are not finite, those of targets without a sound, do not count.

    Returns:
        "val/<group or family>/si_sdri", "val/e/<stem>/si_sdri" and "val/label/<label>/si_sdri" (dB), the same for
        "si_sdri_median", "sdri" and "better" (share above 0 dB SI-SDRi), "level_db" of absent targets,
        "val/presence_auc", and "val/si_sdri" of group a, or of the stems (group e) where those alone were measured.
    """
    out: dict[str, float] = {}
    first = [r for r in rows if r["group"] == "a"]
    sets = {name: [r for r in rows if r["group"] == name] for name in sorted({r["group"] for r in rows})}
    sets |= {name: [r for r in first if r["family"] == name] for name in sorted({r["family"] for r in first})}
    stems = [r for r in rows if r["group"] == "e"]
    sets |= {f"e/{name}": [r for r in stems if r["label"] == name] for name in sorted({r["label"] for r in stems})}
    sets |= {f"label/{name}": [r for r in first if r["label"] == name] for name in sorted({r["label"] for r in first})}
    for name, mine in sets.items():
        scored = [r for r in mine if math.isfinite(r.get("si_sdri", math.nan))]
        gains = np.array([r["si_sdri"] for r in scored])
        if len(gains):
            out[f"val/{name}/si_sdri"] = float(gains.mean())
            out[f"val/{name}/si_sdri_median"] = float(np.median(gains))
            out[f"val/{name}/better"] = float((gains > 0).mean())
            out[f"val/{name}/sdri"] = float(np.mean([r["sdri"] for r in scored]))
        levels = [r["level_db"] for r in mine if "level_db" in r]
        if levels:
            out[f"val/{name}/level_db"] = float(np.median(levels))
    present = [r["presence"] for r in first if "presence" in r]
    absent = [r["presence"] for r in rows if r["group"] == "c" and "presence" in r]
    if present and absent:
        out["val/presence_auc"] = roc_auc(present, absent)
    main = "val/a/si_sdri" if first else "val/e/si_sdri"
    if main in out:
        out["val/si_sdri"] = out[main]
    return out
