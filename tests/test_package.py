"""What is built and installed: the wheel, the sdist, the pinned versions, the public names."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# Public names that resolve on first use.
FUNCTIONS = {"separate", "stems", "load", "use_threads"}
CLASSES = {"Query", "Options", "OutputOptions", "Separator", "Separation", "Stream", "BatchReport", "FileResult"}
CLASSES |= {"BatchEvent", "FinishedFile", "Explanation", "OwnSound", "Prototypes", "Sounds"}
CLASSES |= {"Activity", "Description", "HeardSound", "Span"}


def python(*arguments: str, path: Path = ROOT, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(path)}
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, env=environment, cwd=cwd, check=False
    )


@pytest.fixture(scope="module")
def sources() -> set[str]:
    """What the package and its checkpoints consist of: the tracked files, or where there is no git, those that lie
    there before anything is built."""
    git = subprocess.run(
        ["git", "ls-files", "-z", "audiosep", "checkpoints"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if git.returncode == 0 and git.stdout:
        return set(filter(None, git.stdout.split("\0")))
    found = (path for folder in ("audiosep", "checkpoints") for path in (ROOT / folder).rglob("*") if path.is_file())
    return {path.relative_to(ROOT).as_posix() for path in found if "__pycache__" not in path.parts}


def in_wheel(source: str) -> str:
    return source if source.startswith("audiosep/") else f"audiosep/{source}"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-d", folder], cwd=ROOT, check=True, capture_output=True
    )
    return folder


def test_the_wheel_holds_the_package_and_the_checkpoints(sources: set[str], built: Path) -> None:
    with zipfile.ZipFile(next(built.glob("*.whl"))) as wheel:
        names = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert {"audiosep/checkpoints/README.md", "audiosep/py.typed"} <= names
    assert names >= {in_wheel(source) for source in sources if (ROOT / source).is_file()}
    # Other files may come and go beside them, in an editor or a running training, but nothing from elsewhere.
    others = {name for name in names if not name.startswith("audiosep/") or "__pycache__" in name}
    assert others == set()


def test_the_sdist_can_do_what_the_readme_says(built: Path) -> None:
    with tarfile.open(next(built.glob("*.tar.gz"))) as sdist:
        names = {name.split("/", 1)[1] for name in sdist.getnames()}
    assert {"Makefile", "constraints.txt", "README.md", "LICENSE", "pyproject.toml", ".ci/run", "mkdocs.yml"} <= names
    assert {"CHANGELOG.md", "CONTRIBUTING.md", "docs/assets/style.css", "research/mini.md"} <= names
    assert {"checkpoints/README.md", "examples/demo.py", "examples/audio/reading.flac", "docs/cli.md"} <= names
    assert "tests/test_package.py" in names


def test_the_wheel_works_from_any_folder(built: Path, tmp_path: Path) -> None:
    target = tmp_path / "installed"
    with zipfile.ZipFile(next(built.glob("*.whl"))) as wheel:
        wheel.extractall(target)
    done = python("-c", "import audiosep; print(audiosep.__file__)", path=target, cwd=tmp_path)
    assert Path(done.stdout.strip()).is_relative_to(target)
    done = python("-m", "audiosep", "models", "list", path=target, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "mini" in done.stdout


OFFLINE = """
import socket, sys
import numpy as np

def refuse(*args, **kwargs):
    raise AssertionError("the network was asked for")

socket.socket.connect = socket.socket.connect_ex = socket.socket.sendto = socket.getaddrinfo = refuse
import audiosep
separator = audiosep.load("mini", device="cpu")
assert audiosep.weights.catalogue.locate("mini").is_relative_to(sys.argv[1])
noise = np.random.default_rng(0).standard_normal((2, 8000)).astype(np.float32)
for out in (separator.separate(noise, "a dog barking", sample_rate=44100), separator.stems(noise, sample_rate=44100)):
    assert all(np.isfinite(target).all() for target in out.values())
assert not {"transformers", "huggingface_hub", "torchaudio"} & set(sys.modules)
"""


@pytest.mark.skipif(not (ROOT / "checkpoints" / "mini").is_dir(), reason="this checkout has no weights")
def test_the_embedded_model_works_from_the_wheel_without_a_network(
    built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with zipfile.ZipFile(next(built.glob("*.whl"))) as wheel:
        wheel.extractall(tmp_path / "installed")
    for name in ("HOME", "HF_HOME", "AUDIOSEP_HOME"):  # a machine that has never seen a hub
        monkeypatch.setenv(name, str(tmp_path / "nowhere"))
    done = python("-c", OFFLINE, str(tmp_path / "installed"), path=tmp_path / "installed", cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_constraints_pin_all_that_is_declared() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pins = {
        line.split("==")[0].lower().replace("_", "-")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if not line.startswith("#")
    }
    extras = project["optional-dependencies"]
    declared = [
        *project["dependencies"],
        *(item for name in extras if name != "laion" for item in extras[name]),
    ]
    names = {item.split(">")[0].split("=")[0].split("[")[0].strip().lower().replace("_", "-") for item in declared}
    assert names <= pins
    assert not [line for line in (ROOT / "constraints.txt").read_text().splitlines() if "/" in line]


def test_tests_have_every_extra_and_the_page_of_installation_lists_it() -> None:
    extras = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"])
    installed = re.search(r'--editable "\.\[(.+)\]"', (ROOT / "Makefile").read_text())
    assert installed is not None
    # torchaudio's packages are those of openunmix; laion-clap needs an environment of its own.
    assert set(installed[1].split(",")) == extras - {"torchaudio", "laion"}
    rows = re.findall(r"^\| (`\w+`.*?) \|", (ROOT / "docs" / "index.md").read_text(), re.MULTILINE)
    assert {name for row in rows for name in re.findall(r"`(\w+)`", row)} >= extras


def test_every_public_name_resolves() -> None:
    import audiosep
    from audiosep import errors

    raised = {name for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, Exception)}
    assert set(audiosep.__all__) - {"__version__"} == FUNCTIONS | CLASSES | raised
    for name in audiosep.__all__:
        assert getattr(audiosep, name) is not None
    with pytest.raises(AttributeError, match="separate"):
        _ = audiosep.nonsense


def test_the_space_installs_the_wheel_that_is_built() -> None:
    import audiosep

    lines = (ROOT / "examples" / "space" / "requirements.txt").read_text().splitlines()
    assert [line for line in lines if not line.startswith("#")] == [
        f"./audiosep-{audiosep.__version__}-py3-none-any.whl[studio,formats]"
    ]


def test_messages_install_the_package_from_its_files_and_extras_that_exist() -> None:
    """By its name alone, pip installs whatever a package index has under that name."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    named = set()
    for path in (ROOT / "audiosep").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"pip install (-\S+ )*[\"'`]*audiosep", text), path
        named |= set(re.findall(r"install_extra\([\"'](\w+)[\"']\)", text))
    assert named
    assert named <= set(extras)
