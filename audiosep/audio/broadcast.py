"""Broadcast Wave: when a recording was made, to the sample, by which editors line it up with others.

`audio.wav` writes the files, and mutagen and soundfile do not know these chunks; ffmpeg knows `bext` alone.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO
from xml.etree import ElementTree

from audiosep.audio.riff import find_chunk, wav_header

_REFERENCE = struct.Struct("<Q")  # EBU Tech 3285: samples since midnight
_AT_REFERENCE, _AT_UMID, _AT_LOUDNESS, _AT_HISTORY = 338, 348, 412, 602  # bytes of the chunk
_UNSAID = b"\xff\x7f" * 5  # EBU Tech 3285, 2.4: loudness values that are not stated
_LARGEST = 2**20  # bytes of a chunk
# iXML 2.10: what names this very file, or counts or measures its samples; and what the chunk bext says.
_OF_THE_FILE = {
    "FILE_UID",
    "FILE_SET",
    "HISTORY",
    "SYNC_POINT_LIST",
    "PRE_RECORD_SAMPLECOUNT",
    "LOUDNESS",
    "BEXT",
}
_BITS = {"16": "16", "24": "24", "float": "32"}


@dataclass(frozen=True)
class Broadcast:
    """What a Broadcast Wave file says beside its tags.

    Args:
        bext: the chunk of this name: description, originator, date and time, coding history.
        ixml: the chunk iXML: scene, take, names of channels, rate of the time code; may be empty.
        reference: of the first sample: samples since midnight.
        sample_rate: that these are counted in, Hz.
    """

    bext: bytes
    ixml: bytes
    reference: int
    sample_rate: int

    def from_sample(self, start: int) -> Broadcast:
        """That of the part of the recording from a sample on."""
        return replace(self, reference=self.reference + start)

    def chunks(self, sample_rate: int, channels: int, depth: str) -> bytes:
        """The chunks of a wav file with a part of the sound.

        Args:
            sample_rate: of the file, Hz.
            channels: of the file.
            depth: of the file, "16", "24" or "float".
        """
        reference = min(round(self.reference * sample_rate / self.sample_rate), 2**64 - 1)
        bext = bytearray(self.bext)
        bext[_AT_REFERENCE : _AT_REFERENCE + 8] = _REFERENCE.pack(reference)
        # The unique identifier is that of the recording, as is the loudness, which version 2 states.
        bext[_AT_UMID:_AT_LOUDNESS] = bytes(_AT_LOUDNESS - _AT_UMID)
        if bext[_AT_REFERENCE + 8] >= 2:
            bext[_AT_LOUDNESS : _AT_LOUDNESS + len(_UNSAID)] = _UNSAID
        ixml = self._ixml(reference, sample_rate, channels, depth)
        return _chunk(b"bext", bytes(bext)) + (_chunk(b"iXML", ixml) if ixml else b"")

    def _ixml(self, reference: int, sample_rate: int, channels: int, depth: str) -> bytes:
        """The document of another file; empty where there is none, or a damaged one."""
        try:
            root = ElementTree.fromstring(self.ixml)
            high, low = divmod(reference, 2**32)
            said = {
                "AUDIO_BIT_DEPTH": _BITS[depth],
                "TIMESTAMP_SAMPLES_SINCE_MIDNIGHT_HI": str(high),
                "TIMESTAMP_SAMPLES_SINCE_MIDNIGHT_LO": str(low),
            }
            for element in root.iterfind("SPEED/*"):
                if element.tag in ("FILE_SAMPLE_RATE", "TIMESTAMP_SAMPLE_RATE"):  # 48,000 and 48,048 for film
                    element.text = str(round(int(element.text or 0) * sample_rate / self.sample_rate))
                element.text = said.get(element.tag, element.text)
        except (ElementTree.ParseError, ValueError):
            return b""
        mixed = root.findtext("TRACK_LIST/TRACK_COUNT") != str(channels)
        for element in list(root):
            if element.tag in _OF_THE_FILE or (mixed and element.tag == "TRACK_LIST"):
                root.remove(element)
        document: bytes = ElementTree.tostring(root, "UTF-8", xml_declaration=True)
        return document


def read_broadcast(path: Path, sample_rate: int) -> Broadcast | None:
    """What a Broadcast Wave file says beside its tags.

    Args:
        path: of a recording of any kind.
        sample_rate: of the recording, Hz.

    Returns:
        None where there is no chunk `bext`, or a damaged one.
    """
    with path.open("rb") as file:
        if file.read(12)[8:] != b"WAVE":
            return None
        header = wav_header(path)
        # The size of RF64's samples is not where find_chunk looks for it.
        behind = 12 if header is None else header.data + header.stated + header.stated % 2
        bext = _content(file, b"bext", behind)
        if len(bext) < _AT_HISTORY:
            return None
        (reference,) = _REFERENCE.unpack_from(bext, _AT_REFERENCE)
        return Broadcast(bext, _content(file, b"iXML", behind).rstrip(b"\0"), reference, sample_rate)


def _content(file: BinaryIO, name: bytes, behind: int) -> bytes:
    """What a chunk in front of the samples holds, or else one behind them; empty where there is none."""
    for start in (12, behind):
        position, size = find_chunk(file, start, name, "<4sI")
        if position and size <= _LARGEST:
            file.seek(position)
            return file.read(size)
    return b""


def _chunk(name: bytes, content: bytes) -> bytes:
    return name + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)
