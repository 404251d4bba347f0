"""`audiosep finetune my_sounds/`: a folder of recordings becomes a better model for them.

my_sounds/
  kettle/        the folder's name is the query
    1.wav  2.flac
  my cat/
    monday.mp3
"""

from __future__ import annotations

import copy
import dataclasses
import logging
import shutil
import zlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from audiosep.audio import is_recording
from audiosep.data.corpus import Corpus
from audiosep.data.manifest import Clip, read_manifest, write_manifest
from audiosep.data.readers import probed, read_folders
from audiosep.errors import ConfigError, DataError
from audiosep.models.adapters import Adapter, AdapterConfig, apply_adapter, trainable_parameters
from audiosep.models.base import SeparationModel
from audiosep.query import load_encoder
from audiosep.training.caption_table import CaptionTable
from audiosep.training.engine.trainer import Trainer
from audiosep.training.engine.trainer_config import TrainerConfig
from audiosep.training.finetune.finetune_task import NOISE, YOURS, FinetuneOptions, FinetuneTask
from audiosep.training.finetune.held_back import HeldBack
from audiosep.weights.catalogue import locate
from audiosep.weights.checkpoint import load_model, save_model

logger = logging.getLogger(__name__)

ADAPTER_FILE = "adapter.safetensors"
SHORTEST = 2.0  # seconds of a piece that is worth holding back
ROUNDING = 0.01  # dB: less than this is no gain


@dataclass(frozen=True)
class FinetuneConfig:
    """How to fine-tune.

    Attributes:
        minutes: longest training. steps: end after so many steps instead.
        full: train the whole model and write a model folder; otherwise an adapter file.
        adapter: size of the adapter.
        learning_rate: peak; None is 3e-3 for an adapter and 1e-4 for the whole model.
        held_back: share of each sound's files that is only measured with.
        patience: stop after this many tenths of the minutes without a new best.
        accumulation: batches of `options.sampling.mixtures` mixtures to a step.
        options: see `FinetuneOptions`.
        device, precision, seed, trackers: as in `TrainerConfig`.
    """

    minutes: float = 20.0
    steps: int | None = None
    full: bool = False
    adapter: AdapterConfig = field(default_factory=AdapterConfig)
    learning_rate: float | None = None
    held_back: float = 0.2
    patience: int = 4
    accumulation: int = 1
    options: FinetuneOptions = field(default_factory=FinetuneOptions)
    device: str = "auto"
    precision: str = "bf16"
    seed: int = 0
    trackers: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not 0 < self.held_back < 1:
            raise ConfigError(f"held_back must lie between 0 and 1, got {self.held_back}")

    def trainer(self) -> TrainerConfig:
        """The trainer's configuration."""
        interval: dict[str, Any] = {"validate_minutes": self.minutes / 10}
        if self.steps is not None:
            interval = {"validate_steps": max(1, self.steps // 10)}
        return TrainerConfig(
            steps=self.steps,
            minutes=None if self.steps is not None else self.minutes,
            learning_rate=self.learning_rate or (1e-4 if self.full else 3e-3),
            warmup=20,
            accumulation=self.accumulation,
            ema=0.98,
            precision=self.precision,  # type: ignore[arg-type]  # checked by the trainer
            device=self.device,  # type: ignore[arg-type]
            seed=self.seed,
            log_every=10,
            keep=1,
            patience=self.patience,
            trackers=self.trackers,
            **interval,
        )


@dataclass(frozen=True)
class FinetuneReport:
    """What came of it. Scores are over mixtures of two held-back clips at 0 dB, names as in `heldback.summary`.

    Attributes:
        out: the adapter file or model folder; None when nothing better than the base was found.
        interrupted: stopped by a signal; the same call goes on.
        labels: the new sounds.
        parameters: how many were trained. steps, minutes: of training.
        before, after: scores of the base and of the result on the new sounds.
        known_before, known_after: the same on `known` recordings, empty without.
    """

    out: str | None
    interrupted: bool
    labels: list[str]
    parameters: int
    steps: int
    minutes: float
    before: dict[str, float]
    after: dict[str, float]
    known_before: dict[str, float] = field(default_factory=dict)
    known_after: dict[str, float] = field(default_factory=dict)


def finetune(
    sounds: Path | str,
    base: Path | str = "mini",
    out: Path | str | None = None,
    *,
    noise: Sequence[Path | str] = (),
    known: Path | str | None = None,
    config: FinetuneConfig | None = None,
    run_dir: Path | str | None = None,
) -> FinetuneReport:
    """Teach a model the sounds of a folder.

    Args:
        sounds: a folder a label, or a manifest.
        base: name or folder of the model to start from.
        out: file (adapter) or folder (`full`) to write; by default named after `sounds` in the working directory.
        noise: folders of what sounds beside: background, other sounds of the same place.
        known: recordings (a folder a label, or a manifest) of sounds the base knows, to measure that it still does.
        config: how.
        run_dir: the run folder; the same one again goes on. By default runs/finetune-<name of sounds>.

    Raises:
        DataError: too little to learn from; the message says what to add.
        ModelError: no such base.
        ConfigError: an impossible configuration.
    """
    config, sounds = config or FinetuneConfig(), Path(sounds)
    run_dir = Path(run_dir) if run_dir is not None else Path("runs") / f"finetune-{sounds.stem}"
    target = Path(out) if out is not None else Path(sounds.stem if config.full else f"{sounds.stem}.safetensors")
    folder = locate(base)
    model, facts = load_model(folder)
    clips = gather_clips(sounds, noise, config.held_back)
    run_dir.mkdir(parents=True, exist_ok=True)
    write_manifest(run_dir / "manifest.jsonl", clips)
    corpus = Corpus(clips, run_dir / "cache", model.sample_rate)
    encoder = load_encoder(facts["query"] or {}, folder)

    torch.manual_seed(config.seed)
    trained = copy.deepcopy(model)
    name = str(facts.get("name") or folder.name)
    labels = sorted({clip.label for clip in clips if clip.family == YOURS})
    save = _saver(trained, config, name, labels, facts)
    task = FinetuneTask(trained, model, encoder, corpus, config.options, config.seed, save)
    before = task.validate(task.base)
    logger.info("before: SI-SDRi %.2f dB on held-back clips", before["val/si_sdri"])
    parameters = sum(p.numel() for p in trainable_parameters(trained))
    result = Trainer(task, config.trainer(), run_dir).fit()

    report = FinetuneReport(
        None, result.interrupted, labels, parameters, result.step, result.minutes, before, result.metrics
    )
    if result.interrupted or result.best is None or result.best <= before["val/si_sdri"] + ROUNDING:
        return report
    tuned = _publish(run_dir / "best", target, folder, model, config.full)
    after = task.validate(tuned)
    report = dataclasses.replace(report, out=str(target), after=after)
    if known is None:
        return report
    test = _known_test(Path(known), run_dir, task)
    return dataclasses.replace(report, known_before=test(task.base), known_after=test(tuned))


def _saver(model: SeparationModel, config: FinetuneConfig, name: str, labels: list[str], facts: dict[str, Any]) -> Any:
    """Prepare `model` for training; returns the function that writes the result into a folder."""
    if config.full:
        for part, parameter in model.named_parameters():
            parameter.requires_grad_(not part.startswith(tuple(f"{frozen}." for frozen in config.adapter.exclude)))
        extra = {k: v for k, v in facts.items() if k not in ("format", "family", "model", "query")}
        extra |= {"name": f"{name} + {', '.join(labels)}", "base": name}
        return lambda tuned, folder: save_model(folder, tuned, query=facts["query"], extra=extra)
    adapter = Adapter(model, config.adapter)
    about = {"labels": labels}
    return lambda tuned, folder: adapter.save(folder / ADAPTER_FILE, base=name, about=about, model=tuned)


def _publish(best: Path, target: Path, base: Path, model: SeparationModel, full: bool) -> SeparationModel:
    """Put the best result where the user wants it; returns the model read back from there."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if full:
        shutil.copytree(base, target, dirs_exist_ok=True)
        shutil.copytree(best, target, dirs_exist_ok=True)
        return load_model(target)[0]
    shutil.copyfile(best / ADAPTER_FILE, target)
    tuned = copy.deepcopy(model)
    apply_adapter(tuned, target)
    return tuned.eval()


# ---- data ----------------------------------------------------------------------------------------------------------


def gather_clips(sounds: Path, noise: Sequence[Path | str], held_back: float) -> list[Clip]:
    """The user's clips and noise, split into what is trained on and what is held back.

    Raises:
        DataError: fewer than two kinds of sound on either side.
    """
    clips = [dataclasses.replace(clip, family=YOURS) for clip in _read(sounds)]
    for number, folder in enumerate(noise):
        found = [
            dataclasses.replace(clip, id=f"noise{number}/{clip.id}", family=NOISE) for clip in _noise(Path(folder))
        ]
        clips += found
    clips = hold_back(clips, held_back)
    for split in ("train", "val"):
        kinds = {clip.label for clip in clips if clip.split == split}
        if len(kinds) < 2:
            use = "train on" if split == "train" else "hold back"
            raise DataError(
                f"{sounds}: mixtures need two kinds of sound, to {use} there is only {', '.join(kinds) or 'none'}: "
                "add another folder of sounds, more files, or --noise"
            )
    return clips


def hold_back(clips: Sequence[Clip], share: float) -> list[Clip]:
    """Give each clip its split, by whole groups (files) of each label.

    The groups come in the order of crc32; at least one of each label is held back. The only file of a label is cut in
    time instead: its end is held back.
    """
    groups: dict[str, dict[str, list[Clip]]] = defaultdict(lambda: defaultdict(list))
    for clip in clips:
        groups[clip.label][clip.group or clip.path].append(clip)
    result: list[Clip] = []
    for label, members in sorted(groups.items()):
        order = sorted(members, key=lambda name: (zlib.crc32(name.encode()), name))
        count = max(1, round(share * len(order)))
        if len(order) == 1:
            pieces = [piece for clip in members[order[0]] for piece in _cut(clip, share)]
            if all(piece.split == "train" for piece in pieces):
                logger.warning("%s: one short recording only; it is trained on, and not measured", label)
            result += pieces
            continue
        for place, name in enumerate(order):
            split = "val" if place < count else "train"
            result += [dataclasses.replace(clip, split=split) for clip in members[name]]  # type: ignore[arg-type]
    return result


def _cut(clip: Clip, share: float) -> list[Clip]:
    """One recording as a part to train on and, if long enough, a part to hold back."""
    end = share * clip.seconds
    if min(end, clip.seconds - end) < SHORTEST:
        return [dataclasses.replace(clip, split="train")]
    first = dataclasses.replace(clip, seconds=clip.seconds - end, split="train")
    start = clip.start + clip.seconds - end
    last = dataclasses.replace(clip, id=f"{clip.id}#end", start=start, seconds=end, split="val")
    return [first, last]


def _read(path: Path) -> list[Clip]:
    return read_manifest(path) if path.suffix == ".jsonl" else read_folders(path)


def _noise(path: Path) -> list[Clip]:
    """Noise may be a manifest, folders with names, or a heap of files."""
    if path.is_dir() and any(is_recording(p) for p in path.iterdir()):
        files = sorted(p for p in path.rglob("*") if is_recording(p))
        return [probed(p, id=p.relative_to(path).as_posix(), label="background noise", group=str(p)) for p in files]
    return _read(path)


def _known_test(known: Path, run_dir: Path, task: FinetuneTask) -> HeldBack:
    """All of `known`, as held-back clips."""
    clips = [dataclasses.replace(clip, split="val") for clip in _read(known)]
    corpus = Corpus(clips, run_dir / "cache", task.corpus.sample_rate)
    captions = CaptionTable.build({text for clip in clips for text in clip.texts}, task.encoder)
    labels, options = {clip.label for clip in clips}, task.options
    return HeldBack(corpus, captions, sorted(labels), options.sampling, options.held_back, task.seed + 1)
