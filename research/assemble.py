"""Assemble the shipped model folder from finished runs: separator, query encoder, configurations and model card.

    python -m research.assemble --separator RUN/model --text RUN/model --manifest manifest.jsonl \\
        --runs listener.json separator.json --card research/mini-card.md --out checkpoints/mini
"""

from __future__ import annotations

import argparse
import copy
import json
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from audiosep.atomic import write_text
from audiosep.data.manifest import Clip, read_manifest
from audiosep.errors import ConfigError
from audiosep.models.hybrid import Hybrid
from audiosep.query.mini import MiniEncoder
from audiosep.training.tower_files import TextTowerEncoder, load_listener
from audiosep.weights.checkpoint import load_model, save_model
from audiosep.weights.model_config import read_config

TRAINED_ON = "<!-- trained on -->"
SMALL_HOURS = 0.01  # credits with fewer hours share lines


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
        separator: folder that a separation run exported.
        text: folder that a text run exported, or a whole model.
        out: made if missing.
        listener: the frozen listener that embeds audio queries, if the separator's own was trained; see
            `load_listener`.
        mask_floor: see `HybridConfig`; None for that of the run.
        mix_temperature: see `HybridConfig`; None for that of the run.
        presence_exponent: see `HybridConfig`; None for that of the run.
        name: of the model.
        licence: of the weights.

    Returns:
        The folder.

    Raises:
        ConfigError: the separator has no listener, so it cannot take audio queries.
    """
    model, _ = load_model(separator)
    if not isinstance(model, Hybrid) or model.config.listener is None:
        raise ConfigError(f"{separator} is no hybrid with a listener")
    given: dict[str, Any] = {
        "mask_floor": mask_floor,
        "mix_temperature": mix_temperature,
        "presence_exponent": presence_exponent,
    }
    model.config = replace(model.config, **{key: value for key, value in given.items() if value is not None})
    text_tower = TextTowerEncoder.read(text)
    out.mkdir(parents=True, exist_ok=True)
    audio_tower = model.listener
    if listener is not None:
        audio_tower = copy.deepcopy(audio_tower)
        load_listener(audio_tower, listener)
    encoder = MiniEncoder(text_tower.tower, text_tower.words, audio_tower, name)
    query = encoder.save(out, with_listener=listener is not None)
    return save_model(out, model, query=query, extra={"name": name, "licence": licence}, half=True)


def trained_on(clips: Sequence[Clip]) -> str:
    """List the training data as Markdown: hours by family; credits with their licences and hours.

    Args:
        clips: of the corpus; only the split "train" is listed.
    """
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
        # Clips of a song carry the licences of all its sounds, so one credit may have many.
        own = sorted(licences[credit]) if len(licences[credit]) <= 2 else ["part of songs, see their sounds"]
        if time >= SMALL_HOURS:
            lines.append(f"| {time:.2f} | {credit} | {' / '.join(own)} |")
        else:
            small[" / ".join(own)].append(credit)
    lines += [f"\nLess than {SMALL_HOURS} hours each:\n"] if small else []
    lines += [f"- {licence}: {'; '.join(sorted(names))}" for licence, names in sorted(small.items())]
    return "\n".join(lines)


def card_of(template: Path, clips: Sequence[Clip], before: Path) -> str:
    """The text of a model card.

    Args:
        template: with the line `TRAINED_ON`, in the place of which the training data are listed.
        clips: of the corpus.
        before: the card that the new one replaces, if there is one.

    Raises:
        ConfigError: the template has no such line, or the new card lacks a credit of the one before.
    """
    text = template.read_text(encoding="utf-8")
    if TRAINED_ON not in text:
        raise ConfigError(f"{template} has no line {TRAINED_ON}")
    text = text.replace(TRAINED_ON, trained_on(clips))
    if before.is_file():
        lost = sorted(credit for credit in _credits(before.read_text(encoding="utf-8")) if credit not in text)
        if lost:
            raise ConfigError(f"add {len(lost)} credits of {before} to {template}: {'; '.join(lost[:5])}")
    return text


def _credits(card: str) -> set[str]:
    """Whose clips the list of training data in a card names."""
    listed = re.search(r"hours of clips: .*?(?=\n## |\Z)", card, re.DOTALL)
    text = listed[0] if listed else ""
    found = set(re.findall(r"^\| [\d.]+ \| (.+) \| [^|]+ \|$", text, re.MULTILINE))
    for line in re.findall(r"^- [^:]+: (.+)$", text, re.MULTILINE):
        found.update(line.split("; "))
    return found


def run_configs(paths: Sequence[Path]) -> dict[str, Any]:
    """Read the configurations of the runs; absolute paths are shortened to file names."""
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
    """Run the command line, see the module's description."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--separator", type=Path, required=True)
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--listener", type=Path, help="listener for audio queries, if the separator's own was trained")
    parser.add_argument("--mask-floor", type=float, help="smallest mask of a query, an amplitude")
    parser.add_argument("--mix-temperature", type=float, help="temperature of the mean over all masks")
    parser.add_argument("--presence-exponent", type=float, help="multiply masks by this power of their presence")
    parser.add_argument("--manifest", type=Path, required=True)
    parser.add_argument("--runs", type=Path, nargs="+", required=True, help="configurations of the runs")
    parser.add_argument("--card", type=Path, required=True, help=f"model card with {TRAINED_ON} where the table goes")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--name", default="mini")
    parser.add_argument("--licence", default="MIT")
    args = parser.parse_args()
    settings: dict[str, Any] = {
        "mask_floor": args.mask_floor,
        "mix_temperature": args.mix_temperature,
        "presence_exponent": args.presence_exponent,
        "name": args.name,
        "licence": args.licence,
    }
    card = card_of(args.card, read_manifest(args.manifest), args.out / "MODEL_CARD.md")
    folder = assemble(args.separator, args.text, args.out, listener=args.listener, **settings)
    write_text(folder / "MODEL_CARD.md", card)
    write_text(folder / "train.json", json.dumps(run_configs(args.runs), indent=2) + "\n")
    size = sum(file.stat().st_size for file in folder.iterdir()) / 2**20
    print(f"{folder}: {read_config(folder)['name']}, {size:.1f} MiB")


if __name__ == "__main__":
    main()
