"""More than two channels: their order and their speakers survive every pair of formats, and only LFE is low-passed."""

from __future__ import annotations

import shutil
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile
from odd_files import Samples, Sound, container

from audiosep import OutputOptions
from audiosep.audio import FORMATS, AudioReader, probe, read_audio, write_audio
from audiosep.audio.probing import BACKENDS
from audiosep.audio.pyav import AvSource
from audiosep.audio.source import Unreadable
from audiosep.audio.speakers import USUAL, layout_mask, layout_name, vorbis_order, wave_order
from audiosep.errors import AudioError
from audiosep.separator import Separator

av = pytest.importorskip("av")

RATE = 48_000
LFE = {6: 3, 7: 3, 8: 3}  # its place in the order of WAVE


def surround(channels: int, seconds: float = 0.5) -> Samples:
    """A tone of 5 kHz and more in each channel, and of 60 Hz in the LFE channel."""
    t = np.arange(round(seconds * RATE)) / RATE
    frequencies = [5_000 + 700 * c for c in range(channels)]
    if channels in LFE:
        frequencies[LFE[channels]] = 60
    return np.stack([0.3 * np.sin(2 * np.pi * f * t) for f in frequencies]).astype(np.float32)


def order(x: Samples, y: Samples) -> list[int]:
    """For each channel of y, the channel of x that is most like it; -1 where none is."""
    n = min(x.shape[1], y.shape[1])
    found = []
    for channel in y[:, :n]:
        likeness = [
            np.dot(channel, other) / (np.linalg.norm(channel) * np.linalg.norm(other) + 1e-9) for other in x[:, :n]
        ]
        found.append(int(np.argmax(likeness)) if max(likeness) > 0.9 else -1)
    return found


def foreign(path: Path) -> tuple[Samples, str]:
    """Samples and layout as ffmpeg's libraries have them."""
    with av.open(str(path)) as file:
        frames = list(file.decode(audio=0))
    layout = frames[0].layout
    packed = av.AudioResampler(format="flt", layout=layout, rate=RATE)
    arrays = [frame.to_ndarray().reshape(-1, layout.nb_channels) for part in frames for frame in packed.resample(part)]
    return np.concatenate(arrays).T, layout.name


def write(path: Path, x: Samples, layout: str) -> None:
    if path.suffix == ".mkv":
        container(path, "flac", [Sound(x, RATE, layout=layout)])
    else:
        write_audio(path, x, RATE, speakers=layout_mask(layout))


@pytest.mark.parametrize("source", [*FORMATS, "mkv"])
@pytest.mark.parametrize("target", FORMATS)
def test_order_and_speakers_of_5_1_survive(tmp_path: Path, source: str, target: str) -> None:
    if "mp3" in (source, target):
        pytest.skip("mp3 has two channels")
    x = surround(6)
    write(tmp_path / f"a.{source}", x, "5.1")
    with AudioReader(tmp_path / f"a.{source}") as reader:
        y = np.concatenate(list(reader), axis=1)
        write_audio(tmp_path / f"b.{target}", y, RATE, speakers=reader.info.speakers)
    heard, layout = foreign(tmp_path / f"b.{target}")
    assert layout == "5.1"
    assert order(x, heard) == order(x, y) == order(x, read_audio(tmp_path / f"b.{target}")[0]) == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("format", ["ogg", "opus"])
@pytest.mark.parametrize("channels", range(3, 9))
def test_vorbis_order_of_every_number_of_channels(tmp_path: Path, format: str, channels: int) -> None:
    x = surround(channels)
    write_audio(tmp_path / f"x.{format}", x, RATE)
    heard, layout = foreign(tmp_path / f"x.{format}")
    assert layout == layout_name(channels, 0)
    assert order(x, heard) == order(x, read_audio(tmp_path / f"x.{format}")[0]) == list(range(channels))
    assert [vorbis_order(channels)[i] for i in wave_order(channels)] == list(range(channels))


@pytest.mark.parametrize("layout", ["5.1(side)", "6.0", "2.1", "4.0", "quad", "7.1(wide)"])
def test_unusual_speakers_survive_where_a_format_has_them(tmp_path: Path, layout: str) -> None:
    channels = layout_mask(layout).bit_count()
    x = surround(channels)
    for source in ("wav", "flac", "mkv"):
        write(tmp_path / f"x.{source}", x, layout)
        assert probe(tmp_path / f"x.{source}").speakers == layout_mask(layout)
        heard, name = foreign(tmp_path / f"x.{source}")
        assert name == layout
        assert order(x, heard) == list(range(channels))
    for format in ("ogg", "opus"):
        if layout in ("5.1(side)", "quad"):  # the speakers of Vorbis, under another name
            write_audio(tmp_path / f"x.{format}", x, RATE, speakers=layout_mask(layout))
        else:
            with pytest.raises(AudioError, match=rf"{format} has no speaker layout .* write wav or flac"):
                write_audio(tmp_path / f"x.{format}", x, RATE, speakers=layout_mask(layout))


@pytest.mark.parametrize(
    ("layout", "speakers", "places"),
    [
        ((115 << 16 | 4, 0, 0), "4.0", [0, 1, 2, 3]),
        ((116 << 16 | 4, 0, 0), "4.0", [1, 2, 0, 3]),
        ((1 << 16, 0x33, 0), "quad", [0, 1, 2, 3]),
        ((0, 0, 4, 3, *[0] * 4, 1, *[0] * 4, 2, *[0] * 4, 9, *[0] * 4), "4.0", [1, 2, 0, 3]),
        ((0, 0, 4, 300, *[0] * 4, 301, *[0] * 4, 302, *[0] * 4, 303, *[0] * 4), "", [0, 1, 2, 3]),
    ],
)
def test_speakers_of_apple_files(tmp_path: Path, layout: tuple[int, ...], speakers: str, places: list[int]) -> None:
    x = surround(4)
    chunk = struct.pack(f">{len(layout)}I", *layout)
    for name, start, head in (("x.caf", 52, struct.pack(">4sq", b"chan", len(chunk))), ("x.aiff", 12, b"CHAN\0\0\0")):
        soundfile.write(tmp_path / name, x.T, RATE)
        data = bytearray((tmp_path / name).read_bytes())
        data[start:start] = (head if name == "x.caf" else head + bytes([len(chunk)])) + chunk
        (tmp_path / name).write_bytes(data)
        assert probe(tmp_path / name).speakers == layout_mask(speakers)
        assert order(x, read_audio(tmp_path / name)[0]) == places


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="made with ffmpeg")
def test_speakers_of_w64(tmp_path: Path) -> None:
    source = "aevalsrc=0.1|0.2|0.3|0.4:c=4.0:d=0.1"
    subprocess.run(["ffmpeg", "-v", "error", "-f", "lavfi", "-i", source, tmp_path / "x.w64"], check=True)
    assert probe(tmp_path / "x.w64").speakers == layout_mask("4.0")


def test_an_order_that_ends_the_process_is_left_to_ffmpeg(tmp_path: Path) -> None:
    path = container(tmp_path / "x.mov", "pcm_s16le", [Sound(surround(6), RATE, layout="5.1(side)")])
    data = bytearray(path.read_bytes())
    struct.pack_into(">I", data, data.index(b"chan") + 8, 124 << 16 | 6)  # centre, left, right, ...
    path.write_bytes(data)
    with pytest.raises(Unreadable, match="order of its channels"):
        AvSource(path)


def test_the_usual_layouts_are_those_of_ffmpeg() -> None:
    for channels, mask in USUAL.items():
        assert mask.bit_count() == channels
        assert av.AudioLayout(layout_name(channels, 0)).nb_channels == channels
    assert layout_name(6, 0x60F) == "5.1(side)"
    assert layout_mask("stereo") == 0


@pytest.mark.parametrize(("format", "decibels"), [("wav", 80), ("flac", 80), ("ogg", 10), ("opus", 10), ("m4a", 10)])
def test_targets_and_the_rest_sum_to_the_mixture_in_every_channel(
    separator: Separator, tmp_path: Path, format: str, decibels: float
) -> None:
    x = surround(6, 1.0)
    write_audio(tmp_path / "mix.wav", x, RATE, speakers=layout_mask("5.1"))
    output = OutputOptions(format=format)
    report = separator.separate_files(tmp_path / "mix.wav", "piano", tmp_path / "out", output=output)
    report.raise_for_failures()
    total = sum(read_audio(path)[0] for path in report.results[0].outputs.values())
    assert total.shape == x.shape
    inner = slice(4_800, -4_800)
    for channel, mixed in zip(total[:, inner], x[:, inner], strict=True):
        assert 10 * np.log10(np.sum(mixed**2) / np.sum((channel - mixed) ** 2)) > decibels


@pytest.mark.parametrize(
    ("stated", "format", "mono", "warned"),
    [
        (False, "opus", False, True),
        (False, "flac", False, False),
        (True, "opus", False, False),
        (False, "ogg", True, False),
    ],
)
def test_a_channel_that_may_be_no_lfe_is_not_cut_without_a_word(
    separator: Separator, tmp_path: Path, caplog: pytest.LogCaptureFixture,
    stated: bool, format: str, mono: bool, warned: bool,
) -> None:  # fmt: skip
    if stated:
        write_audio(tmp_path / "mix.wav", surround(6, 0.3), RATE, speakers=layout_mask("5.1"))
    else:
        soundfile.write(tmp_path / "mix.wav", surround(6, 0.3).T, RATE)
    output = OutputOptions(format=format, mono=mono)
    separator.separate_files(tmp_path / "mix.wav", "piano", tmp_path / "out", output=output).raise_for_failures()
    assert ("channel 4 loses all above 120 Hz" in caplog.text) == warned


@pytest.mark.parametrize("backend", ["PyAV", "ffmpeg"])
def test_eight_channels_are_read_from_containers(tmp_path: Path, backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if backend == "ffmpeg" and shutil.which("ffmpeg") is None:
        pytest.skip("needs an ffmpeg on PATH")
    x = surround(8)
    # Planar frames: PyAV looks for a ninth plane.
    container(tmp_path / "x.mkv", "libopus", [Sound(x, RATE, layout="7.1")])

    def missing(path: Path, track: object = None) -> None:
        raise Unreadable("not there")

    for name in set(BACKENDS) - {backend}:  # not deleted: undone, they would come back in another order
        monkeypatch.setitem(BACKENDS, name, missing)
    y, _ = read_audio(tmp_path / "x.mkv")
    assert probe(tmp_path / "x.mkv").backend == backend
    assert order(x, y) == list(range(8))
