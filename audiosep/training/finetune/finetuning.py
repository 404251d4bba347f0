"""`audiosep finetune my_sounds/`: teach a model the sounds of a folder of recordings.

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
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from audiosep.atomic import fill_folder, make_folder, write_bytes, write_text
from audiosep.data.corpus import Corpus
from audiosep.data.manifest import Clip, manifest_text
from audiosep.data.reading import OnError
from audiosep.data.text_files import read_text
from audiosep.errors import ConfigError, ModelError
from audiosep.models.adapters import Adapter, AdapterConfig, apply_adapter, trainable_parameters
from audiosep.models.separation_model import SeparationModel
from audiosep.query import load_encoder
from audiosep.query.encoder import QueryEncoder
from audiosep.query.mini import MiniEncoder
from audiosep.training.caption_table import CaptionTable
from audiosep.training.engine.run_state import latest_checkpoint
from audiosep.training.engine.runtime import check_start, only_process
from audiosep.training.engine.trainer import Trainer
from audiosep.training.engine.trainer_config import TrainerConfig
from audiosep.training.finetune.finetune_task import FinetuneOptions, FinetuneTask
from audiosep.training.finetune.held_back import HeldBackScores
from audiosep.training.finetune.user_clips import TARGET, gather_clips, read_user_clips
from audiosep.weights.catalogue import locate
from audiosep.weights.checkpoint import WEIGHTS, load_model, save_model
from audiosep.weights.digest import file_sha256
from audiosep.weights.model_config import check_model_place

logger = logging.getLogger(__name__)

ADAPTER_FILE = "adapter.safetensors"
MIN_GAIN_DB = 0.01  # a smaller improvement of SI-SDRi counts as none


@dataclass(frozen=True)
class FinetuneConfig:
    """How to fine-tune.

    Attributes:
        minutes: longest training.
        steps: train for this number of steps instead.
        full: train the whole model and write a model folder; otherwise an adapter file.
        adapter: size of the adapter.
        learning_rate: peak; None is 3e-3 for an adapter and 1e-4 for the whole model.
        held_back: share of each sound's files that is used for validation only.
        patience: stop after this many validations (tenths of the minutes) without a new best.
        options: see `FinetuneOptions`.
        device: as in `TrainerConfig`.
        precision: as in `TrainerConfig`.
        seed: of all random numbers.
        trackers: as in `TrainerConfig`.
        skip_broken: leave recordings out that cannot be read, with a warning, instead of stopping.
    """

    minutes: float = 20.0
    steps: int | None = None
    full: bool = False
    adapter: AdapterConfig = field(default_factory=AdapterConfig)
    learning_rate: float | None = None
    held_back: float = 0.2
    patience: int = 4
    options: FinetuneOptions = field(default_factory=FinetuneOptions)
    device: str = "auto"
    precision: str = "bf16"
    seed: int = 0
    trackers: tuple[str, ...] = ()
    skip_broken: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.held_back < 1:
            raise ConfigError(f"held_back must lie between 0 and 1, got {self.held_back}")
        try:
            self.trainer()  # refuses impossible values before recordings are read
        except ConfigError as error:
            raise ConfigError(str(error).removeprefix("trainer.")) from error  # a key that this has without it

    @property
    def on_error(self) -> OnError:
        """What to do about broken recordings, as readers of data take it."""
        return "skip" if self.skip_broken else "raise"

    def trainer(self) -> TrainerConfig:
        """Return the trainer's configuration."""
        interval: dict[str, Any] = {"validate_minutes": self.minutes / 10}
        if self.steps is not None:
            interval = {"validate_steps": max(1, self.steps // 10)}
        return TrainerConfig(
            steps=self.steps,
            minutes=None if self.steps is not None else self.minutes,
            learning_rate=(1e-4 if self.full else 3e-3) if self.learning_rate is None else self.learning_rate,
            warmup=20,
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
    """The result of fine-tuning; scores are over mixtures of two held-back clips at 0 dB, see `held_back.summary`.

    Attributes:
        out: the adapter file or model folder; None if the result is not better than the base.
        interrupted: stopped by a signal; the same call resumes.
        labels: the new sounds.
        parameters: number of trained parameters.
        steps: of training.
        minutes: of training.
        before: scores of the base on the new sounds.
        after: scores of the result on the new sounds.
        known_before: scores of the base on the `known` recordings, empty without.
        known_after: scores of the result on the `known` recordings, empty without.
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
        sounds: a folder with a folder for each label, or a manifest.
        base: name or folder of the model to start from.
        out: file (adapter) or folder (`full`) to write; None: see `default_output`.
        noise: folders of other sounds that the new ones are mixed with, such as background.
        known: recordings (as `sounds`) of sounds the base knows, to measure whether the result still separates them.
        config: how to fine-tune.
        run_dir: the run folder; with an existing one the run resumes. By default runs/finetune-<name of sounds>.

    Returns:
        Where the result is and how good it is.

    Raises:
        DataError: too few recordings; the message says what to add.
        ModelError: no such base, or one that takes no words, or a folder of other files where the model goes.
        DependencyError: a tracker is not installed.
        ConfigError: an impossible configuration, or a run folder of other recordings or another base.
        TrainingError: another process trains in the run folder.
    """
    config, sounds = config or FinetuneConfig(), Path(sounds)
    run_dir = Path(run_dir) if run_dir is not None else Path("runs") / f"finetune-{_name_of(sounds)}"
    target = Path(out) if out is not None else default_output(sounds, config.full)
    check_start(config.trainer(), run_dir)
    if config.full:
        check_model_place(target)
    folder = locate(base)
    model, facts = load_model(folder)
    if facts["query"] is None:
        raise ModelError(
            f"{base} has only stems and takes no words to be taught: start from a model that does, as 'mini'"
        )
    clips = gather_clips(sounds, noise, config.held_back, config.on_error)
    known_clips = [] if known is None else read_user_clips(Path(known), config.on_error)
    make_folder(run_dir)
    name = str(facts.get("name") or folder.name)
    labels = sorted({clip.label for clip in clips if clip.family == TARGET})
    with only_process(run_dir):
        _begin_run(run_dir, clips, folder / WEIGHTS)
        corpus = Corpus(clips, run_dir / "cache", model.sample_rate, on_error=config.on_error)
        encoder = load_encoder(facts["query"], folder)
        torch.manual_seed(config.seed)
        trained = copy.deepcopy(model)
        save = _saver(trained, config, name, labels, facts, encoder)
        task = FinetuneTask(trained, model, encoder, corpus, config.options, config.seed, save)
        # Read now, so that nothing is wrong with them after the training.
        known_scores = None if known is None else _known_scores(known_clips, run_dir, task, config.on_error)
        before = task.validate(task.base)
        logger.info("before: SI-SDRi %.2f dB on held-back clips", before["val/si_sdri"])
    parameters = sum(p.numel() for p in trainable_parameters(trained))
    result = Trainer(task, config.trainer(), run_dir).fit()

    report = FinetuneReport(
        None, result.interrupted, labels, parameters, result.step, result.minutes, before, result.metrics
    )
    if result.interrupted or result.best is None or result.best <= before["val/si_sdri"] + MIN_GAIN_DB:
        return report
    tuned = _publish(run_dir / "best", target, folder, model, config.full)
    after = task.validate(tuned)
    report = dataclasses.replace(report, out=str(target), after=after)
    if known_scores is None:
        return report
    return dataclasses.replace(report, known_before=known_scores(task.base), known_after=known_scores(tuned))


def default_output(sounds: Path, full: bool) -> Path:
    """What is written where nothing else is said: a name in the working directory, and not that of the recordings.

    Args:
        sounds: as for `finetune`.
        full: whether it is the folder of a model, not the file of an adapter.
    """
    name = _name_of(sounds)
    return Path(f"{name}-model" if full else f"{name}.safetensors")


def _name_of(sounds: Path) -> str:
    """The name of a folder, dots in it included, or of a manifest without its suffix."""
    name = sounds.name.removesuffix(".jsonl")
    return sounds.resolve().name if name in ("", "..") else name  # of the working directory, or the one above


def _begin_run(run_dir: Path, clips: Sequence[Clip], base: Path) -> None:
    """Write what a run is made from: it goes on with the clips and the weights that it began with."""
    manifest = run_dir / "manifest.jsonl"
    made_from = {
        manifest: (manifest_text(manifest, clips), "on other recordings, or on other shares of them"),
        run_dir / "base.sha256": (f"{file_sha256(base)}\n", "from the weights of another model"),
    }
    for path, (text, difference) in made_from.items():
        if latest_checkpoint(run_dir / "checkpoints") and path.is_file() and read_text(path) != text:
            raise ConfigError(
                f"{run_dir} is a run {difference}: name another folder with --run, or delete it to begin anew"
            )
    for path, (text, _) in made_from.items():
        write_text(path, text)


def _saver(
    model: SeparationModel,
    config: FinetuneConfig,
    name: str,
    labels: list[str],
    facts: dict[str, Any],
    encoder: QueryEncoder,
) -> Callable[[SeparationModel, Path], object]:
    """Prepare `model` for training; returns the function that writes a trained model into a folder."""
    if config.full:
        for part, parameter in model.named_parameters():
            parameter.requires_grad_(not part.startswith(tuple(f"{frozen}." for frozen in config.adapter.exclude)))
        extra = {k: v for k, v in facts.items() if k not in ("format", "family", "model", "query")}
        extra |= {"name": f"{name} + {', '.join(labels)}", "base": name}

        def save(tuned: SeparationModel, folder: Path) -> Path:
            # Queries are embedded as they were, whatever has become of the model's listener.
            query = encoder.save(folder) if isinstance(encoder, MiniEncoder) else facts["query"]
            return save_model(folder, tuned, query=query, extra=extra)

        return save
    adapter = Adapter(model, config.adapter)
    about = {"labels": labels}
    return lambda tuned, folder: adapter.save(folder / ADAPTER_FILE, base=name, about=about, model=tuned)


def _publish(best: Path, target: Path, base: Path, model: SeparationModel, full: bool) -> SeparationModel:
    """Write the best result to `target`, whole or not at all; returns the model that is read from there."""
    if full:
        with fill_folder(target) as folder:
            for part in (base, best):  # without the permissions of an installed model, which may be read-only
                shutil.copytree(part, folder, copy_function=shutil.copyfile, dirs_exist_ok=True)
        return load_model(target)[0]
    write_bytes(target, (best / ADAPTER_FILE).read_bytes())
    tuned = copy.deepcopy(model)
    apply_adapter(tuned, target)
    return tuned.eval()


def _known_scores(known: Sequence[Clip], run_dir: Path, task: FinetuneTask, on_error: OnError) -> HeldBackScores:
    """Measure on all recordings of `known`."""
    clips = [dataclasses.replace(clip, split="val") for clip in known]
    corpus = Corpus(clips, run_dir / "cache", task.corpus.sample_rate, on_error=on_error)
    captions = CaptionTable.build({text for clip in clips for text in clip.texts}, task.encoder)
    labels, options = {clip.label for clip in clips}, task.options
    return HeldBackScores(corpus, captions, sorted(labels), options.sampling, options.validation_batches, task.seed + 1)
