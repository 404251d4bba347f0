"""Configurations of the community's RoFormer checkpoints, as `PublishedConfig`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from audiosep.convert.yaml_files import read_yaml
from audiosep.errors import ModelError
from audiosep.models.published import PublishedConfig

# Keywords of the networks that a configuration may set. Those of the training loss are left out, and any other is an
# error: a network that ignores it would not be the one that was trained.
_SETTINGS = frozenset(
    {
        *("dim", "depth", "time_transformer_depth", "freq_transformer_depth", "freqs_per_bands", "num_bands"),
        *("dim_head", "heads", "attn_dropout", "ff_dropout", "flash_attn", "dim_freqs_in", "sample_rate"),
        *("stft_n_fft", "stft_hop_length", "stft_win_length", "stft_normalized", "mask_estimator_depth"),
    }
)
_OF_TRAINING = ("multi_stft_", "use_torch_checkpoint", "match_input_audio_length")
# Later additions of the networks, with the values that mean a network without them.
_WITHOUT = {"linear_transformer_depth": 0, "mlp_expansion_factor": 4, "skip_connection": False, "use_pope": False}


def read_roformer(checkpoint: Path) -> PublishedConfig:
    """The configuration of a RoFormer checkpoint.

    Args:
        checkpoint: its file; the YAML file beside it has its name, or is the only one.

    Raises:
        ModelError: there is no such YAML file, or it describes another network.
    """
    path = _beside(checkpoint)
    content = read_yaml(path)
    model, training, audio = (_part(content, name, path) for name in ("model", "training", "audio"))
    if unknown := sorted(
        key
        for key, value in ((str(key), value) for key, value in model.items())
        if key not in _SETTINGS | {"stereo", "num_stems"}
        and not key.startswith(_OF_TRAINING)
        and (key not in _WITHOUT or value != _WITHOUT[key])
    ):
        raise ModelError(f"{path}: model.{unknown[0]} is no setting of the RoFormers that can be read here")
    names, target, stereo = (
        training.get("instruments", []),
        training.get("target_instrument"),
        model.get("stereo", False),
    )
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ModelError(f"{path}: training.instruments should list the names of the stems")
    if target is not None and not isinstance(target, str):
        raise ModelError(f"{path}: training.target_instrument should be the name of a stem")
    if not isinstance(stereo, bool):
        raise ModelError(f"{path}: model.stereo should be true or false")
    sources = tuple(names) if target is None else (target,)
    stems = _number(model, "model.num_stems", 1, path)
    if len(sources) != stems:
        raise ModelError(f"{path}: model.num_stems is {stems}, and the stems are {sources}")
    rest = next((name for name in names if name not in sources), "other")
    rate = _number(audio, "audio.sample_rate", 44100, path)
    window = _number(audio, "audio.chunk_size", 352_800, path)
    hop = _number(model, "model.stft_hop_length", 512, path)
    settings: dict[str, Any] = {key: value for key, value in model.items() if key in _SETTINGS} | {"stereo": stereo}
    return PublishedConfig(
        network="mel-band-roformer" if "num_bands" in model else "bs-roformer",
        sources=sources,
        stems=(*(name for name in sources if name != rest), rest),
        settings=(settings,),
        sample_rate=rate,
        window=window,
        context=window // 16,
        hop=hop,
        channels=2 if stereo else 1,
    )


def _beside(checkpoint: Path) -> Path:
    named = checkpoint.with_suffix(".yaml")
    found = [named] if named.is_file() else sorted(checkpoint.parent.glob("*.y*ml"))
    if len(found) != 1:
        raise ModelError(
            f"a RoFormer needs its configuration: put the YAML file of its authors beside it, as {named.name}"
        )
    return found[0]


def _number(part: dict[str, Any], name: str, default: int, path: Path) -> int:
    """A whole number of a part of the configuration, by its dotted name."""
    value = part.get(name.partition(".")[2], default)
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ModelError(f"{path}: {name} should be a whole number above 0")
    return value


def _part(content: dict[str, Any], name: str, path: Path) -> dict[str, Any]:
    part = content.get(name)
    if not isinstance(part, dict):
        raise ModelError(f"{path} is no configuration of a RoFormer: it has no {name!r}")
    return part
