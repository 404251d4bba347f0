"""A byte-level tokenizer by formula, in the files that RoBERTa's comes in: what tests use in its place."""

from __future__ import annotations

import json
from pathlib import Path

from tokenizers import Tokenizer, models, pre_tokenizers
from tokenizers.processors import RobertaProcessing

SPECIAL = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")


def vocabulary() -> dict[str, int]:
    """Special tokens at RoBERTa's places, then one token for every byte, then a few merged ones."""
    tokens = [*SPECIAL[:4], *sorted(pre_tokenizers.ByteLevel.alphabet()), *(a + b for a, b in merges()), SPECIAL[4]]
    return {token: i for i, token in enumerate(tokens)}


def merges() -> list[tuple[str, str]]:
    """Pairs in the order they merge; "Ġ" stands for a space."""
    return [("Ġ", "a"), ("Ġ", "d"), ("i", "n"), ("in", "g"), ("Ġd", "o"), ("Ġdo", "g")]


def save(folder: Path, *, fast: bool = True, slow: bool = False) -> Path:
    """Write the tokenizer.

    Args:
        folder: is made.
        fast: write tokenizer.json. slow: write vocab.json and merges.txt.
    """
    folder.mkdir(parents=True, exist_ok=True)
    vocab = vocabulary()
    if fast:
        tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges()))
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.post_processor = RobertaProcessing(("</s>", vocab["</s>"]), ("<s>", vocab["<s>"]))
        tokenizer.add_special_tokens(list(SPECIAL))
        tokenizer.save(str(folder / "tokenizer.json"))
        special = {"bos_token": "<s>", "eos_token": "</s>", "cls_token": "<s>", "sep_token": "</s>"}
        special |= {"pad_token": "<pad>", "unk_token": "<unk>", "mask_token": "<mask>"}
        settings = {"tokenizer_class": "RobertaTokenizer", "model_max_length": 512, **special}
        (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    if slow:
        (folder / "vocab.json").write_text(json.dumps(vocab))
        (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges()))
    return folder
