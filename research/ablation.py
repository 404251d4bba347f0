"""What each part of a separator and its training contributes: short runs that differ in one option.

    python -m research.ablation separator.json -o runs/ablation
    python -m research.ablation separator.json -o runs/ablation --only base,wide   # others on another core
    python -m research.ablation separator.json -o runs/ablation --table --into research/mini.md

Data, captions, listener and most of the sampling are those of the given configuration of a separation run; the network
is small and starts with random weights except for its trained listener, in batches of 4 mixtures, with Muon. All runs
train for the same minutes on the same machine, so that a slow part has fewer steps. `base` runs a second time with
another seed: smaller differences than between the two are not significant.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from audiosep.atomic import write_text
from audiosep.errors import AudioSepError, ConfigError, InputError, TrainingError
from audiosep.training.run_config import merge
from research.finished_runs import last_validation
from research.pages import find_place, put

MINUTES = 8.0
_LOSSES = ({"name": "band_snr", "weight": 0.15, "absent": 0.3}, {"name": "band_magnitude", "weight": 1.0})
_SI_SDR = {"name": "band_si_sdr", "weight": 0.2}
SHORT: dict[str, Any] = {
    "model": {
        "widths": [32, 64, 96, 128], "patch": [4, 4], "tags": True,
        "relisten": True, "refinements": 1,
    },
    "options": {"validation_items": 450, "losses": [_SI_SDR, *_LOSSES]},
    "sampling": {"mixtures": 4},
    "trainer": {
        "init": None, "steps": None, "compile": False, "optimizer": "muon", "learning_rate": 0.008, "warmup": 40,
        "weight_decay": 0.1, "ema": 0.99, "validate_minutes": None, "validate_steps": None, "checkpoint_minutes": 5.0,
    },
}  # fmt: skip
_NO_LISTENER: dict[str, Any] = {
    "model": {"listener": None, "tags": False, "relisten": False, "refinements": 0, "mix_temperature": None},
    "options": {"listener": "", "train_listener": False, "audio": 0.0, "mixed": 0.0},
}


@dataclass(frozen=True)
class Variant:
    """One run.

    Attributes:
        name: of the run.
        about: how it differs from `base`.
        change: of the short configuration.
    """

    name: str
    about: str
    change: Mapping[str, Any]


VARIANTS = (
    Variant("base", "listener with tags, one refinement, 32 to 128 channels, three losses", {}),
    Variant("again", "the same with another seed", {"seed": 1, "trainer": {"seed": 1}}),
    Variant("once", "no refinement", {"model": {"refinements": 0, "mix_temperature": None}}),
    Variant("no-tags", "the decoder does not see the listener's tags", {"model": {"tags": False}}),
    Variant("no-listener", "no listener, hence no audio queries", _NO_LISTENER),
    Variant("narrow", "16 to 64 channels", {"model": {"widths": [16, 32, 48, 64]}}),
    Variant("wide", "64 to 224 channels", {"model": {"widths": [64, 128, 160, 224]}}),
    Variant("fine", "patches of 2 x 2 instead of 4 x 4", {"model": {"patch": [2, 2]}}),
    Variant("no-si-sdr", "without SI-SDR in the loss", {"options": {"losses": list(_LOSSES)}}),
    Variant("magnitudes", "only magnitudes in the loss", {"options": {"losses": list(_LOSSES[1:])}}),
)
# Column -> validation number and its format.
_COLUMNS = {
    "a, dB": ("val/a/si_sdri", ".2f"),
    "better": ("val/a/better", ".0%"),
    "b": ("val/b/si_sdri", ".2f"),
    "e": ("val/e/si_sdri", ".2f"),
    "g": ("val/g/si_sdri", ".2f"),
    "c: level": ("val/c/level_db", ".1f"),
    "AUC": ("val/presence_auc", ".3f"),
}


def configuration(base: Mapping[str, Any], variant: Variant, minutes: float = MINUTES) -> dict[str, Any]:
    """Make the configuration of one run.

    Args:
        base: JSON data of the configuration of a separation run.
        variant: what to change.
        minutes: of training.

    Raises:
        ConfigError: the base is of another task, or has no validation recipe.
    """
    if base.get("task") != "separation":
        raise ConfigError(
            f"an ablation starts from the configuration of a separation run, got task {base.get('task')!r}"
        )
    if not base.get("options", {}).get("validation"):
        raise ConfigError("options.validation: the runs are compared by a validation recipe; name one")
    short = merge(merge(base, SHORT), {"trainer": {"minutes": minutes}})
    return merge(short, variant.change)


def run(base: Mapping[str, Any], variant: Variant, folder: Path, minutes: float = MINUTES) -> None:
    """Train one variant in a process of its own; a finished run is not repeated.

    Args:
        base: JSON data of the configuration of a separation run.
        variant: what to change.
        folder: of all runs; this one is in a folder named after the variant.
        minutes: of training.

    Raises:
        ConfigError: as `configuration`; or the folder holds a run of another configuration.
        TrainingError: the run failed or was stopped; it has printed its own message.
    """
    config = configuration(base, variant, minutes)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{variant.name}.json"
    if result(folder, variant) is not None:
        if json.loads(path.read_text(encoding="utf-8")) != config:
            raise ConfigError(f"{folder / variant.name} holds a run of another configuration: choose another folder")
        return
    write_text(path, json.dumps(config, indent=1) + "\n")
    command = [sys.executable, "-m", "audiosep", "train", str(path), "-o", str(folder / variant.name)]
    code = subprocess.run(command, check=False).returncode
    if result(folder, variant) is None:
        raise TrainingError(
            f"the run {variant.name} ended before its time (exit code {code}); the same command resumes it"
        )


def result(folder: Path, variant: Variant) -> dict[str, Any] | None:
    """Read the last validation of a finished run.

    Args:
        folder: of all runs.
        variant: whose run.

    Returns:
        Its numbers with "steps", "items" and "parameters"; None if the run is not finished.
    """
    if (found := last_validation(folder / variant.name)) is None:
        return None
    about = json.loads((folder / variant.name / "config.json").read_text(encoding="utf-8"))
    return found | {"parameters": about["parameters"]}


def table(folder: Path) -> str:
    """Make a Markdown table with a row for each finished run.

    Args:
        folder: of all runs.

    Raises:
        InputError: no run is finished.
    """
    found = [(variant, values) for variant in VARIANTS if (values := result(folder, variant)) is not None]
    if not found:
        raise InputError(f"{folder} holds no finished run of an ablation")
    head = ["run", "what differs", "M parameters", "queries", *_COLUMNS]
    rows = [" | ".join(head), "|".join(["---", "---", *["---:"] * (len(head) - 2)])]
    for variant, values in found:
        numbers = [format(values[key], style) if key in values else "–" for key, style in _COLUMNS.values()]
        size = f"{values['parameters'] / 1e6:.2f}"
        rows.append(" | ".join([variant.name, variant.about, size, f"{values['items']:.0f}", *numbers]))
    minutes = max(values["minutes"] for _, values in found)
    note = (
        f"{minutes:.0f} minutes of training each, from random weights. Queries: trained on in that time. a to g: "
        "SI-SDRi of part of the validation recipe, whose groups docs/mini.md describes; c: median level of the "
        "output if the sound is absent, dB; AUC: of presence."
    )
    return "\n".join([*(f"| {row} |" for row in rows), "", *textwrap.wrap(note, 120)]) + "\n"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line, see the module's description."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path, help="configuration of a separation run")
    parser.add_argument("--out", "-o", type=Path, required=True, help="folder of the runs; a stopped run resumes")
    parser.add_argument("--only", help=f"some of {','.join(v.name for v in VARIANTS)}")
    parser.add_argument("--minutes", type=float, default=MINUTES, help=f"of training, each ({MINUTES:.0f})")
    parser.add_argument("--table", action="store_true", help="do not train, only print the table of finished runs")
    parser.add_argument("--into", type=Path, help="page with <!-- ablation --> and <!-- end of ablation -->")
    args = parser.parse_args(arguments)
    names = args.only.split(",") if args.only else [variant.name for variant in VARIANTS]
    unknown = sorted(set(names) - {variant.name for variant in VARIANTS})
    if unknown:
        parser.error(f"{unknown[0]!r} is not one of {', '.join(v.name for v in VARIANTS)}")
    try:
        if args.into is not None:
            find_place(args.into, "ablation")  # fails now, not after hours of training
        if not args.table:
            base = json.loads(args.config.read_text(encoding="utf-8"))
            for variant in VARIANTS:
                if variant.name in names:
                    run(base, variant, args.out, args.minutes)
        text = table(args.out)
    except (AudioSepError, OSError, json.JSONDecodeError) as error:
        parser.exit(1, f"{error}\n")
    if args.into is not None:
        put(text, args.into, "ablation")
    print(text, end="")


if __name__ == "__main__":
    main()
