"""Live separation: as many samples out as in, each in its place, for any block size and any delay."""

from __future__ import annotations

import io
import math
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from audiosep.cli import main
from audiosep.errors import DependencyError, InputError
from audiosep.inference.stream import Stream
from audiosep.live.loop import BLOCK_SECONDS, LiveTarget, WaitingBlocks, separate_live, threads_needed, warm_up
from audiosep.live.pipe import PipeInput, PipeOutput, RawFormat
from audiosep.live.sound_card import DelayLine, SoundCard
from audiosep.separator import Separator

ROOT = Path(__file__).parents[1]
RATE = 16000
Mixture = Callable[..., np.ndarray]


def opener(
    separator: Separator, queries: Any = "piano", channels: int = 2, latency: float = 0.1
) -> Callable[[], Stream]:
    return lambda: separator.stream(queries, sample_rate=RATE, channels=channels, latency=latency)


class Blocks:
    """An input of given blocks, and an output that keeps what is written."""

    def __init__(self, blocks: list[np.ndarray]) -> None:
        self._blocks = blocks
        self.written: list[np.ndarray] = []

    def blocks(self) -> Iterator[np.ndarray]:
        yield from self._blocks

    def write(self, samples: np.ndarray) -> int:
        self.written.append(samples)
        return 0

    @property
    def out(self) -> np.ndarray:
        return np.concatenate(self.written, axis=1)


@pytest.mark.parametrize("encoding", ["s16le", "f32le"])
def test_an_identity_model_returns_the_bytes_of_the_pipe(identity: Separator, mixture: Mixture, encoding: str) -> None:
    raw = RawFormat(encoding, 2)
    data = raw.encode(mixture(1.0))[0]
    out = io.BytesIO()
    # Reads of any size, also of incomplete frames.
    pieces = iter([data[:7], data[7:1001], data[1001:], b"", b""])
    source = PipeInput(SimpleNamespace(read=lambda n: next(pieces)), raw, 10**6)
    report = separate_live(source, PipeOutput(out, raw), LiveTarget(opener(identity)))
    assert out.getvalue() == data
    assert report.received == report.written == RATE
    assert (report.dropped, report.clipped) == (0, 0)


ADTS = bytes.fromhex("fff14c800800fc") + bytes(57)  # a frame of AAC, 64 bytes long


def test_samples_that_begin_as_a_frame_of_aac_does_are_samples() -> None:
    data = ADTS + np.random.default_rng(0).bytes(100_000)
    raw = RawFormat("s16le", 2)
    blocks = list(PipeInput(io.BytesIO(data), raw, 100).blocks())
    assert max(block.shape[1] for block in blocks) == 100
    assert raw.encode(np.concatenate(blocks, axis=1))[0] == data


@pytest.mark.parametrize(
    ("beginning", "kind"),
    [
        (b"fLaC\x00\x00\x00\x22\x10\x00\x10\x00", "a FLAC file"),
        (b"RIFF\x24\x08\x0a\x00WAVE", "a WAV file"),
        (b"RF64\xff\xff\xff\xffWAVE", "a WAV file"),
        (b"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb", "a WAV file"),
        (b"BW64\xff\xff\xff\xffWAVE", "a WAV file"),
        (b"caff\x00\x01\x00\x00desc", "a CAF file"),
        (b".snd\x00\x00\x00\x18\x00\x00\x00\x00", "an AU file"),
        (b"wvpk\x00\x00\x00\x00\x10\x04\x00\x00", "a WavPack file"),
        (b"FORM\x00\x01\x00\x00AIFF", "an AIFF file"),
        (b"\x1a\x45\xdf\xa3\x9f\x42\x86\x81\x01\x42\xf7\x81", "a Matroska or WebM file"),
        (b"OggS\x00\x02\x00\x00\x00\x00\x00\x00", "an Ogg file"),
        (b"ID3\x04\x00\x00\x00\x00\x00\x23\x00\x00", "an MP3 file"),
        (b"\x00\x00\x00\x20ftypM4A ", "an MP4 file"),
        (b"dns.\x18\x00\x00\x00\x00\x00\x00\x00", "an AU file"),
        (b"RIFF\x24\x08\x0a\x00AVI LIST", "an AVI file"),
        (b"#!AMR-WB\n\x04\x48\x9e", "an AMR file"),
        (3 * ADTS, "a stream of coded sound"),
        (3 * (b"\xff\xfb\x90\x64" + bytes(413)), "a stream of coded sound"),
    ],
)
def test_a_file_of_audio_in_place_of_raw_samples_is_refused(beginning: bytes, kind: str) -> None:
    whole = io.BytesIO(beginning + bytes(4000))
    single = SimpleNamespace(read=lambda n: whole.read(min(n, 5)))  # a pipe gives what is there
    with pytest.raises(InputError, match=f"standard input is {kind}.*ffmpeg.*separate"):
        next(PipeInput(single, RawFormat("s16le", 2), 100).blocks())


@pytest.mark.parametrize(("share", "threads"), [(0.59, 1), (0.61, 3)])
@pytest.mark.parametrize("latency", [0.1, 0.9])
def test_one_thread_is_used_where_it_keeps_up_with_time_to_spare(
    identity: Separator, share: float, threads: int, latency: float
) -> None:
    stream = opener(identity, latency=latency)()
    stride = stream.windows.stride / stream.model_rate
    seconds = share * stride * max(3, math.ceil(1 / stride))
    times, counts = iter([10.0, 10.0 + seconds]), []
    before = torch.get_num_threads()

    def clock() -> float:
        counts.append(torch.get_num_threads())
        return next(times)

    assert threads_needed(opener(identity, latency=latency), 3, clock) == threads
    assert counts == [1, 1]
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("size", [0, 4, 11, 12, 13, 400])
def test_all_raw_samples_arrive_however_few_they_are(size: int) -> None:
    data = bytes(range(1, 5)) * 100
    whole = io.BytesIO(data[:size])
    blocks = list(PipeInput(whole, RawFormat("s16le", 2), 7).blocks())
    found = b"".join(RawFormat("s16le", 2).encode(block)[0] for block in blocks)
    assert found == data[: size // 4 * 4]


def test_the_block_size_changes_nothing_and_the_latency_is_kept(separator: Separator, mixture: Mixture) -> None:
    mix = mixture(1.0)
    outs = []
    for size in (16000, 320, 77):
        live = LiveTarget(opener(separator))
        behind = []
        sink = Blocks([mix[:, i : i + size] for i in range(0, RATE, size)])
        separate_live(sink, sink, live, watch=lambda r, b=behind: b.append(r.received - r.written))
        assert max(behind[:-1], default=0) <= live.statistics.latency <= 0.1 * RATE
        outs.append(sink.out)
    assert outs[0].shape == mix.shape
    assert np.array_equal(outs[0], outs[1])
    assert np.array_equal(outs[0], outs[2])


def test_target_and_rest_sum_to_the_mixture(separator: Separator, mixture: Mixture) -> None:
    mix = mixture(0.8)
    parts = []
    for rest in (False, True):
        sink = Blocks([mix])
        separate_live(sink, sink, LiveTarget(opener(separator, None), "drums", rest=rest))
        parts.append(sink.out)
    assert parts[0].any()
    assert np.allclose(sum(parts), mix, atol=1e-6)


def test_one_target_must_be_named(separator: Separator) -> None:
    with pytest.raises(InputError, match="vocals, drums"):
        LiveTarget(opener(separator, None))
    with pytest.raises(InputError, match="violin"):
        LiveTarget(opener(separator, None), "violin")


def test_late_blocks_are_dropped_and_replaced_by_silence(identity: Separator, mixture: Mixture) -> None:
    mix = mixture(3.0)
    blocks = [mix[:, i : i + 160] for i in range(0, 3 * RATE, 160)]
    held = threading.Event()

    class Slow(Blocks):
        """The first second arrives in time, the second while the output blocks, the third after that."""

        def blocks(self) -> Iterator[np.ndarray]:
            for number, block in enumerate(self._blocks):
                if number == 200:
                    held.set()
                while number >= 200 and live.statistics.received < 160 * number:
                    time.sleep(0.001)
                yield block

        def write(self, samples: np.ndarray) -> int:
            held.wait(30)
            return super().write(samples)

    both, live = Slow(blocks), LiveTarget(opener(identity))
    report = separate_live(both, both, live, slack=0.5)
    out = both.out
    assert out.shape == mix.shape
    assert report.dropped > 0
    assert report.received == report.written == 3 * RATE
    assert report.blocks == len(blocks)
    sounding = out.any(0)
    assert np.array_equal(out[:, sounding], mix[:, sounding])
    assert sounding[-RATE // 2 :].any()
    assert not sounding.all()


def test_after_dropped_blocks_a_new_stream_is_opened(identity: Separator, mixture: Mixture) -> None:
    mix = mixture(1.0)
    target = LiveTarget(opener(identity))
    parts = [target.push(mix[:, :5000]), target.skip(3000, 2), target.push(mix[:, 8000:]), target.finish()]
    out = np.concatenate(parts, axis=1)
    assert out.shape == mix.shape
    ready = parts[0].shape[1]
    assert ready < 5000  # some samples were still in the stream
    assert np.array_equal(out[:, :ready], mix[:, :ready])
    assert not out[:, ready:8000].any()
    assert np.array_equal(out[:, 8000:], mix[:, 8000:])
    assert (target.statistics.dropped, target.statistics.blocks) == (2, 4)


def test_without_slack_the_input_waits(identity: Separator, mixture: Mixture) -> None:
    mix = mixture(1.0)
    made = []

    class Eager(Blocks):
        def blocks(self) -> Iterator[np.ndarray]:
            for start in range(0, RATE, 160):
                made.append(start)
                yield mix[:, start : start + 160]

        def write(self, samples: np.ndarray) -> int:
            assert len(made) - report.blocks < 12
            return super().write(samples)

    live = LiveTarget(opener(identity))
    report = live.statistics
    both = Eager([])
    separate_live(both, both, live)
    assert np.array_equal(both.out, mix)


def test_stopping_writes_what_was_received(identity: Separator, mixture: Mixture) -> None:
    mix, stop = mixture(1.0), threading.Event()
    both = Blocks([mix[:, i : i + 800] for i in range(0, RATE, 800)])
    report = separate_live(both, both, LiveTarget(opener(identity)), stop=stop, watch=lambda r: stop.set())
    assert (report.received, report.blocks) == (800, 1)
    assert np.array_equal(both.out, mix[:, :800])


def test_an_error_of_the_input_is_raised(identity: Separator) -> None:
    class Broken(Blocks):
        def blocks(self) -> Iterator[np.ndarray]:
            yield np.zeros((2, 10), np.float32)
            raise OSError("unplugged")

    both = Broken([])
    with pytest.raises(OSError, match="unplugged"):
        separate_live(both, both, LiveTarget(opener(identity)))


def test_an_empty_input_gives_an_empty_output(identity: Separator) -> None:
    both = Blocks([])
    assert separate_live(both, both, LiveTarget(opener(identity))).received == 0
    assert both.out.shape == (2, 0)


def test_the_real_time_factor_leaves_the_start_out(identity: Separator, mixture: Mixture) -> None:
    mix = mixture(1.0)
    both = Blocks([mix[:, i : i + 800] for i in range(0, RATE, 800)])
    live = LiveTarget(opener(identity))
    assert live.statistics.real_time_factor is None
    warm_up(opener(identity))
    report = separate_live(both, both, live)
    assert 0 < report.steady < report.busy
    assert report.real_time_factor == report.steady / (report.steady_samples / RATE)


def test_clipped_integers_are_counted() -> None:
    data, clipped = RawFormat("s16le", 1).encode(np.array([[1.5, -1.5, 0.5, 32767 / 32768]], np.float32))
    assert np.frombuffer(data, "<i2").tolist() == [32767, -32768, 16384, 32767]
    assert clipped == 2
    with pytest.raises(InputError, match="f32le"):
        RawFormat("u8", 1)


# ---- the sound card --------------------------------------------------------------------------------------------------


def test_late_samples_are_not_played() -> None:
    delay = DelayLine(1, 4)
    assert delay.take(3).tolist() == [[0, 0, 0]]
    delay.put(np.array([[1, 2, 3]], np.float32))
    assert delay.take(3).tolist() == [[0, 1, 2]]
    assert delay.take(3).tolist() == [[3, 0, 0]]  # 4 and 5 are late
    delay.put(np.array([[4, 5, 6, 7]], np.float32))
    assert delay.take(2).tolist() == [[6, 7]]
    assert delay.missed == 2
    delay.put(np.array([[8, 9]], np.float32))  # in time again
    assert delay.take(2).tolist() == [[8, 9]]


class FakeDriver:
    """A sound card that records a given mixture and keeps what it plays."""

    class PortAudioError(Exception):
        pass

    def __init__(self, mix: np.ndarray) -> None:
        self.mix, self.played, self.options = mix, [], {}

    def Stream(self, **options: Any) -> Any:
        if options["device"] == "none":
            raise ValueError("no such device")
        self.options = options
        return SimpleNamespace(start=self.start, stop=lambda: None, close=lambda: None)

    def start(self) -> None:
        self.thread = threading.Thread(target=self.sound, daemon=True)
        self.thread.start()

    def sound(self) -> None:
        block = self.options["blocksize"]
        for start in range(0, self.mix.shape[1], block):
            out = np.empty((block, len(self.mix)), np.float32)
            self.options["callback"](self.mix[:, start : start + block].T, out, block, None, None)
            self.played.append(out.T)
            time.sleep(0.002)


def test_a_sound_card_plays_the_target_after_the_delay(
    identity: Separator, mixture: Mixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    mix = mixture(1.0)
    driver = FakeDriver(mix)
    monkeypatch.setitem(sys.modules, "sounddevice", driver)
    delay, stop = 8000, threading.Event()
    with SoundCard(RATE, 2, delay, block=160) as card:
        threading.Thread(target=lambda: (driver.thread.join(), stop.set()), daemon=True).start()
        report = separate_live(card, card, LiveTarget(opener(identity)), slack=10.0, stop=stop)
    played = np.concatenate(driver.played, axis=1)
    sounding = played.any(0)
    assert not sounding[:delay].any()
    assert np.array_equal(played[:, sounding], np.roll(mix, delay, axis=1)[:, sounding])
    assert report.dropped == 0
    with pytest.raises(InputError, match="no such device"):
        SoundCard(RATE, 2, delay, block=160, device="none")


def test_a_sound_card_needs_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    with pytest.raises(DependencyError, match="pip install sounddevice"):
        SoundCard(RATE, 2, 100, block=160)


# ---- the command -----------------------------------------------------------------------------------------------------


def command(*arguments: object) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, ROOT / "tests" / "command.py", "live", *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def test_ctrl_c_ends_a_pipe_cleanly(tiny_folder: Path, mixture: Mixture) -> None:
    data = RawFormat("s16le", 2).encode(mixture(1.0, RATE))[0]
    running = command(
        "piano", "-m", tiny_folder, "--rate", RATE, "--latency", 0.1, "--past", 0.2, "--quick", "--threads", 1
    )
    assert running.stdin is not None
    assert running.stdout is not None
    running.stdin.write(data)
    running.stdin.flush()
    first = running.stdout.read(len(data) // 2)  # comes while the input is still open
    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=60)
    assert running.returncode == 0, err
    assert len(data) // 2 <= len(first + out) <= len(data)
    assert len(out) % 4 == 0
    assert b"Traceback" not in err
    assert b"0 of" in err
    assert b"real-time factor" in err


@pytest.mark.slow
def test_a_closed_output_pipe_ends_it(tiny_folder: Path, mixture: Mixture) -> None:
    data = RawFormat("f32le", 1).encode(mixture(1.0, RATE, 1))[0]
    running = command("--stem", "bass", "-m", tiny_folder, "-r", RATE, "-c", 1, "-e", "f32le", "--realtime")
    assert running.stdin is not None
    assert running.stdout is not None
    assert running.stderr is not None
    running.stdout.close()
    running.stdin.write(data)
    running.stdin.close()
    err = running.stderr.read()
    assert running.wait(60) == 0, err
    assert b"Traceback" not in err


def test_wrong_usage(tiny_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["live", "-m", str(tiny_folder)]) == 2
    assert main(["live", "piano", "--stem", "bass", "-m", str(tiny_folder)]) == 2
    assert main(["live", "--stem", "bass", "--not", "dog", "-m", str(tiny_folder)]) == 2
    assert "--stem" in capsys.readouterr().err
    for option in (["--realtime"], ["--encoding", "f32le"]):
        assert main(["live", "piano", "--sound-card", "default", *option, "-m", str(tiny_folder)]) == 2
        assert f"{option[0]} is for pipes" in capsys.readouterr().err


def test_a_sound_card_from_the_command_line(
    mini_folder: Path, mixture: Mixture, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    driver = FakeDriver(mixture(0.5, 32000))
    monkeypatch.setitem(sys.modules, "sounddevice", driver)
    waiting: queue.SimpleQueue[None] = queue.SimpleQueue()
    monkeypatch.setattr(driver, "sound", lambda: (FakeDriver.sound(driver), waiting.put(None)))

    def interrupt() -> None:
        waiting.get()
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    assert main(["live", "piano", "--sound-card", "3", "-r", "32000", "-m", str(mini_folder)]) == 0
    assert driver.options["device"] == 3
    assert driver.options["blocksize"] == round(BLOCK_SECONDS * 32000)
    assert "blocks dropped" in capsys.readouterr().err


@pytest.mark.parametrize("slack", [None, 0.5])
def test_the_reader_stops_with_the_separation(identity: Separator, slack: float | None) -> None:
    """An endless input whose output fails: the thread that reads must not go on for ever."""
    readers: list[threading.Thread] = []

    class Failing(Blocks):
        def blocks(self) -> Iterator[np.ndarray]:
            readers.append(threading.current_thread())
            while True:
                yield np.zeros((2, 160), np.float32)

        def write(self, samples: np.ndarray) -> int:
            raise BrokenPipeError

    both = Failing([])
    with pytest.raises(BrokenPipeError):
        separate_live(both, both, LiveTarget(opener(identity)), slack=slack)
    readers[0].join(30)
    assert not readers[0].is_alive()


def test_of_what_is_too_late_only_the_number_is_kept() -> None:
    waiting = WaitingBlocks(100)
    waiting.put(np.zeros((1, 60), np.float32))
    for _ in range(1000):
        waiting.put(np.zeros((1, 60), np.float32))
        assert len(waiting._blocks) <= 1
    waiting.end(OSError("unplugged"))
    assert waiting.take() == ([], (1001 * 60, 1001), False)
    with pytest.raises(OSError, match="unplugged"):
        waiting.take()
