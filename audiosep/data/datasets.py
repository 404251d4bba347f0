"""Readers of published datasets in the layouts of their owners; test and development parts become splits."""

from __future__ import annotations

import re
from pathlib import Path

from audiosep.audio import is_recording
from audiosep.data.manifest import STEMS, Clip, Split
from audiosep.data.queries import STEM_CAPTIONS
from audiosep.data.reading import SPLIT_NAMES, OnError, audio_files, collect, label_of, probed
from audiosep.errors import DataError

_URMP = {
    "vn": "violin", "va": "viola", "vc": "cello", "db": "double bass", "fl": "flute", "ob": "oboe", "cl": "clarinet",
    "sax": "saxophone", "bn": "bassoon", "tpt": "trumpet", "hn": "french horn", "tbn": "trombone", "tba": "tuba",
}  # fmt: skip
_DNR_PARTS: dict[str, Split] = {"tr": "train", "cv": "val", "tt": "test"}
_DNR_STEMS = {
    "speech": ("speech", "speech", ("people talking", "a person talking")),
    "music": ("music", "music", ("background music", "a piece of music")),
    "sfx": ("sound effects", "event", ("effects", "sounds")),
}
_SLAKH_OMITTED = "omitted"
# A compound such as "drumset" counts, but a bassoon is no bass.
_MASS_STEMS = {"vocals": r"\bvocal", "drums": r"\bdrum", "bass": r"\bbass(?![a-z])"}


def read_dsd100(folder: str | Path, on_error: OnError = "raise") -> list[Clip]:
    """Read DSD100 (Liutkus et al., 2017: "The 2016 Signal Separation Evaluation Campaign").

    ```
    DSD100/
      Mixtures/Dev/051 - AM Contra - Heart Peripheral/mixture.wav     (ignored)
      Sources/Dev/051 - AM Contra - Heart Peripheral/                 Dev: train, Test: test
        bass.wav  drums.wav  other.wav  vocals.wav
      Sources/Test/...
    ```

    Args:
        folder: the outer folder.
        on_error: what to do about broken files: leave them out ("skip") or "raise".

    Raises:
        DataError: another layout, or broken files unless `on_error` is "skip".
    """
    folder = Path(folder)
    files = [path for stem in STEMS for path in folder.glob(f"Sources/*/*/{stem}.wav")]
    _expect(files, folder, "Sources/Dev/<song>/vocals.wav")

    def clip(path: Path) -> Clip:
        song, stem = path.parent.name, path.stem
        label = "accompaniment" if stem == "other" else stem
        split: Split = "test" if path.parts[-3].lower() == "test" else "train"
        return _of_song(folder, path, label, STEM_CAPTIONS[stem], stem, song, split)

    return collect(sorted(files), clip, on_error)


def read_mass(folder: str | Path, on_error: OnError = "raise") -> list[Clip]:
    """Read MASS (Vinyes, 2008: "MTG MASS database"), whose files name the excerpt and the instrument.

    ```
    MASS/
      tamy-que_pena_tanto_faz/
        tamy-que_pena_tanto_faz__snip_6_19__guitar.wav        the instrument stands behind the last two underscores
        tamy-que_pena_tanto_faz__snip_6_19__vocals.wav
        tamy-que_pena_tanto_faz__snip_6_19__mix.wav           (ignored)
    ```
    The song is the folder with what stands before the instrument; stems of one song are aligned.

    Args:
        folder: the outer folder.
        on_error: what to do about broken files: leave them out ("skip") or "raise".

    Raises:
        DataError: another layout, or broken files unless `on_error` is "skip".
    """
    folder = Path(folder)
    files = [
        path for path in audio_files(folder) if "__" in path.stem and not path.stem.endswith(("__mix", "__mixture"))
    ]
    _expect(files, folder, "<song>/<song>__snip_<from>_<to>__<instrument>.wav")

    def clip(path: Path) -> Clip:
        song, _, instrument = path.stem.rpartition("__")
        label = label_of(instrument)
        stem = next((name for name, word in _MASS_STEMS.items() if re.search(word, label)), "other")
        captions = STEM_CAPTIONS[stem] if label == stem else ()
        return _of_song(folder, path, label, captions, stem, f"{path.parent.name}/{song}", "train")

    return collect(files, clip, on_error)


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
    _expect([path for path, _ in files], folder, "dev1_female3_src_1.wav")

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
            group=f"speaker:{match[1]}",
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
    folder = Path(folder)
    files = [path for path in audio_files(folder) if path.stem in _DNR_STEMS]
    _expect(files, folder, "tr/<number>/speech.wav, music.wav, sfx.wav")

    def clip(path: Path) -> Clip:
        label, family, captions = _DNR_STEMS[path.stem]
        return probed(
            path,
            id=path.relative_to(folder).with_suffix("").as_posix(),
            label=label,
            captions=captions,
            family=family,
            group=f"mixture:{path.parent.relative_to(folder).as_posix()}",
            split=_DNR_PARTS.get(path.parent.parent.name, "train"),
        )

    return collect(files, clip, on_error)


def read_slakh(folder: str | Path, on_error: OnError = "raise") -> list[Clip]:
    """Read Slakh2100 (Manilow et al., 2019: "Cutting Music Source Separation Some Slakh").

    ```
    slakh2100_flac_redux/
      train/Track00001/          train, validation and test become the splits train, val and test
        metadata.yaml            instruments of the stems: inst_class, midi_program_name, is_drum
        mix.flac                 (ignored)
        stems/S00.flac  S01.flac ...
      omitted/...                (ignored: these tracks are made from MIDI files that other tracks are made from)
    ```
    The label is the instrument of the MIDI program, a caption its class. Only these keys are read, by their
    indentation, so that no YAML parser is needed.

    Args:
        folder: the outer folder.
        on_error: what to do about broken files: leave them out ("skip") or "raise".

    Raises:
        DataError: another layout, or broken files unless `on_error` is "skip".
    """
    folder = Path(folder)
    rows = []
    tracks = (path for path in folder.glob("**/metadata.yaml") if path.parts[-3].lower() != _SLAKH_OMITTED)
    for metadata in sorted(tracks):
        stems = _slakh_stems(metadata.read_text(encoding="utf-8"))
        found = (path for path in sorted((metadata.parent / "stems").glob("*")) if is_recording(path))
        rows += [(path, stems[path.stem]) for path in found if path.stem in stems]
    _expect([path for path, _ in rows], folder, "train/Track00001/metadata.yaml and stems/S00.flac")

    def clip(row: tuple[Path, dict[str, str]]) -> Clip:
        path, about = row
        track, kind = path.parent.parent, about.get("inst_class", "").lower()
        drums = about.get("is_drum", "").lower() == "true" or kind == "drums"
        stem = "drums" if drums else "bass" if kind == "bass" else "other"
        label = "drums" if drums else label_of(about.get("midi_program_name") or kind or "instrument")
        captions = STEM_CAPTIONS["drums"] if drums else (kind,) if kind else ()
        split = SPLIT_NAMES.get(track.parent.name.lower(), "train")
        return _of_song(folder, path, label, captions, stem, track.name, split)

    return collect(rows, clip, on_error)


def read_urmp(folder: str | Path, on_error: OnError = "raise") -> list[Clip]:
    """Read URMP (Li et al., 2018: "Creating a Multitrack Classical Music Performance Dataset").

    ```
    Dataset/
      01_Jupiter_vn_vc/
        AuMix_01_Jupiter_vn_vc.wav                 (ignored, like the notes, the pitches and the video)
        AuSep_1_vn_01_Jupiter.wav                  number of the player, instrument, piece
        AuSep_2_vc_01_Jupiter.wav
    ```

    Args:
        folder: the outer folder.
        on_error: what to do about broken files: leave them out ("skip") or "raise".

    Raises:
        DataError: another layout, an instrument that URMP does not have, or broken files unless `on_error` is "skip".
    """
    folder = Path(folder)
    files = [path for path in audio_files(folder) if path.stem.startswith("AuSep_")]
    _expect(files, folder, "01_Jupiter_vn_vc/AuSep_1_vn_01_Jupiter.wav")

    def clip(path: Path) -> Clip:
        code = [*path.stem.split("_"), "", ""][2]
        if code not in _URMP:
            raise DataError(f"{path}: {code!r} is no instrument of URMP, which are {', '.join(_URMP)}")
        label = _URMP[code]
        return _of_song(folder, path, label, (f"a {label} playing",), "other", path.parent.name, "train")

    return collect(files, clip, on_error)


def _of_song(
    folder: Path, path: Path, label: str, captions: tuple[str, ...], stem: str, song: str, split: Split
) -> Clip:
    """The clip of a file that is part of a song."""
    return probed(
        path,
        id=path.relative_to(folder).with_suffix("").as_posix(),
        label=label,
        captions=captions,
        family="music",
        stem=stem,
        song=song,
        group=f"song:{song}",
        split=split,
    )


def _expect(files: list[Path], folder: Path, layout: str) -> None:
    """Refuse a folder without the files of a layout."""
    if not files:
        raise DataError(f"{folder}: not the published layout; expected {folder.name}/{layout}")


def _slakh_stems(metadata: str) -> dict[str, dict[str, str]]:
    """Stem -> its keys, for the stems that were rendered."""
    stems: dict[str, dict[str, str]] = {}
    for line in metadata.splitlines():
        if match := re.match(r" {2}(S\d+): *$", line):
            stems[match[1]] = {}
        elif stems and (match := re.match(r" {4}(\w+): *['\"]?(.*?)['\"]? *$", line)):
            stems[list(stems)[-1]][match[1]] = match[2]
        elif not line.startswith(" ") and stems:
            break  # the keys of the track follow
    return {name: about for name, about in stems.items() if about.get("audio_rendered", "true").lower() == "true"}
