"""Readers of published datasets of songs and their stems in the layouts of their owners; parts become splits."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path

from audiosep.audio import is_recording
from audiosep.data.manifest import STEMS, Clip, Split
from audiosep.data.queries import STEM_CAPTIONS
from audiosep.data.reading import (
    SPLIT_NAMES,
    OnError,
    audio_files,
    collect,
    expect_files,
    group_name,
    label_of,
    probed,
)
from audiosep.errors import DataError

_URMP = {
    "vn": "violin", "va": "viola", "vc": "cello", "db": "double bass", "fl": "flute", "ob": "oboe", "cl": "clarinet",
    "sax": "saxophone", "bn": "bassoon", "tpt": "trumpet", "hn": "french horn", "tbn": "trombone", "tba": "tuba",
}  # fmt: skip
_SLAKH_OMITTED = "omitted"
# The two singers of MIR-1K that Huang et al. (2014, "Singing-Voice Separation from Monaural Recordings using Deep
# Recurrent Neural Networks") train on; the other 17 are their test set.
_MIR1K_TRAINING = {"abjones", "amy"}
# The stem of an instrument; the first that fits. A compound such as "drumset" counts, but a bassoon is no bass.
_STEM_WORDS = {
    "vocals": r"\b(vocal|singer|choir|rapper|screamer)",
    "drums": r"\b(drum|percussion|cymbal|snare|kick|toms?\b|high hat|hi hat|bongo|conga|tambourine|shaker)|\bbass drum",
    "bass": r"\bbass(?![a-z])(?! (clarinet|flute|recorder|saxophone|trombone|viol))",
}


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
    expect_files(files, folder, "Sources/Dev/<song>/vocals.wav")

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
    expect_files(files, folder, "<song>/<song>__snip_<from>_<to>__<instrument>.wav")

    def clip(path: Path) -> Clip:
        song, _, instrument = path.stem.rpartition("__")
        label = label_of(instrument)
        stem = _stem_of(label)
        captions = STEM_CAPTIONS[stem] if label == stem else ()
        return _of_song(folder, path, label, captions, stem, f"{path.parent.name}/{song}", "train")

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
    folder = Path(folder).absolute()  # the working directory, too, has a name, which may be that of a split
    rows = []
    tracks = (path for path in folder.glob("**/metadata.yaml") if path.parts[-3].lower() != _SLAKH_OMITTED)
    for metadata in sorted(tracks):
        stems = _slakh_stems(metadata.read_text(encoding="utf-8"))
        folder_of_stems = metadata.parent / "stems"
        found = {path.stem: path for path in sorted(folder_of_stems.glob("*")) if is_recording(path)}
        suffix = next(iter(found.values())).suffix if found else ".flac"
        # One that was rendered and is not there is a broken file, which is named with the others.
        rows += [(found.get(name, folder_of_stems / f"{name}{suffix}"), about) for name, about in stems.items()]
    expect_files([path for path, _ in rows], folder, "train/Track00001/metadata.yaml and stems/S00.flac")

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
    expect_files(files, folder, "01_Jupiter_vn_vc/AuSep_1_vn_01_Jupiter.wav")

    def clip(path: Path) -> Clip:
        code = [*path.stem.split("_"), "", ""][2]
        if code not in _URMP:
            raise DataError(f"{path}: {code!r} is no instrument of URMP, which are {', '.join(_URMP)}")
        label = _URMP[code]
        return _of_song(folder, path, label, (f"a {label} playing",), "other", path.parent.name, "train")

    return collect(files, clip, on_error)


def read_mir1k(folder: str | Path, on_error: OnError = "raise") -> list[Clip]:
    """Read MIR-1K (Hsu and Jang, 2010: "On the Improvement of Singing Voice Separation").

    ```
    MIR-1K/
      Wavfile/abjones_1_01.wav ...      left: accompaniment, right: voice; singer, song, part
      UndividedWavfile/...              (ignored, like the annotations)
    ```
    The singers abjones and amy become the split train, all others test, as Huang et al. (2014) have it.

    Args:
        folder: the outer folder, or that of the files.
        on_error: what to do about broken files: leave them out ("skip") or "raise".

    Raises:
        DataError: another layout, or broken files unless `on_error` is "skip".
    """
    return _voice_on_the_right(folder, r"([A-Za-z]+)_\d+_\d+", "abjones_1_01.wav", "singer", on_error, _MIR1K_TRAINING)


def read_ikala(folder: str | Path, on_error: OnError = "raise") -> list[Clip]:
    """Read iKala (Chan et al., 2015: "Vocal Activity Informed Singing Voice Separation with the iKala Dataset").

    ```
    iKala/
      Wavfile/10161_chorus.wav  10161_verse.wav ...      left: accompaniment, right: voice
      Lyrics/...  PitchLabel/...                         (ignored)
    ```

    Args:
        folder: the outer folder, or that of the files.
        on_error: what to do about broken files: leave them out ("skip") or "raise".

    Raises:
        DataError: another layout, or broken files unless `on_error` is "skip".
    """
    return _voice_on_the_right(folder, r"(\d+)_(?:chorus|verse)", "10161_chorus.wav", "song", on_error)


def read_medleydb(folder: str | Path, on_error: OnError = "raise", *, bleed: bool = False) -> list[Clip]:
    """Read MedleyDB (Bittner et al., 2014: "MedleyDB: A Multitrack Dataset for Annotation-Intensive MIR Research").

    ```
    MedleyDB/
      Audio/Artist_Song/
        Artist_Song_MIX.wav                           (ignored, like the raw tracks)
        Artist_Song_METADATA.yaml                     or Metadata/Artist_Song_METADATA.yaml: instruments of the stems
        Artist_Song_STEMS/Artist_Song_STEM_01.wav ...
    ```
    The label is the instrument; songs of one artist are a group. Only the needed keys of the metadata are read, by
    their indentation, so that no YAML parser is needed.

    Args:
        folder: the outer folder.
        on_error: what to do about broken files: leave them out ("skip") or "raise".
        bleed: read songs whose stems are marked to hear each other, too.

    Raises:
        DataError: another layout, a song without metadata, or broken files unless `on_error` is "skip".
    """
    folder = Path(folder)
    audio = folder / "Audio" if (folder / "Audio").is_dir() else folder
    rows = []
    mixes = sorted(audio.glob("*/*_MIX.wav"))
    expect_files(mixes, folder, "Audio/<song>/<song>_MIX.wav")
    for mix in mixes:
        song = mix.parent.name
        places = (mix.parent / f"{song}_METADATA.yaml", folder / "Metadata" / f"{song}_METADATA.yaml")
        metadata = next((path for path in places if path.is_file()), None)
        if metadata is None:
            raise DataError(f"{folder}: no {song}_METADATA.yaml, neither beside {mix.name} nor in Metadata/")
        stems, bleeds = _medleydb_stems(metadata.read_text(encoding="utf-8"))
        if bleed or not bleeds:
            rows += [(mix.parent / f"{song}_STEMS" / name, song, label_of(stems[name])) for name in stems]
    if not rows:
        raise DataError(f"{folder}: no song without bleed")

    def clip(row: tuple[Path, str, str]) -> Clip:
        path, song, label = row
        stem = _stem_of(label)
        captions = STEM_CAPTIONS[stem] if label == stem else ()
        artist = group_name("artist", song.partition("_")[0])
        return _of_song(folder, path, label, captions, stem, song, "train", group=artist)

    return collect(rows, clip, on_error)


def _voice_on_the_right(
    folder: str | Path,
    name: str,
    example: str,
    whose: str,
    on_error: OnError,
    training: Collection[str] | None = None,
) -> list[Clip]:
    """Two clips of each stereo file: the left channel is the accompaniment, the right one the voice.

    Args:
        folder: the outer folder, or that of the files.
        name: pattern of the files' names without suffix; its first group is the group of the clips.
        example: a file of the layout.
        whose: what the groups are.
        on_error: as for the readers.
        training: the groups of the split train, of which all others are test; None for all.
    """
    folder = Path(folder)
    inner = folder / "Wavfile" if (folder / "Wavfile").is_dir() else folder
    named = [(path, re.fullmatch(name, path.stem)) for path in sorted(inner.glob("*.wav"))]
    files = [(path, match[1]) for path, match in named if match is not None]
    expect_files([path for path, _ in files], folder, f"Wavfile/{example}")

    def clip(row: tuple[Path, str, str, int]) -> Clip:
        path, group, stem, channel = row
        label = "accompaniment" if stem == "other" else stem
        split: Split = "train" if training is None or group in training else "test"
        captions = STEM_CAPTIONS[stem]
        return _of_song(
            folder, path, label, captions, stem, path.stem, split, group=group_name(whose, group), channel=channel
        )

    rows = [(path, group, stem, channel) for path, group in files for stem, channel in (("vocals", 1), ("other", 0))]
    return collect(rows, clip, on_error)


def _of_song(
    folder: Path,
    path: Path,
    label: str,
    captions: tuple[str, ...],
    stem: str,
    song: str,
    split: Split,
    *,
    group: str = "",
    channel: int | None = None,
) -> Clip:
    """The clip of a file, or of one channel of it, that is part of a song."""
    name = path.relative_to(folder).with_suffix("").as_posix()
    return probed(
        path,
        id=name if channel is None else f"{name}/{label}",
        label=label,
        captions=captions,
        family="music",
        stem=stem,
        song=song,
        group=group or group_name("song", song),
        split=split,
        channel=channel,
    )


def _stem_of(label: str) -> str:
    """The stem that an instrument belongs to."""
    return next((stem for stem, words in _STEM_WORDS.items() if re.search(words, label)), "other")


def _medleydb_stems(metadata: str) -> tuple[dict[str, str], bool]:
    """File name -> instrument, and whether the stems have bleed."""
    stems: list[dict[str, str]] = []
    for line in metadata.splitlines():
        # A stem's own keys are indented by four; those of its raw tracks by eight.
        match = re.match(r" {4}(filename|instrument): *['\"]?(.+?)['\"]? *$", line)
        if re.match(r" {2}S\d+:", line):
            stems.append({})
        elif match and stems:
            stems[-1][match[1]] = match[2]
    bleeds = re.search(r"^has_bleed: *['\"]?yes", metadata, re.MULTILINE) is not None
    return {stem["filename"]: stem["instrument"] for stem in stems if len(stem) == 2}, bleeds


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
