"""LAION's CLAP checkpoints as a folder of `transformers.ClapModel`: sizes and names of their tensors.

Wu et al., "Large-Scale Contrastive Language-Audio Pretraining with Feature Fusion and Keyword-to-Caption
Augmentation" (ICASSP 2023), https://arxiv.org/abs/2211.06687: HTS-AT as audio tower, RoBERTa as text tower.
"""

from __future__ import annotations

import math
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from audiosep.atomic import make_folder
from audiosep.convert.renaming import rename
from audiosep.errors import ModelError
from audiosep.weights.catalogue import expand_home

TOKENIZER = "FacebookAI/roberta-base"
TOKENIZER_FILES = ("tokenizer.json", "vocab.json", "merges.txt")

# What embeddings do not need: filter banks and position tables, which ClapModel computes itself, the AudioSet
# classifier, and the layers behind the embedding that only the training loss used.
UNUSED = re.compile(
    r"audio_branch\.(spectrogram_extractor|logmel_extractor|tscam_conv|head)\."
    r"|audio_branch\.layers\.\d+\.blocks\.\d+\.(attn_mask|attn\.relative_position_index)$"
    r"|(audio|text)_transform\.|text_branch\.embeddings\.position_ids$"
)
COMPUTED = ("position_ids", "token_type_ids", "relative_position_index")

_AUDIO = (
    ("layernorm_before", "norm1"),
    ("layernorm_after", "norm2"),
    ("attention.output.dense", "attn.proj"),
    ("attention.self", "attn"),
    ("intermediate.dense", "mlp.fc1"),
    ("output.dense", "mlp.fc2"),
    ("batch_norm", "bn0"),
)


def write_clap(state: Mapping[str, Tensor], folder: Path, tokenizer: str | Path | None = None) -> None:
    """Write a CLAP for `transformers.ClapModel`: weights, configuration, feature extractor, tokenizer.

    Args:
        state: LAION's names -> tensors.
        folder: is made.
        tokenizer: see `write_tokenizer`.

    Raises:
        ModelError: a key is missing, unknown or of the wrong shape, or there is no tokenizer.
    """
    from transformers import ClapConfig, ClapFeatureExtractor, ClapModel

    sizes = _sizes(state)
    model = ClapModel(ClapConfig(**sizes, architectures=["ClapModel"]))
    ours = {key: value for key, value in model.state_dict().items() if not key.endswith(COMPUTED)}
    weights = rename(_split(state), {laion_name(key): key for key in ours}, ours, UNUSED)
    make_folder(folder)
    model.config.save_pretrained(folder)
    tensors = {key: value.contiguous() for key, value in (model.state_dict() | weights).items()}
    try:
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    except SafetensorError as error:
        raise ModelError(f"{folder} cannot be written ({error}): free space or choose another folder") from error
    (folder / "model.safetensors").chmod(0o644)  # safetensors makes it private to the user
    fusion = bool(sizes["audio_config"]["enable_fusion"])
    extractor = ClapFeatureExtractor(
        feature_size=sizes["audio_config"]["num_mel_bins"],
        frequency_min=50,
        frequency_max=14000,
        truncation="fusion" if fusion else "rand_trunc",
        padding="repeatpad",
    )
    extractor.save_pretrained(folder)
    write_tokenizer(tokenizer, folder, sizes["text_config"]["vocab_size"])


def laion_name(key: str) -> str:
    """LAION's name of a tensor of `ClapModel`.

    >>> laion_name("audio_model.audio_encoder.layers.0.blocks.1.attention.output.dense.weight")
    'audio_branch.layers.0.blocks.1.attn.proj.weight'
    >>> laion_name("text_projection.linear2.bias")
    'text_projection.2.bias'
    """
    if key.startswith("audio_model.audio_encoder."):
        key = key.replace("audio_model.audio_encoder.", "audio_branch.")
        for ours, theirs in _AUDIO:
            key = key.replace(f".{ours}.", f".{theirs}.")
        return key
    key = key.replace("text_model.", "text_branch.")
    return key.replace("_projection.linear1.", "_projection.0.").replace("_projection.linear2.", "_projection.2.")


def write_tokenizer(source: str | Path | None, folder: Path, vocabulary: int) -> None:
    """Write RoBERTa's tokenizer, which the checkpoints do not hold.

    Args:
        source: a folder with tokenizer.json, or with vocab.json and merges.txt; a hub id; None for `TOKENIZER`.
        folder: of the CLAP, with its config.json.
        vocabulary: tokens that the model has.

    Raises:
        ModelError: there are no such files, or they make another vocabulary.
    """
    from transformers import AutoTokenizer

    given = None if source is None else expand_home(source)
    files = _local(given) if given is not None and given.exists() else _fetched(str(source or TOKENIZER))
    for file in files:
        shutil.copy2(file, folder / file.name)
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # whatever damaged JSON makes the tokenizers raise
        raise ModelError(f"the tokenizer of {source or TOKENIZER} cannot be read: {error}") from error
    if len(tokenizer) != vocabulary:
        raise ModelError(
            f"the tokenizer of {source or TOKENIZER} knows {len(tokenizer)} tokens, the model {vocabulary}: it is not "
            "the one that this CLAP was trained with; give RoBERTa's (roberta-base)"
        )
    for file in files:
        (folder / file.name).unlink()
    tokenizer.save_pretrained(folder)


def _local(folder: Path) -> list[Path]:
    files = [folder / name for name in TOKENIZER_FILES if (folder / name).is_file()]
    names = {file.name for file in files}
    if "tokenizer.json" not in names and not {"vocab.json", "merges.txt"} <= names:
        raise ModelError(f"{folder} holds no tokenizer: it needs tokenizer.json, or vocab.json and merges.txt")
    return files


def _fetched(name: str) -> list[Path]:
    """The files of a tokenizer on the hub."""
    from huggingface_hub import hf_hub_download

    try:
        return [Path(hf_hub_download(name, "tokenizer.json"))]
    except Exception as error:  # the hub's client raises many kinds: no network, no such repository, offline mode
        raise ModelError(
            f"a CLAP checkpoint holds no tokenizer, and that of {name} could not be fetched "
            f"({type(error).__name__}: {str(error).splitlines()[0]}). On a machine with a network: "
            f"`hf download {name} tokenizer.json --local-dir FOLDER`; then give that folder as the tokenizer"
        ) from error


def _split(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`state` with the fused attention inputs of the audio tower as three tensors."""
    split = {}
    for key, value in state.items():
        if ".attn.qkv." in key:
            for name, part in zip(("query", "key", "value"), value.chunk(3), strict=True):
                split[key.replace(".qkv.", f".{name}.")] = part.contiguous()
        else:
            split[key] = value
    return split


def _sizes(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Arguments of `ClapConfig` whose tensors have the shapes of `state`.

    The shapes do not tell the number of heads of the text tower: RoBERTa has one for each 64 features.
    """
    try:
        return {
            "projection_dim": state["text_projection.2.weight"].shape[0],
            "text_config": _text_sizes(state, "text_branch."),
            "audio_config": _audio_sizes(state, "audio_branch."),
        }
    except (KeyError, IndexError) as error:
        raise ModelError(
            f"not a LAION CLAP with an HTS-AT audio tower and a RoBERTa text tower: {error} is missing"
        ) from error


def _text_sizes(state: Mapping[str, Tensor], at: str) -> dict[str, Any]:
    vocabulary, hidden = state[f"{at}embeddings.word_embeddings.weight"].shape
    return {
        "vocab_size": vocabulary,
        "hidden_size": hidden,
        "num_hidden_layers": _count(state, rf"{at}encoder\.layer\.(\d+)\."),
        "num_attention_heads": max(1, hidden // 64),
        "intermediate_size": state[f"{at}encoder.layer.0.intermediate.dense.weight"].shape[0],
        "max_position_embeddings": state[f"{at}embeddings.position_embeddings.weight"].shape[0],
        "type_vocab_size": state[f"{at}embeddings.token_type_embeddings.weight"].shape[0],
        "layer_norm_eps": 1e-5,
    }


def _audio_sizes(state: Mapping[str, Tensor], at: str) -> dict[str, Any]:
    width, _, patch, _ = state[f"{at}patch_embed.proj.weight"].shape
    stages = range(_count(state, rf"{at}layers\.(\d+)\."))
    tables = [state[f"{at}layers.{i}.blocks.0.attn.relative_position_bias_table"].shape for i in stages]
    fusion = f"{at}patch_embed.fusion_model.local_att.0.weight"
    sizes = {
        "num_mel_bins": state[f"{at}bn0.weight"].shape[0],
        "patch_size": patch,
        "patch_stride": [patch, patch],
        "patch_embeds_hidden_size": width,
        "hidden_size": state[f"{at}norm.weight"].shape[0],
        "depths": [_count(state, rf"{at}layers\.{i}\.blocks\.(\d+)\.") for i in stages],
        "num_attention_heads": [heads for _, heads in tables],
        "num_hidden_layers": len(stages),
        "window_size": (math.isqrt(tables[0][0]) + 1) // 2,
        "mlp_ratio": state[f"{at}layers.0.blocks.0.mlp.fc1.weight"].shape[0] / width,
        "enable_fusion": fusion in state,
    }
    return sizes | (
        {"fusion_type": "aff_2d", "aff_block_r": width // state[fusion].shape[0]} if fusion in state else {}
    )


def _count(state: Mapping[str, Tensor], pattern: str) -> int:
    found = {int(match[1]) for key in state if (match := re.match(pattern, key))}
    return max(found, default=-1) + 1
