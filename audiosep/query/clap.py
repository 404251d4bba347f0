"""LAION's CLAP through `transformers.ClapModel`: the encoder with which the published AudioSep was trained.

transformers is imported only when an encoder is made. Three of its behaviours are guarded against here: from a folder
without tokenizer files it makes an empty tokenizer that turns every prompt into the same ids; missing weights are drawn
at random with no more than a log line; and the feature extractor crops long recordings at random places.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from audiosep.errors import DependencyError, ModelError, QueryError
from audiosep.query.encoder import canary, example_at_rate
from audiosep.weights import configs
from audiosep.weights.loaded_files import LoadedFiles

_TEXTS, _PIECES = 32, 4  # in a batch
_FILES = ("*.json", "*.txt", "*.safetensors")  # of a repository; nothing that could be a pickle


@dataclass(frozen=True)
class ClapConfig:
    """The "query" object of a model's `config.json`.

    Attributes:
        model: a folder, relative to the model's; or a hub id, which is looked for in the model's folder too, where
            `audiosep models download` puts it, and then in the hub's cache on this machine.
        encoder: always "clap".
        revision: of a hub id.
    """

    model: str
    encoder: str = "clap"
    revision: str | None = None


class ClapEncoder:
    """Embeddings of text and audio in CLAP's joint space.

    Each tower is loaded when it is first needed: most users never give an example recording, and the text tower is two
    thirds of the weights.

    Args:
        model: folder in the format of `transformers.ClapModel`, or a hub id such as "laion/larger_clap_general".
        revision: of a hub id.
        download: whether files that are not in the hub's cache on this machine are downloaded.

    Raises:
        ModelError: the folder or the hub lacks a file, or a file is damaged.
        QueryError: the tokenizer is not the one of the model.
        DependencyError: transformers is missing or broken.
    """

    def __init__(self, model: str | Path, *, revision: str | None = None, download: bool = True) -> None:
        folder = Path(model)
        local = folder.is_dir()
        if not local:
            folder = _cached(str(model), revision, download)
        self._label = str(model)
        self._files = LoadedFiles.of(folder)
        self._remedy = "convert or install the model again" if local else f"`{_fetch(model, revision)}` fetches it anew"
        self._place: dict[str, Any] = {"pretrained_model_name_or_path": str(folder), "local_files_only": True}
        with _explained(self._label, self._remedy):
            from transformers import AutoConfig, AutoTokenizer

            self._config = AutoConfig.from_pretrained(**self._place)
            if self._config.model_type != "clap":
                raise ModelError(f"{model} holds a {self._config.model_type!r} model, not a CLAP")
            self._tokenizer = AutoTokenizer.from_pretrained(**self._place)
        self._check_tokenizer()
        self.name = f"clap:{folder.resolve() if local else model}" + (f"@{revision}" if revision else "")
        self.dimension = int(self._config.projection_dim)
        self.device = torch.device("cpu")
        self._text: nn.Module | None = None
        self._audio: nn.Module | None = None
        self._extractor: Any = None
        self._lock = threading.RLock()  # loading checks the tower by its own queries

    @classmethod
    def from_config(
        cls, config: Mapping[str, Any], folder: Path, network: torch.nn.Module | None = None
    ) -> ClapEncoder:
        """The encoder that a model's `config.json` names, without a network.

        Args:
            config: the "query" object.
            folder: the model's.
            network: not used: this encoder shares nothing with the model.

        Raises:
            ConfigError: an unknown or missing key in `config`.
            ModelError: it is not on this machine; the message has the command that downloads it.
        """
        named = configs.from_dict(ClapConfig, config, "query")
        inside = folder / named.model
        if inside.is_dir():
            return cls(inside)
        if named.model.count("/") != 1:
            raise ModelError(f"{inside} is missing: the model's query encoder; convert or install the model again")
        return cls(named.model, revision=named.revision, download=False)

    @torch.no_grad()
    def text(self, texts: Sequence[str]) -> Tensor:
        """(n, dimension) L2-normalised embeddings of n texts.

        Prompts were padded to 512 tokens in training; padding is masked, so that any length gives the same numbers.

        Raises:
            QueryError: a text is too long, or the model gives different prompts the same embedding.
            ModelError: the weights are missing or damaged.
        """
        tower = self._text_tower()
        longest = self._config.text_config.max_position_embeddings - 2
        found = []
        for i in range(0, len(texts), _TEXTS):
            tokens = self._tokenizer(list(texts[i : i + _TEXTS]), padding=True, return_tensors="pt")
            if tokens["input_ids"].shape[1] > longest:
                raise QueryError(f"a query is longer than the {longest} tokens that the model can read: shorten it")
            ids, mask = (tokens[key].to(self.device) for key in ("input_ids", "attention_mask"))
            found.append(F.normalize(tower(input_ids=ids, attention_mask=mask).text_embeds.float(), dim=-1))
        return torch.cat(found) if found else torch.zeros(0, self.dimension)

    @torch.no_grad()
    def audio(self, waveforms: Sequence[Tensor], sample_rate: int) -> Tensor:
        """(n, dimension) L2-normalised embeddings of n mono recordings, each (samples,) at `sample_rate` Hz.

        Recordings of up to ten seconds are repeated to ten seconds, as in the model's training. Longer ones are cut
        into evenly spaced pieces of ten seconds, whose embeddings are averaged; the published code takes one piece at
        a random place.

        Raises:
            QueryError: a recording is empty or silent.
            ModelError: the weights are missing or damaged.
        """
        tower = self._audio_tower()
        found = [self._embed(tower, waveform, sample_rate) for waveform in waveforms]
        return torch.stack(found) if found else torch.zeros(0, self.dimension)

    def to(self, device: torch.device | str) -> ClapEncoder:
        """Move the weights."""
        self.device = torch.device(device)
        for tower in (self._text, self._audio):
            if tower is not None:
                tower.to(self.device)
        return self

    def release(self) -> None:
        """Release the towers; the next query loads them again, and queries under way keep theirs."""
        with self._lock:
            self._text = self._audio = None

    def _text_tower(self) -> nn.Module:
        with self._lock:
            if self._text is None:
                self._text = self._tower("ClapTextModelWithProjection")
                try:
                    canary(self)
                except BaseException:
                    self._text = None  # the next query checks it again
                    raise
            return self._text

    def _audio_tower(self) -> nn.Module:
        with self._lock:
            if self._audio is None:
                tower = self._tower("ClapAudioModelWithProjection")
                with _explained(self._label, self._remedy):
                    from transformers import AutoFeatureExtractor

                    self._extractor = AutoFeatureExtractor.from_pretrained(**self._place)
                self._audio = tower
            return self._audio

    def _embed(self, tower: nn.Module, waveform: Tensor, sample_rate: int) -> Tensor:
        pieces = [piece.numpy() for piece in ten_second_pieces(waveform, sample_rate, self._extractor.sampling_rate)]
        total = torch.zeros(self.dimension, device=self.device)
        for i in range(0, len(pieces), _PIECES):
            features = self._extractor(
                pieces[i : i + _PIECES], sampling_rate=self._extractor.sampling_rate, return_tensors="pt"
            )
            # If no recording of a batch is long, the extractor marks one at random as long, for training.
            longer = torch.zeros_like(features["is_longer"]).to(self.device)
            out = tower(input_features=features["input_features"].float().to(self.device), is_longer=longer)
            total += F.normalize(out.audio_embeds.float(), dim=-1).sum(0)
        return F.normalize(total, dim=-1)

    def _tower(self, class_name: str) -> nn.Module:
        """One tower with its projection; all of its weights must be in the checkpoint.

        Raises:
            ModelError: they are not, or the files are not those that the encoder was made of.
        """
        self._files.check(self._label)
        with _explained(self._label, self._remedy):
            import transformers

            load: Callable[..., tuple[nn.Module, dict[str, Any]]] = getattr(transformers, class_name).from_pretrained
            # Only safetensors: the other format is a pickle, which only `audiosep convert` opens.
            tower, report = load(**self._place, use_safetensors=True, dtype=torch.float32, output_loading_info=True)
            lost = [*report["missing_keys"], *(key for key, *_ in report["mismatched_keys"])]
            if lost:
                raise ModelError(
                    f"{self._label}: the weights of CLAP are incomplete: {sorted(lost)[0]!r} is missing or of the "
                    f"wrong shape; {self._remedy}"
                )
        return tower.eval().requires_grad_(False).to(self.device)

    def _check_tokenizer(self) -> None:
        """Check that the tokenizer is the model's: an empty one would turn every prompt into the same ids."""
        text = self._config.text_config
        if len(self._tokenizer) != text.vocab_size or self._tokenizer.pad_token_id != text.pad_token_id:
            raise QueryError(
                f"{self._label}: its tokenizer knows {len(self._tokenizer)} tokens and pads with "
                f"{self._tokenizer.pad_token_id}, the model has {text.vocab_size} and {text.pad_token_id}: the "
                f"tokenizer is missing or damaged, and no query would be understood; {self._remedy}"
            )


def ten_second_pieces(waveform: Tensor, sample_rate: int, rate: int) -> list[Tensor]:
    """A recording in pieces of at most ten seconds, evenly spaced so that they cover it.

    Args:
        waveform: (samples,).
        sample_rate: Hz, of the waveform.
        rate: Hz, of the pieces.

    Returns:
        Pieces (samples,) at `rate`; they overlap where the length is no multiple of ten seconds.

    Raises:
        QueryError: the recording is empty or silent.
    """
    x = example_at_rate(waveform, sample_rate, rate)
    size = 10 * rate
    count = -(-len(x) // size)
    starts = [round(i * (len(x) - size) / (count - 1)) for i in range(count)] if count > 1 else [0]
    return [x[start : start + size] for start in starts]


def _cached(model: str, revision: str | None, download: bool) -> Path:
    """The folder of a hub id in the hub's cache, downloaded to there if `download` allows it.

    Raises:
        ModelError: it is not there, and cannot or may not be fetched.
    """
    from huggingface_hub import snapshot_download

    try:
        return Path(
            snapshot_download(model, revision=revision, local_files_only=not download, allow_patterns=list(_FILES))
        )
    except Exception as error:  # no network, no such repository, no access: each raises its own kind
        fetch = _fetch(model, revision)
        if download:
            reason = f"no folder here and could not be downloaded from the hub ({type(error).__name__})"
            remedy = f"on a machine with a network: `{fetch} --local-dir FOLDER`, then name that folder"
        else:
            reason = "not on this machine, and loading a model downloads nothing"
            remedy = f"`{fetch}` fetches it; `audiosep models download` fetches models of the hub with their encoder"
        raise ModelError(f"the query encoder {model} is {reason}: {remedy}") from error


def _fetch(model: str | Path, revision: str | None) -> str:
    """The command that downloads a repository of the hub."""
    return f"hf download {model}" + (f" --revision {revision}" if revision else "")


@contextlib.contextmanager
def _explained(place: str, remedy: str) -> Iterator[None]:
    """Silence the progress bars and reports of transformers, and turn its errors into ours, with the remedy."""
    try:
        from transformers.utils import logging
    except Exception as error:  # a broken torchaudio or torchvision beside it raises almost anything
        raise DependencyError(
            f"transformers cannot be imported ({error}); `audiosep doctor` finds the cause"
        ) from error
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    except (ModelError, QueryError):
        raise
    except Exception as error:  # missing, truncated and foreign files each raise their own kind
        # Only their first sentence: the others are about a hub that was not used.
        reason = str(error).strip().splitlines()[0].split(". ")[0][:300] if str(error).strip() else type(error).__name__
        raise ModelError(
            f"the query encoder {place} cannot be read ({reason}): a file is missing or damaged; {remedy}"
        ) from error
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
