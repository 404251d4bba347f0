"""What the trainings of the embedded CLAP's towers share: imperfect clips, InfoNCE, zero-shot naming, files."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from audiosep.atomic import write_text
from audiosep.data.corpus import Corpus
from audiosep.data.mixing import MixtureBatch
from audiosep.data.sampling import SamplingConfig
from audiosep.errors import ConfigError
from audiosep.models.listener import Listener
from audiosep.query.mini import MiniEncoder
from audiosep.training.engine import distributed
from audiosep.training.towers.captions import normalise
from audiosep.training.towers.teachers import Tagger
from audiosep.weights import configs
from audiosep.weights.catalogue import locate
from audiosep.weights.checkpoint import load_into, load_state, read_config, save_state

WEIGHTS, SHAPE = "listener.safetensors", "config.json"
EXCLUDED = -1e4  # the logit of what takes no part in a softmax
_NAMED_SECONDS = 5


def check_mono(sampling: SamplingConfig) -> None:
    """Refuse mixtures that a listener cannot hear.

    Raises:
        ConfigError: they are not mono.
    """
    if sampling.channels != 1:
        raise ConfigError(f"sampling.channels: the listener hears mono, got {sampling.channels}")


def imperfect(mixtures: MixtureBatch, leak: float, generator: torch.Generator) -> tuple[Tensor, list[int]]:
    """The targets of a batch's queries, half of them as an imperfect separation leaves them.

    Args:
        leak: largest level of what is left of the other sources, dB; it goes down to 20 dB less.

    Returns:
        (targets, samples), absent ones left out, and the query of each.
    """
    mix = mixtures.sources.sum(1)
    present = torch.nonzero(mixtures.membership.sum(1) > 0)[:, 0]
    clean = torch.einsum("qs,qst->qt", mixtures.membership[present], mixtures.sources[mixtures.owner[present]])
    rest = mix[mixtures.owner[present]] - clean
    level = 10 ** ((leak - 20 * torch.rand(len(present), 1, generator=generator)) / 20)
    level = level * (torch.rand(len(present), 1, generator=generator) < 0.5)
    return clean + level * rest, present.tolist()


def info_nce(logits: Tensor, positive: Tensor, dim: int) -> Tensor:
    """Mean of -log(share of the positives in the softmax along `dim`).

    InfoNCE (van den Oord et al., 2018) with any number of positives (Miech et al., 2020, MIL-NCE).

    Args:
        logits: (clips, texts). positive: bool, same shape; at least one along `dim`.
    """
    everything = torch.logsumexp(logits, dim)
    return (everything - torch.logsumexp(logits.masked_fill(~positive, EXCLUDED), dim)).mean()


class Naming:
    """Zero-shot naming: held-back clips by the nearest label text of their split, "val" or "zero" (never trained).

    Args:
        corpus: a split without clips is left out.
        count: about how many clips of each split; the middle five seconds of each.
    """

    def __init__(self, corpus: Corpus, count: int) -> None:
        self._sets: dict[str, tuple[list[Tensor], list[str], list[int]]] = {}
        for split in ("val", "zero"):
            rows = [i for i, clip in enumerate(corpus.clips) if clip.split == split]
            rows = rows[:: max(1, len(rows) // count)]
            if not rows:
                continue
            names = sorted({normalise(corpus.clips[i].label) for i in rows})
            waves = [_middle(corpus.audio(i), _NAMED_SECONDS * corpus.sample_rate) for i in rows]
            self._sets[split] = (waves, names, [names.index(normalise(corpus.clips[i].label)) for i in rows])

    @torch.no_grad()
    def __call__(self, hear: Callable[[Tensor], Tensor], read: Callable[[Sequence[str]], Tensor]) -> dict[str, float]:
        """Share of the clips of each split that get their own label; processes of a run share the clips out.

        Args:
            hear: (1, samples) waveform -> (1, dimension). read: n texts -> (n, dimension).
        """
        found = {}
        for split, (waves, names, truth) in self._sets.items():
            texts = read(names)
            pairs = distributed.share(list(zip(waves, truth, strict=True)))
            right = [int((hear(wave[None]) @ texts.T.to(wave.device)).argmax()) == label for wave, label in pairs]
            right = distributed.gather(right)
            found[split] = sum(right) / len(right)
        return found


def beside(ours: Mapping[str, float], teachers: Mapping[str, float]) -> dict[str, float]:
    """What `Naming` found, for a run's log: ".../top1", ".../teacher_top1" and their ".../ratio" of each split."""
    found: dict[str, float] = {}
    for split, top in ours.items():
        teacher = teachers[split]
        found |= {f"{split}/top1": top, f"{split}/teacher_top1": teacher, f"{split}/ratio": top / max(teacher, 1e-9)}
    return found


def hearing(listener: Listener) -> Callable[[Tensor], Tensor]:
    """A listener for `Naming`: waveforms and embeddings on the CPU, the work where the weights are."""
    device = next(listener.parameters()).device
    return lambda waveforms: listener.embed(waveforms.to(device)).cpu()


def hearing_tags(tagger: Tagger, names: Tensor) -> Callable[[Tensor], Tensor]:
    """A tagger for `Naming`: a sound lies where the names of its tags, (tags, dimension) embeddings, lie."""
    return lambda waveforms: F.normalize(tagger(waveforms)[0].softmax(-1) @ names, dim=-1)


def load_listener(listener: Listener, place: str | Path) -> None:
    """Put trained weights into a listener.

    Args:
        place: `listener.safetensors`, a folder that holds it (a run's `model/`), or a whole model by folder or name.

    Raises:
        ConfigError: they are of another shape. ModelError: there are none, or they are damaged.
    """
    path = Path(place) if Path(place).is_file() else locate(place)
    if path.is_file() or (path / WEIGHTS).is_file():
        state = load_state(path / WEIGHTS if path.is_dir() else path)
        described = path / SHAPE
        shape = json.loads(described.read_text(encoding="utf-8")) if described.is_file() else None
    else:
        other = MiniEncoder.from_config(read_config(path)["query"] or {}, path).listener
        shape, state = configs.to_dict(other.config), other.state_dict()
    if shape is not None and shape != configs.to_dict(listener.config):
        raise ConfigError(f"the listener in {path} has another shape than model.listener")
    load_into(listener, state, path)


def export_listener(listener: Listener, folder: Path) -> None:
    """Write `listener.safetensors` and its shape, `config.json`."""
    save_state(folder / WEIGHTS, listener.state_dict())
    text = json.dumps(configs.to_dict(listener.config), indent=2) + "\n"
    write_text(folder / SHAPE, text)


def _middle(x: Tensor, samples: int) -> Tensor:
    start = max(0, (x.shape[-1] - samples) // 2)
    return x[..., start : start + samples]
