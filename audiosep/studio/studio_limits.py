"""What the studio takes: sizes and lengths of recordings, and how much of the machine its pages may use."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from audiosep.audio import AudioInfo, probe
from audiosep.audio.limits import check_channels, check_duration, check_rate
from audiosep.errors import InputError

# Text formats that name other files or addresses, by ffmpeg's names of them.
_PLAYLISTS = {"hls", "applehttp", "concat", "dash", "sdp", "imf", "rtsp", "vobsub"}
_HEAD = 4096  # bytes
_ID3 = b"ID3"


@dataclass(frozen=True)
class Limits:
    """What is refused, and when what pages have left is deleted.

    Args:
        upload_bytes: of a file.
        seconds: of a recording.
        decoded_bytes: of a recording as 32-bit floats, which is what each of its tracks needs on the disk at most.
        tracks: of a page.
        pages: that are open at once.
        client_pages: of one client, by its address.
        queue: requests of all clients that wait for the model.
        client_requests: of one client, by its address, of its pages and programs, that wait or run.
        waiting: requests of one page that wait or run.
        client_uploads: largest files that one client may upload within `idle`, whether a page opens them or not.
        idle: seconds after which the files of a page that nobody uses are deleted.
        lease: seconds after which the files of a page that has gone without a word are deleted.
    """

    upload_bytes: int = 2**30
    seconds: float = 3600.0
    decoded_bytes: int = 2**32
    tracks: int = 16
    pages: int = 8
    client_pages: int = 6
    queue: int = 8
    client_requests: int = 6
    waiting: int = 4
    client_uploads: int = 16
    idle: float = 3600.0
    lease: float = 180.0


def check_upload(path: Path, limits: Limits, track: int | None = None) -> AudioInfo:
    """Refuse a file before any of its sound is decoded.

    Args:
        path: of the file.
        limits: of the studio.
        track: number of the audio track; None for the default one.

    Returns:
        What the file is.

    Raises:
        InputError: too large, too long, a playlist or another text, too many channels, no such track, no room on the
            disk.
        AudioError: no recording.
    """
    size = path.stat().st_size
    if size > limits.upload_bytes:
        raise InputError(
            f"the file has {size / 2**20:.0f} MiB, more than the limit of {limits.upload_bytes / 2**20:.0f} MiB: "
            "cut the recording, or start the studio with a larger --max-upload"
        )
    if _is_text(path):
        raise InputError("the file is a text or a playlist, not a recording: upload the recording itself")
    info = probe(path, track)
    if info.format.lower() in _PLAYLISTS:
        raise InputError("the file is a playlist, not a recording: upload the recording itself")
    check_channels(info.channels)
    check_rate(info.sample_rate)
    check_duration(info.seconds or 0.0, limits.seconds)
    check_decoded(int((info.seconds or 0.0) * info.sample_rate), info.channels, limits)
    if shutil.disk_usage(path.parent).free < 2 * decoded_bytes(
        int((info.seconds or 0.0) * info.sample_rate), info.channels
    ):
        raise InputError("the disk of the studio has no room for the recording: free space, or set TMPDIR to another")
    return info


def decoded_bytes(samples: int, channels: int) -> int:
    """Bytes of a recording as 32-bit floats.

    Args:
        samples: of each channel.
        channels: their number.
    """
    return 4 * samples * channels


def check_decoded(samples: int, channels: int, limits: Limits) -> None:
    """Refuse a recording that is too large when it is decoded.

    Args:
        samples: of each channel, so far.
        channels: their number.
        limits: of the studio.

    Raises:
        InputError: too large.
    """
    if decoded_bytes(samples, channels) > limits.decoded_bytes:
        raise InputError(
            f"the recording is larger than {limits.decoded_bytes / 2**30:.0f} GiB when it is decoded: cut it, or "
            "reduce its sample rate or channels"
        )


def _is_text(path: Path) -> bool:
    """Whether a file begins as a text, behind a tag that decoders skip: playlists are texts, and recordings are not."""
    with path.open("rb") as file:
        head = file.read(_HEAD)
        if head[:3] == _ID3 and len(head) >= 10:
            size = sum((byte & 0x7F) << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=True))
            file.seek(10 + size)
            head = file.read(_HEAD)
    if not head or b"\0" in head:
        return False
    printable = sum(byte >= 0x20 or byte in b"\t\n\r" for byte in head)
    try:
        head.decode()
    except UnicodeDecodeError as error:
        return error.start > len(head) - 4 and printable == len(head)
    return printable == len(head)
