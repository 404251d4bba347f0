"""`audiosep doctor`: check this installation and say how to repair it."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal

import typer

import audiosep
from audiosep.cli import common
from audiosep.errors import AudioSepError, ModelError, counted, install_extra

app = common.application()

OPTIONAL = (
    *("transformers", "torchaudio", "torchvision", "av", "accelerate", "tensorboard", "matplotlib", "scipy", "museval"),
    *("fast-bss-eval", "pesq", "pystoi", "onnx", "onnxruntime", "onnxscript", "openvino", "pyyaml"),
    *("laion-clap", "ray", "sounddevice", "demucs", "openunmix", "bs-roformer", "pyloudnorm", "gradio", "mcp"),
)
_REINSTALL = (
    "install audiosep again: pip install --force-reinstall --no-deps . in a checkout of it, or with the path of its "
    "wheel instead of the dot"
)


@dataclass(frozen=True)
class Check:
    """One finding.

    Attributes:
        name: what was looked at.
        state: "ok", "note" (works, but something useful is missing) or "problem".
        found: what is there.
        remedy: what to do; empty when nothing needs doing.
    """

    name: str
    state: Literal["ok", "note", "problem"]
    found: str
    remedy: str = ""


@app.command()
@common.guarded
def doctor(
    model: Annotated[str, typer.Option("--model", "-m", help="The model to try: name, folder or hub id.")] = "mini",
    as_json: common.AsJson = False,
) -> int:
    """Check this installation and say how to repair it; the exit code is 1 if something is broken."""
    checks = []
    for check in diagnose(model):
        checks.append(check)
        if not as_json:
            print(f"{check.state.upper() if check.state == 'problem' else check.state:8} {check.name}: {check.found}")
            if check.remedy:
                print(f"         -> {check.remedy}")
    if as_json:
        common.emit([asdict(check) for check in checks])
    return common.FAILED if any(check.state == "problem" for check in checks) else common.DONE


def diagnose(model: str = "mini") -> Iterator[Check]:
    """Run all checks, in an order in which the first problem explains the later ones.

    Args:
        model: that is tried, as in `audiosep.load`.
    """
    yield Check(
        "audiosep",
        "ok",
        f"{audiosep.__version__} in {Path(audiosep.__file__).parent}, Python {platform.python_version()}, "
        f"{platform.system()} {platform.machine()}",
    )
    yield _guard("torch", _torch)
    yield _guard("device", _device)
    yield _guard("torchaudio", _torchaudio)
    yield _guard("soundfile", _soundfile)
    yield _guard("more formats", _formats)
    yield _guard("models folder", _home)
    yield _guard(f"model {model}", lambda: _model(model))
    yield Check("optional packages", "ok", ", ".join(f"{name} {_version(name) or '-'}" for name in OPTIONAL))


def _guard(name: str, check: Callable[[], Check]) -> Check:
    """The finding of a check; an exception that it raises is a problem too, and the other checks still run."""
    try:
        return check()
    except Exception as error:
        return Check(
            name, "problem", f"{type(error).__name__}: {error}", "install audiosep again in a fresh environment"
        )


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _torch() -> Check:
    import torch

    from audiosep.inference.threads import available_cpus, use_threads

    build = f"CUDA {torch.version.cuda}" if torch.version.cuda else "no CUDA"
    threads = f"{counted(use_threads(), 'thread')} of {counted(available_cpus(), 'CPU')}"
    return Check("torch", "ok", f"{torch.__version__} ({build}), {threads}")


def _device() -> Check:
    import torch

    from audiosep.inference.devices import pick_device, pick_precision

    device = pick_device("auto")
    found = f"{device}, precision {pick_precision('auto', device)}"
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        found += f": {torch.cuda.get_device_name(device)}, {free / 1e9:.1f} of {total / 1e9:.1f} GB free"
    elif torch.version.cuda and shutil.which("nvidia-smi"):
        return Check(
            "device",
            "note",
            f"{found}, although this machine has an NVIDIA driver",
            "compare the driver's CUDA version in nvidia-smi with torch's; install a newer driver or an older torch",
        )
    return Check("device", "ok", found)


def _torchaudio() -> Check:
    """torchaudio imports only beside the torch it was built for; a broken one also breaks transformers."""
    if importlib.util.find_spec("torchaudio") is None:
        return Check("torchaudio", "ok", "not installed; separating does not need it")
    tried = subprocess.run([sys.executable, "-c", "import torchaudio"], capture_output=True, text=True)
    found = _version("torchaudio") or "of unknown version"
    if tried.returncode == 0:
        return Check("torchaudio", "ok", f"{found} beside torch {_version('torch')}")
    reason = (tried.stderr.strip().splitlines() or [f"exit code {tried.returncode}"])[-1]
    return Check(
        "torchaudio",
        "problem",
        f"{found} does not import beside torch {_version('torch')} ({reason}); transformers breaks with it",
        f"pip uninstall torchaudio, if you only separate; to train: {install_extra('train')}; the extra picks a pair "
        "of the same CUDA version",
    )


def _soundfile() -> Check:
    import soundfile

    formats = soundfile.available_formats()
    missing = [name for name in ("WAV", "FLAC", "OGG", "MP3") if name not in formats]
    if "OPUS" not in soundfile.available_subtypes("OGG"):
        missing.append("OPUS")
    found = f"{soundfile.__version__}, {soundfile.__libsndfile_version__}"
    if missing:
        return Check(
            "soundfile",
            "note",
            f"{found}, without {', '.join(missing)}",
            "pip install --force-reinstall soundfile, whose wheels bring a complete libsndfile",
        )
    return Check("soundfile", "ok", found)


def _formats() -> Check:
    """Decoders for what libsndfile does not read: m4a, aac, wma, video."""
    found = []
    broken = ""
    if importlib.util.find_spec("av") is not None:
        try:
            import av

            found.append(f"PyAV {av.__version__}")
        except (ImportError, OSError) as error:
            broken = f"PyAV does not import ({error})"
    ffmpeg = shutil.which("ffmpeg")
    if ffmpeg:
        found.append(f"ffmpeg at {ffmpeg}")
    remedy = f"to read m4a, aac, wma and video files: {install_extra('formats')}; or install ffmpeg"
    if broken:
        return Check("more formats", "problem", "; ".join([broken, *found]), "pip install --force-reinstall av")
    if not found:
        return Check("more formats", "note", "neither PyAV nor ffmpeg", remedy)
    return Check("more formats", "ok", ", ".join(found))


def _home() -> Check:
    from audiosep.weights import catalogue

    try:
        home = catalogue.home()
    except ModelError as error:
        return Check("models folder", "note", str(error), "set AUDIOSEP_HOME to a folder that you may write to")
    place = next(folder for folder in (home, *home.parents) if folder.exists())
    if not os.access(place, os.W_OK):
        return Check(
            "models folder", "note", f"{home} cannot be written", "set AUDIOSEP_HOME to a folder that you may write to"
        )
    names = [name for name, entry in catalogue.MODELS.items() if not entry.bundled and catalogue.installed(name)]
    return Check("models folder", "ok", f"{home}, downloaded: {', '.join(names) or 'none'}")


def _model(name: str) -> Check:
    """Load the model on the CPU and separate a second of noise."""
    import numpy as np

    from audiosep.api import load
    from audiosep.weights import catalogue

    label = f"model {name}"
    bundled = name in catalogue.MODELS and catalogue.MODELS[name].bundled
    try:
        separator = load(name, device="cpu")
        rate = separator.sample_rate
        noise = np.random.default_rng(0).standard_normal(rate).astype(np.float32) * 0.1
        if separator.encoder is None:
            out = next(iter(separator.stems(noise, sample_rate=rate).values()))
        else:
            out = separator.separate(noise, "speech", sample_rate=rate)["speech"]
    except AudioSepError as error:
        return Check(label, "problem", str(error), _REINSTALL if bundled else "")  # errors name their own remedy
    if out.shape != noise.shape or not np.isfinite(out).all():
        return Check(
            label,
            "problem",
            "its output has another length than the input, or is not finite",
            _REINSTALL if bundled else "download, convert or train it again",
        )
    return Check(label, "ok", f"works, {', '.join(sorted(separator.capabilities))}")
