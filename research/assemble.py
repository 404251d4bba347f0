"""From finished runs to the folder that ships: separator, query encoder, recipe and model card in one place.

    python -m research.assemble --separator RUN/model --text RUN/model --manifest manifest.jsonl \\
        --recipe listener.json separator.json --card research/mini-card.md --out checkpoints/mini
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from audiosep.data.manifest import Clip, read_manifest
from audiosep.errors import ConfigError
from audiosep.models.hybrid import Hybrid
from audiosep.models.listener import Listener
from audiosep.query.mini import MiniEncoder
from audiosep.training.tower_files import TextTowerEncoder, load_listener
from audiosep.weights.checkpoint import load_model, read_config, save_model

TRAINED_ON = "<!-- trained on -->"
SMALL = 0.01  # hours; credits of less share lines


def assemble(
    separator: Path,
    text: Path,
    out: Path,
    *,
    listener: Path | None = None,
    mask_floor: float | None = None,
    mix_temperature: float | None = None,
    presence_exponent: float | None = None,
    name: str,
    licence: str,
) -> Path:
    """Write a model folder that `load` reads, in half precision.

    Args:
        separator: folder that a separation run exported. text: folder that a text run exported, or a whole model.
        listener: what hears the audio queries, where the separator's own went on learning; see `load_listener`.
        out: made if missing.
        mask_floor, mix_temperature, presence_exponent: see `HybridConfig`; None for those of the run.
        name, licence: of the weights.

    Raises:
        ConfigError: the separator has no listener, so it cannot hear audio queries.
    """
    model, _ = load_model(separator)
    if not isinstance(model, Hybrid) or model.config.listener is None:
        raise ConfigError(f"{separator} is no hybrid with a listener")
    given: dict[str, Any] = {
        "mask_floor": mask_floor,
        "mix_temperature": mix_temperature,
        "presence_exponent": presence_exponent,
    }
    config = replace(model.config, **{key: value for key, value in given.items() if value is not None})
    model.config = config
    read = TextTowerEncoder.read(text)
    out.mkdir(parents=True, exist_ok=True)
    ears = model.listener
    if listener is not None:
        ears = Listener(model.config.listener)
        load_listener(ears, listener)
    query = MiniEncoder(read.tower, read.words, ears, name).save(out)
    return save_model(out, model, query=query, extra={"name": name, "licence": licence}, half=True)


def trained_on(clips: Sequence[Clip]) -> str:
    """Markdown: hours by family; then every credit, its licences, and the hours of training audio that it touches."""
    families: dict[str, float] = defaultdict(float)
    hours: dict[str, float] = defaultdict(float)
    licences: dict[str, set[str]] = defaultdict(set)
    for clip in clips:
        if clip.split == "train":
            families[clip.family] += clip.seconds / 3600
            for credit in {part.strip() for part in clip.credit.split(";")}:
                hours[credit] += clip.seconds / 3600
                licences[credit].add(clip.licence)
    parts = ", ".join(f"{family} {time:.1f}" for family, time in sorted(families.items()))
    lines = [f"{sum(families.values()):.1f} hours of clips: {parts}.", ""]
    lines += ["| hours | credit | licence of the clips |", "|---|---|---|"]
    small: dict[str, list[str]] = defaultdict(list)
    for credit, time in sorted(hours.items(), key=lambda item: (-item[1], item[0])):
        # What is part of many songs, such as an impulse response, meets the licences of all their other sounds.
        own = sorted(licences[credit]) if len(licences[credit]) <= 2 else ["part of songs, see their sounds"]
        if time >= SMALL:
            lines.append(f"| {time:.2f} | {credit} | {' / '.join(own)} |")
        else:
            small[" / ".join(own)].append(credit)
    lines += [f"\nLess than {SMALL} hours each:\n"] if small else []
    lines += [f"- {licence}: {'; '.join(sorted(names))}" for licence, names in sorted(small.items())]
    return "\n".join(lines)


def recipe(paths: Sequence[Path]) -> dict[str, Any]:
    """The configurations of the runs, without the places of this machine."""
    return {path.stem: _portable(json.loads(path.read_text(encoding="utf-8"))) for path in paths}


def _portable(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _portable(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_portable(item) for item in value]
    if isinstance(value, str) and Path(value).is_absolute():
        return Path(value).name
    return value


def main() -> None:
    """Command line, see the module's description."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--separator", type=Path, required=True)
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--listener", type=Path, help="what hears audio queries, if the separator's own was tuned")
    parser.add_argument("--mask-floor", type=float, help="smallest mask of a query, an amplitude")
    parser.add_argument("--mix-temperature", type=float, help="temperature of the mean over all masks")
    parser.add_argument("--presence-exponent", type=float, help="multiply masks by this power of their presence")
    parser.add_argument("--manifest", type=Path, required=True)
    parser.add_argument("--recipe", type=Path, nargs="+", required=True)
    parser.add_argument("--card", type=Path, required=True, help=f"model card with {TRAINED_ON} where the table goes")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--name", default="mini")
    parser.add_argument("--licence", default="MIT")
    args = parser.parse_args()
    card = args.card.read_text(encoding="utf-8")
    if TRAINED_ON not in card:
        raise ConfigError(f"{args.card} has no line {TRAINED_ON}")
    settings: dict[str, Any] = {
        "mask_floor": args.mask_floor,
        "mix_temperature": args.mix_temperature,
        "presence_exponent": args.presence_exponent,
        "name": args.name,
        "licence": args.licence,
    }
    folder = assemble(args.separator, args.text, args.out, listener=args.listener, **settings)
    card = card.replace(TRAINED_ON, trained_on(read_manifest(args.manifest)))
    (folder / "MODEL_CARD.md").write_text(card, encoding="utf-8")
    (folder / "train.json").write_text(json.dumps(recipe(args.recipe), indent=2) + "\n", encoding="utf-8")
    size = sum(file.stat().st_size for file in folder.iterdir()) / 2**20
    print(f"{folder}: {read_config(folder)['name']}, {size:.1f} MiB")


if __name__ == "__main__":
    main()
