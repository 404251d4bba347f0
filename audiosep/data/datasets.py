"""Readers of published datasets of speech and effects in the layouts of their owners; their parts become splits."""

from __future__ import annotations

import re
from pathlib import Path

from audiosep.data.manifest import Clip, Split
from audiosep.data.reading import OnError, audio_files, collect, expect_files, group_name, probed

_DNR_PARTS: dict[str, Split] = {"tr": "train", "cv": "val", "tt": "test"}
_DNR_STEMS = {
    "speech": ("speech", "speech", ("people talking", "a person talking")),
    "music": ("music", "music", ("background music", "a piece of music")),
    "sfx": ("sound effects", "event", ("effects", "sounds")),
}


def read_sisec_speech(folder: str | Path, on_error: OnError = "raise") -> list[Clip]:
    """Read the speech of SiSEC's underdetermined mixtures (Vincent et al., 2012: "The Signal Separation Campaign").

    ```
    dev1/
      dev1_female3_src_1.wav ... dev1_female3_src_3.wav        one speaker each, as recorded: these are read
      dev1_male4_src_1.wav ...
      dev1_female3_inst_sim_1.wav, ..._matrix.mat, ..._mix.wav (images in the mixtures and mixtures: ignored)
      dev1_nodrums_src_1.wav, dev1_wdrums_src_1.wav            (music: ignored)
    ```
    `dev` becomes the split train, `test` the split test. The group is the set of speakers that are mixed.

    Args:
        folder: of the files, or of folders that hold them.
        on_error: what to do about broken files: leave them out ("skip") or "raise".

    Raises:
        DataError: another layout, or broken files unless `on_error` is "skip".
    """
    folder = Path(folder)
    named = [
        (path, re.fullmatch(r"((dev|test)\w*?_(female|male)\d*)_src_\d+", path.stem)) for path in audio_files(folder)
    ]
    files = [(path, match) for path, match in named if match is not None]
    expect_files([path for path, _ in files], folder, "dev1_female3_src_1.wav")

    def clip(row: tuple[Path, re.Match[str]]) -> Clip:
        path, match = row
        adult = "woman" if match[3] == "female" else "man"
        split: Split = "test" if match[2] == "test" else "train"
        return probed(
            path,
            id=path.relative_to(folder).with_suffix("").as_posix(),
            label=f"{match[3]} speech",
            captions=(f"a {adult} speaking", "speech"),
            family="speech",
            group=group_name("speaker", match[1]),
            split=split,
        )

    return collect(files, clip, on_error)


def read_dnr(folder: str | Path, on_error: OnError = "raise") -> list[Clip]:
    """Read Divide and Remaster (Petermann et al., 2022: "The Cocktail Fork Problem").

    ```
    dnr_v2/
      tr/1002/                 tr, cv and tt become the splits train, val and test
        mix.wav  annots.csv    (ignored)
        music.wav  sfx.wav  speech.wav
      cv/...  tt/...
    ```

    Args:
        folder: the outer folder.
        on_error: what to do about broken files: leave them out ("skip") or "raise".

    Raises:
        DataError: another layout, or broken files unless `on_error` is "skip".
    """
    folder = Path(folder).absolute()  # the working directory, too, has a name, which may be that of a split
    files = [path for path in audio_files(folder) if path.stem in _DNR_STEMS]
    expect_files(files, folder, "tr/<number>/speech.wav, music.wav, sfx.wav")

    def clip(path: Path) -> Clip:
        label, family, captions = _DNR_STEMS[path.stem]
        return probed(
            path,
            id=path.relative_to(folder).with_suffix("").as_posix(),
            label=label,
            captions=captions,
            family=family,
            group=group_name("mixture", path.parent.relative_to(folder).as_posix()),
            split=_DNR_PARTS.get(path.parent.parent.name, "train"),
        )

    return collect(files, clip, on_error)
