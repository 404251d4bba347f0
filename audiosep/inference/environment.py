"""What a measurement or a training run depends on besides its own settings: software, processor, threads, devices."""

from __future__ import annotations

import platform
import subprocess
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import torch

from audiosep.inference.threads import available_cpus

PACKAGES = ("audiosep", "torch", "numpy", "transformers", "accelerate", "openvino")


@dataclass(frozen=True)
class Environment:
    """The machine and the software of this process.

    Attributes:
        python: version.
        system: operating system and architecture.
        versions: installed version of each of `PACKAGES`; packages that are not installed are left out.
        git: revision of the checkout that audiosep is imported from, with "-dirty" if it has changes; None without git.
        cpu: name of the processor.
        cpus: how many CPUs this process may use.
        threads: how many threads torch computes with.
        gpus: names of the CUDA devices.
    """

    python: str
    system: str
    versions: dict[str, str]
    git: str | None
    cpu: str
    cpus: int
    threads: int
    gpus: list[str]


def environment() -> Environment:
    """Describe this process."""
    gpus = range(torch.cuda.device_count()) if torch.cuda.is_available() else ()
    versions = {name: version for name in PACKAGES if (version := _version(name)) is not None}
    return Environment(
        python=platform.python_version(),
        system=platform.platform(),
        versions=versions,
        git=_git_revision(),
        cpu=_cpu_name(),
        cpus=available_cpus(),
        threads=torch.get_num_threads(),
        gpus=[torch.cuda.get_device_name(i) for i in gpus],
    )


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _git_revision() -> str | None:
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None


def _cpu_name(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
