"""Regenerate laion.json by running laion-clap's own modules with weights by formula.

In an environment of its own, because laion-clap pins numpy < 2:

    pip install laion-clap==1.1.7 torchvision
    python tests/golden/make_laion.py

It works without a network: laion-clap asks the hub for tokenizers and for roberta-base, and gets small stand-ins from
a cache folder made here. Nothing of laion-clap is copied: only the shapes of its weights and its outputs, as numbers.
"""

from __future__ import annotations

import os
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import seeded
import tokenizer
import torch

SEED, RATE = 5000, 48000
TEXTS = ["a dog barking", "an electric guitar solo", "piano", "naïve café: rain, and thunder far away"]
SECONDS = [0.7, 3.3, 10.0]
FIXED = ("spectrogram_extractor", "logmel_extractor", "attn_mask", "relative_position_index", "position_ids")


def main() -> None:
    with tempfile.TemporaryDirectory() as home:
        os.environ |= {"HF_HOME": home, "HF_HUB_OFFLINE": "1", "WANDB_MODE": "disabled"}
        cache(Path(home) / "hub")
        figures = {
            "source": f"laion-clap {version('laion-clap')} CLAP_Module(amodel='HTSAT-tiny', tmodel='roberta'), roberta "
            f"of {ROBERTA}, transformers {version('transformers')}",
            "weights": "seeded.state(shapes, seed), all but what the modules compute themselves",
            "seed": SEED,
            "texts": TEXTS,
            "seconds": SECONDS,
            "plain": (plain := run(fusion=False)),
            "fused": (fused := run(fusion=True)),
        }
    for key in plain["shapes"]:
        fused["shapes"].pop(key)  # both have them
    path = Path(__file__).with_name("laion.json")
    path.write_text(seeded.dumps(figures))
    sys.stdout.write(f"{path}: {path.stat().st_size} bytes\n")


ROBERTA = {
    "vocab_size": len(tokenizer.vocabulary()),
    "hidden_size": 768,
    "num_hidden_layers": 2,
    "num_attention_heads": 12,
    "intermediate_size": 256,
    "max_position_embeddings": 514,
    "type_vocab_size": 1,
    "layer_norm_eps": 1e-5,
    "pad_token_id": 1,
    "bos_token_id": 0,
    "eos_token_id": 2,
}


def cache(hub: Path) -> None:
    """Stand-ins for what laion-clap fetches, laid out as the hub's client does."""
    for name in ("roberta-base", "bert-base-uncased", "facebook/bart-base"):
        folder = hub / f"models--{name.replace('/', '--')}"
        snapshot = folder / "snapshots" / ("0" * 40)
        tokenizer.save(snapshot, slow=True)
        (folder / "refs").mkdir()
        (folder / "refs" / "main").write_text("0" * 40)
        if name == "roberta-base":
            from transformers import RobertaConfig, RobertaModel

            RobertaModel(RobertaConfig(**ROBERTA)).save_pretrained(snapshot)
        else:
            (snapshot / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\n")


def run(*, fusion: bool) -> dict[str, Any]:
    """Embeddings of the texts and sounds, and the shapes of all weights."""
    import laion_clap

    module = laion_clap.CLAP_Module(enable_fusion=fusion, amodel="HTSAT-tiny", device="cpu").eval()
    state = module.model.state_dict()
    shapes = {key: tuple(value.shape) for key, value in state.items()}
    learnt = {key: shape for key, shape in shapes.items() if not any(part in key for part in FIXED)}
    weights = {key: torch.from_numpy(value) for key, value in seeded.state(learnt, SEED).items()}
    missing, unexpected = module.model.load_state_dict(weights, strict=False)
    if unexpected or not all(any(part in key for part in FIXED) for key in missing):
        raise SystemExit(f"missing {missing}, unexpected {unexpected}")
    sounds = [torch.from_numpy(seeded.sound(round(s * RATE), SEED, RATE)) for s in SECONDS]
    with torch.no_grad():
        text = module.get_text_embedding(TEXTS, use_tensor=True)
        audio = module.get_audio_embedding_from_data(sounds, use_tensor=True)
    return {
        "text": np.round(text.double().numpy(), 7).tolist(),
        "audio": np.round(audio.double().numpy(), 7).tolist(),
        "shapes": {key: list(shape) for key, shape in sorted(shapes.items())},
    }


if __name__ == "__main__":
    main()
