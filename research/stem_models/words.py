"""Words asked of a recording, and of the stem of a specialist that holds them: SI-SDR beside the true source.

python -m research.stem_models.words song/mixture.wav "electric guitar=song/guitars.wav" --stems htdemucs
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

from audiosep.api import load
from audiosep.audio import read_audio
from audiosep.inference.options import Options
from audiosep.metrics import si_sdr
from audiosep.separator import Separator


def compare(separator: Separator, mixture: Path, word: str, truth: Path) -> str:
    """A line with the scores of a word.

    Args:
        separator: with a specialist.
        mixture: the recording.
        word: the query.
        truth: the source that it means, as long as the mixture.
    """
    mix, rate = read_audio(mixture)
    source = read_audio(truth)[0]
    scores = [_score(mix, source)]
    for by_stems in (False, None):
        estimate = separator.separate(mix, word, sample_rate=rate, options=Options(stem_head=by_stems))
        scores.append(_score(estimate[word], source))
    stem = separator.stems_holding(word).get(word, "no stem")
    return f"{word}: mixture {scores[0]:.2f}, asked of it {scores[1]:.2f}, asked of {stem} {scores[2]:.2f} dB"


def _score(estimate: np.ndarray, truth: np.ndarray) -> float:
    flat = [torch.from_numpy(np.asarray(x, np.float64).reshape(-1)) for x in (estimate, truth)]
    return float(si_sdr(flat[0], flat[1]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mixture", type=Path)
    parser.add_argument("words", nargs="+", metavar="WORD=FILE")
    parser.add_argument("--model", default="mini")
    parser.add_argument("--stems", default="htdemucs")
    given = parser.parse_args()
    separator = load(given.model, "cpu", sounds=False, stems=given.stems)
    for pair in given.words:
        word, _, truth = pair.partition("=")
        print(compare(separator, given.mixture, word, Path(truth)))


if __name__ == "__main__":
    main()
