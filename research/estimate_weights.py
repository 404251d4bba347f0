"""What says that an estimate fits a query, and how much: the weights of `audiosep.models.query_ways`.

    python -m research.estimate_weights audiosep/evaluation/recipes/val.json research/collections.json manifest.jsonl \\
        --cache cache/

All estimates of the queries of groups a, b and g that name no stem, at the quality "balanced", and the evidence for
each. The weights of a softmax of it are fitted to the SI-SDR of the mean of the estimates. Group h is only looked at.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from scipy.optimize import minimize
from scipy.special import softmax
from torch import Tensor

from audiosep.api import load
from audiosep.data.corpus import Corpus
from audiosep.data.validation_recipe import RecipeAudio, RecipeEntry, ValidationRecipe
from audiosep.errors import ConfigError
from audiosep.inference.devices import running
from audiosep.models.hybrid import Hybrid
from audiosep.models.query_ways import WEIGHTS
from audiosep.models.refinement import Decoded
from audiosep.models.stft import istft, stft
from audiosep.separator import Separator
from research.known_queries import encoded, known_query

Values = NDArray[np.float64]

_GROUPS = "abg"
_PENALTY = 1e-3  # on squared weights of parts that are scaled to a deviation of one
_WORST, _BEST = -15.0, 30.0  # dB that a mixture counts with


@dataclass(frozen=True)
class Compared:
    """The estimates of some mixtures: what is known of each, and what the SI-SDR of their means follows from.

    Attributes:
        evidence: (mixtures, estimates, parts), see `Ways.evidence`.
        products: (mixtures, estimates, estimates), inner products of the estimates' waveforms.
        right: (mixtures, estimates), of each with the target.
        before: (mixtures,) SI-SDR of the mixtures, dB.
    """

    evidence: Values
    products: Values
    right: Values
    before: Values

    def gains(self, weights: Values) -> Values:
        """(mixtures,): SI-SDRi of the mean of the estimates, dB.

        Args:
            weights: (mixtures, estimates), which sum to one.
        """
        energy = np.einsum("mi,mij,mj->m", weights, self.products, weights)
        hit = (weights * self.right).sum(1)
        return _si_sdr(energy, hit) - self.before

    def chosen(self, weights: Values) -> Values:
        """(mixtures, estimates): a softmax of the evidence under some weights of its parts."""
        shares: Values = softmax(self.evidence @ weights, axis=1)
        return shares

    def best(self) -> Values:
        """(mixtures, estimates): one for the best estimate, as one who knows would choose."""
        ones = np.eye(self.right.shape[1])
        every = np.stack([self.gains(np.tile(one, (len(self.right), 1))) for one in ones], 1)
        chosen: Values = ones[every.argmax(1)]
        return chosen


def fit(groups: Sequence[Compared]) -> Values:
    """Weights of the parts of the evidence under which the mean SI-SDRi over the groups is highest.

    Args:
        groups: of mixtures, each counts as much as every other.
    """
    spread = np.concatenate([group.evidence.reshape(-1, group.evidence.shape[-1]) for group in groups]).std(0) + 1e-9

    def loss(scaled: Values) -> float:
        gains = [group.gains(group.chosen(scaled / spread)).clip(_WORST, _BEST).mean() for group in groups]
        return float(-np.mean(gains) + _PENALTY * (scaled**2).sum())

    found: Values = minimize(loss, np.full(len(spread), 0.5), method="BFGS").x / spread
    return found


def compared(separator: Separator, mix: Tensor, target: Tensor, text: str) -> Compared | None:
    """The estimates of one mixture; None where words name a stem or no sound that is known.

    Args:
        separator: with prototypes.
        mix: (samples,) at the model's rate.
        target: (samples,).
        text: names the target.
    """
    query = known_query(separator, text)
    if query is None or query[1].stem is not None:
        return None
    resolved, ways = query
    with running(separator.device, separator.precision):
        queries = encoded(separator, mix, resolved)
        runs = queries.estimates(ways)
    waveforms = torch.cat([_waveform(queries.network, run, mix) for run in runs]).double()
    target = F.normalize(target.double(), dim=0)
    products, right = waveforms @ waveforms.T, waveforms @ target
    evidence = torch.cat([ways.evidence(run) for run in runs]).double()
    before = _si_sdr(mix.double().square().sum().numpy(), (mix.double() @ target).numpy())
    return Compared(evidence[None].numpy(), products[None].numpy(), right[None].numpy(), before[None])


def _waveform(model: Hybrid, run: Decoded, mix: Tensor) -> Tensor:
    """(1, samples): an estimate, without floor and the weight of its presence."""
    mask = model.bands.expand(run.mask)
    return istft(mask * stft(mix[None], model.n_fft, model.hop), model.n_fft, model.hop, len(mix))


def _si_sdr(energy: Values, hit: Values) -> Values:
    """dB, of estimates of some energy that have an inner product with targets of energy one."""
    found: Values = 10 * np.log10(hit**2 / np.maximum(energy - hit**2, 1e-12) + 1e-12)
    return found


def groups_of(separator: Separator, audio: RecipeAudio, entries: Sequence[RecipeEntry]) -> dict[str, Compared]:
    """The estimates of entries whose target is there, by their group.

    Args:
        separator: as of `compared`.
        audio: of the entries.
        entries: of recipes.
    """
    found: dict[str, list[Compared]] = defaultdict(list)
    for entry in track(entries, "separating", console=Console(stderr=True)):
        parts = audio.sources(entry)
        one = compared(separator, parts.sum(0), parts[list(entry.target)].sum(0), entry.query)
        if one is not None:
            found[entry.group].append(one)
    return {
        group: Compared(*(np.concatenate([getattr(one, field.name) for one in ones]) for field in fields(Compared)))
        for group, ones in sorted(found.items())
    }


def table(groups: dict[str, Compared], fitted: Values) -> str:
    """Markdown: mean SI-SDRi (share better) of the mean by the weights that ship, by some others, and of the best.

    Args:
        groups: by name.
        fitted: weights of the parts.
    """
    lines = ["| group | mixtures | as it ships | as fitted | who knows |", "|---|---:|---:|---:|---:|"]
    for name, group in groups.items():
        chosen = [group.chosen(np.array(WEIGHTS)), group.chosen(fitted), group.best()]
        cells = [f"{gains.mean():.2f} ({100 * (gains > 0).mean():.0f}%)" for gains in map(group.gains, chosen)]
        lines.append(f"| {name} | {len(group.before)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipes", type=Path, nargs="+")
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--model", default="mini")
    parser.add_argument("--precision", default="fp32", help="of the network's layers [%(default)s]")
    options = parser.parse_args(arguments)
    recipe = ValidationRecipe.joined(options.recipes)
    audio = RecipeAudio(Corpus(options.manifest, options.cache, recipe.sample_rate, on_error="skip"))
    separator = load(options.model, "cpu", options.precision, sounds=False)
    entries = [entry for entry in recipe.entries if entry.group in (*_GROUPS, "h") and entry.target]
    groups = groups_of(separator, audio, entries)
    if not all(group in groups for group in _GROUPS):
        raise ConfigError(f"{options.model} compares no estimates: make prototypes with a tagger")
    fitted = fit([groups[group] for group in _GROUPS])
    print(table(groups, fitted))
    print(f"weights: {', '.join(f'{weight:.2f}' for weight in fitted)}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
