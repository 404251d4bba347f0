"""Broadcast Wave: outputs lie where their recording lies on the time line of the day."""

from __future__ import annotations

import dataclasses
import json
import shutil
import struct
import subprocess
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from conftest import Mixture

from audiosep.audio import AudioReader, AudioWriter, read_audio, wav
from audiosep.audio.broadcast import Broadcast, read_broadcast
from audiosep.audio.marker import is_marked
from audiosep.output.output_options import OutputOptions
from audiosep.separator import Separator

RATE = 48_000
MORNING = 10 * 3600 * RATE  # beyond 2**30, and beyond 32 bits at 192 kHz
HISTORY = b"A=PCM,F=48000,W=24,M=stereo\r\n"
IXML = """<?xml version="1.0" encoding="UTF-8"?>
<BWFXML><SCENE>12 Ä</SCENE><FILE_UID>1234</FILE_UID>
<SPEED><TIMECODE_RATE>25/1</TIMECODE_RATE><FILE_SAMPLE_RATE>48000</FILE_SAMPLE_RATE>
<AUDIO_BIT_DEPTH>24</AUDIO_BIT_DEPTH><TIMESTAMP_SAMPLE_RATE>48048</TIMESTAMP_SAMPLE_RATE>
<TIMESTAMP_SAMPLES_SINCE_MIDNIGHT_HI>0</TIMESTAMP_SAMPLES_SINCE_MIDNIGHT_HI>
<TIMESTAMP_SAMPLES_SINCE_MIDNIGHT_LO>1728000000</TIMESTAMP_SAMPLES_SINCE_MIDNIGHT_LO></SPEED>
<TRACK_LIST><TRACK_COUNT>2</TRACK_COUNT><TRACK><NAME>Boom</NAME></TRACK><TRACK><NAME>Lav</NAME></TRACK></TRACK_LIST>
</BWFXML>""".encode()


def bext(reference: int = MORNING, version: int = 1, history: bytes = HISTORY) -> bytes:
    described = b"Dawn chorus".ljust(256, b"\0") + b"Recorder".ljust(32, b"\0") + b"REF1".ljust(32, b"\0")
    place = b"2024-05-0110:00:00" + struct.pack("<QH", reference, version)
    return described + place + b"\x11" * 64 + struct.pack("<5h", *[-2300] * 5) + bytes(180) + history


CHUNKS = Broadcast(bext(), IXML, MORNING, RATE)


def recording(path: Path, x: np.ndarray, broadcast: Broadcast = CHUNKS) -> Path:
    """A file as recorders write it, with all that the chunks say."""
    with path.open("wb") as file:
        extra = b"".join(
            name + struct.pack("<I", len(content)) + content + bytes(len(content) % 2)
            for name, content in ((b"bext", broadcast.bext), (b"iXML", broadcast.ixml))
            if content
        )
        writer = wav.WavFile(file, RATE, len(x), "24", chunks=extra)
        writer.write(np.rint(x.T * 2**23).astype(np.int32))
        writer.close()
    return path


def speed(broadcast: Broadcast) -> dict[str, str | None]:
    return {element.tag: element.text for element in ElementTree.fromstring(broadcast.ixml).iterfind("SPEED/*")}


@pytest.mark.parametrize("depth", ["16", "float"])
@pytest.mark.parametrize("history", [b"", HISTORY, HISTORY[:-1]])  # of an odd number of bytes, too
def test_a_wav_file_keeps_what_the_recording_says(tmp_path: Path, mixture: Mixture, depth: str, history: bytes) -> None:
    x = mixture(0.5, RATE, 2)
    source = recording(tmp_path / "a.wav", x, dataclasses.replace(CHUNKS, bext=bext(history=history)))
    with AudioReader(source) as reader:
        found = reader.broadcast
        assert found == dataclasses.replace(CHUNKS, bext=bext(history=history))
        with AudioWriter(tmp_path / "b.wav", RATE, 2, depth, tags=reader.info.tags, broadcast=found) as writer:
            for block in reader:
                writer.write(block)
    copy = read_broadcast(tmp_path / "b.wav", RATE)
    assert copy is not None
    assert (copy.reference, copy.bext[:338]) == (MORNING, bext()[:338])
    assert copy.bext[348:412] == bytes(64)  # the identifier is that of the recording
    assert copy.bext[602:] == history
    assert speed(copy)["AUDIO_BIT_DEPTH"] == ("32" if depth == "float" else depth)
    assert speed(copy)["TIMECODE_RATE"] == "25/1"
    assert "12 Ä" in copy.ixml.decode()
    assert b"FILE_UID" not in copy.ixml
    assert b"Boom" in copy.ixml
    np.testing.assert_allclose(read_audio(tmp_path / "b.wav")[0], x, atol=2**-15)


def test_a_part_at_another_rate_lies_where_it_sounds(separator: Separator, mixture: Mixture, tmp_path: Path) -> None:
    source = recording(tmp_path / "take.wav", mixture(2, RATE, 2))
    options = OutputOptions(start=0.5, end=1.5, rate=96_000, mono=True)
    report = separator.separate_files(source, "piano", tmp_path / "out", output=options)
    assert len(report.results[0].outputs) == 2
    for output in report.results[0].outputs.values():
        found = read_broadcast(output, 96_000)
        assert found is not None
        assert found.reference == 2 * MORNING + 48_000
        assert speed(found) == {
            "TIMECODE_RATE": "25/1",
            "FILE_SAMPLE_RATE": "96000",
            "TIMESTAMP_SAMPLE_RATE": "96096",
            "AUDIO_BIT_DEPTH": "24",
            "TIMESTAMP_SAMPLES_SINCE_MIDNIGHT_HI": "0",
            "TIMESTAMP_SAMPLES_SINCE_MIDNIGHT_LO": str(2 * MORNING + 48_000),
        }
        assert b"Boom" not in found.ixml  # of two channels, and the output has one
        assert is_marked(output)


def test_what_python_saves_lies_there_too_and_other_formats_have_no_place(
    separator: Separator, mixture: Mixture, tmp_path: Path
) -> None:
    source = recording(tmp_path / "take.wav", mixture(1, RATE, 2))
    separation = separator.separate(source, "piano")
    for path in separation.save(tmp_path / "out"):
        assert read_broadcast(path, RATE) is not None
    assert read_broadcast(separation.save(tmp_path / "out", format="flac")[0], RATE) is None


def test_the_mark_is_found_behind_a_long_document(separator: Separator, mixture: Mixture, tmp_path: Path) -> None:
    long = IXML.replace(b"</BWFXML>", b"<USER>" + b"x" * 300_000 + b"</USER></BWFXML>")
    source = recording(tmp_path / "take.wav", mixture(5, RATE, 2), dataclasses.replace(CHUNKS, ixml=long))
    path = separator.separate(source, "piano").save(tmp_path / "out")[0]
    found = read_broadcast(path, RATE)
    assert found is not None
    assert len(found.ixml) > 300_000
    assert is_marked(path)


@pytest.mark.parametrize("large", [False, True])
def test_chunks_behind_the_samples_are_found(
    tmp_path: Path, mixture: Mixture, monkeypatch: pytest.MonkeyPatch, large: bool
) -> None:
    if large:
        monkeypatch.setattr(wav, "RIFF_LIMIT", 10_000)
    path = recording(tmp_path / "a.wav", mixture(0.1, RATE, 1)[:, :4_801], Broadcast(b"", b"", 0, RATE))
    data = bytearray(path.read_bytes())
    assert data[:4] == (b"RF64" if large else b"RIFF")
    extra = b"bext" + struct.pack("<I", len(bext())) + bext() + bytes(len(bext()) % 2)
    at, form = (20, "<Q") if large else (4, "<I")
    (size,) = struct.unpack_from(form, data, at)
    struct.pack_into(form, data, at, size + len(extra))
    path.write_bytes(bytes(data) + extra)
    found = read_broadcast(path, RATE)
    assert found is not None
    assert found.reference == MORNING


@pytest.mark.parametrize(
    ("ixml", "kept"),
    [(b"", False), (b"<BWFXML><SCENE>", False), (b"<BWFXML><SPEED><FILE_SAMPLE_RATE>fast</FILE_SAMPLE_RATE></SPEED>"
     b"</BWFXML>", False), (IXML.decode().replace("UTF-8", "UTF-16").encode("utf-16"), True)],
)  # fmt: skip
def test_damaged_chunks_are_left_out(tmp_path: Path, mixture: Mixture, ixml: bytes, kept: bool) -> None:
    found = dataclasses.replace(CHUNKS, ixml=ixml)
    assert (b"iXML" in found.chunks(RATE, 2, "16")) == kept
    assert b"bext" in found.chunks(RATE, 2, "16")
    short = recording(tmp_path / "a.wav", mixture(0.1, RATE, 1), Broadcast(bext()[:600], b"", 0, RATE))
    assert read_broadcast(short, RATE) is None
    (tmp_path / "b.flac").write_bytes(b"RIFF")
    assert read_broadcast(tmp_path / "b.flac", RATE) is None


def test_numbers_that_lead_anywhere_are_no_error(tmp_path: Path) -> None:
    last = dataclasses.replace(CHUNKS, bext=bext(2**64 - 1, version=2), reference=2**64 - 1)
    octets = last.from_sample(5).chunks(2 * RATE, 2, "24")[8:]
    assert octets[338:346] == b"\xff" * 8
    assert octets[412:422] == b"\xff\x7f" * 5  # the loudness is not that of the recording


@pytest.mark.skipif(shutil.which("ffprobe") is None, reason="read with ffprobe")
def test_ffmpeg_reads_the_same_and_its_files_are_read(tmp_path: Path, mixture: Mixture) -> None:
    source = recording(tmp_path / "a.wav", mixture(0.5, RATE, 2))
    with AudioReader(source, start=0.25) as reader:
        found = reader.broadcast
    with AudioWriter(tmp_path / "b.wav", RATE, 2, broadcast=found) as writer:
        writer.write(mixture(0.25, RATE, 2))
    command = ["ffprobe", "-v", "error", "-show_format", "-of", "json", tmp_path / "b.wav"]
    tags = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)["format"]["tags"]
    assert tags["time_reference"] == str(MORNING + RATE // 4)
    assert (tags["encoded_by"], tags["coding_history"].strip()) == ("Recorder", HISTORY.decode().strip())
    command = ["ffmpeg", "-v", "error", "-i", tmp_path / "b.wav", "-write_bext", "1", tmp_path / "c.wav"]
    subprocess.run(command, check=True)
    found = read_broadcast(tmp_path / "c.wav", RATE)
    assert found is not None
    assert found.reference == MORNING + RATE // 4
