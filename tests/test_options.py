"""The two objects of options: their values are checked, and Python and the command line share them."""

from __future__ import annotations

import dataclasses
import inspect
from typing import Any

import numpy as np
import pytest
from doubles import FakeEncoder, TinyModel

import audiosep
from audiosep import InputError, Options, OutputOptions
from audiosep.cli import job, main
from audiosep.cli.job_options import JobOptions
from audiosep.separator import Separator


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("overlap", value) for value in (-0.1, 1, 1.5, np.nan, "0.1", True, None)),
        *(("shifts", value) for value in (-1, 17, 0.5, "1", True, None)),
        *(("batch", value) for value in (0, -1, 1.5, "1", True)),
        *(("quality", value) for value in ("good", 1, None)),
    ],
)
def test_impossible_options(name: str, value: Any) -> None:
    with pytest.raises(InputError, match=f"^{name} must be"):
        Options(**{name: value})


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("format", "xyz", "unknown format"),
        ("format", None, "unknown format"),
        ("template", "{file}.{ext}", "a template has"),
        ("residual", "yes", "residual must be True or False"),
        ("overwrite", 1, "overwrite must be True or False"),
        ("only", [], "at least one target"),
        ("only", [1], "at least one target"),
        ("on_clip", "wrap", "on_clip must be"),
        ("max_seconds", -1, "max_seconds must be"),
        ("max_seconds", np.nan, "max_seconds must be"),
        ("max_seconds", None, "max_seconds must be"),
        ("bitrate", 0, "bitrate must be"),
        ("bitrate", "128", "bitrate must be"),
        ("bitrate", 128, "wav keeps every sample"),
    ],
)
def test_impossible_output_options(name: str, value: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        OutputOptions(**{name: value})


def test_formats_have_the_names_of_their_extensions_and_bit_rates_of_their_own() -> None:
    assert [OutputOptions(format=name).format for name in (".WAVE", "oga", "Stem.mp4")] == ["wav", "ogg", "stem.mp4"]
    for format, low, high in (("mp3", 8, 320), ("m4a", 16, 1536), ("opus", 6, 2048)):
        assert [OutputOptions(format=format, bitrate=rate).bitrate for rate in (low, high)] == [low, high]
        for rate in (low - 1, high + 1):
            with pytest.raises(InputError, match=f"{format} has {low} to {high} kbit/s, not {rate}"):
                OutputOptions(format=format, bitrate=rate)
    with pytest.raises(InputError, match="videos have sound of a fixed bit rate"):
        OutputOptions(video=True, bitrate=64)


def test_options_are_values() -> None:
    assert Options(overlap=0.5) == Options(0.5) != Options()
    assert OutputOptions(only="vocals") == OutputOptions(only=["vocals"])
    assert len({OutputOptions(only=["a", "b"]), OutputOptions(only=("a", "b")), OutputOptions()}) == 2
    with pytest.raises(AttributeError):
        Options().shifts = 1  # type: ignore[misc]


def test_the_defaults_are_those_that_outputs_were_made_with() -> None:
    assert dataclasses.asdict(Options()) == {
        "overlap": 0.02,
        "shifts": 0,
        "batch": None,
        "stem_head": None,
        "quality": "balanced",
    }
    assert dataclasses.asdict(OutputOptions()) == {
        "format": "wav",
        "template": "{file} ({stem}).{ext}",
        "residual": True,
        "only": None,
        "on_clip": "gain",
        "overwrite": False,
        "max_seconds": 43_200,
        "rest_only": False,
        "skip_existing": False,
        "video": False,
        "bitrate": None,
        "track": None,
        "start": 0.0,
        "end": None,
        "preview": None,
        "rate": None,
        "mono": False,
        "loudness": None,
        "everywhere": True,
        "labels": False,
    }


def test_windows_of_a_recording_cross_fade_over_the_default_share() -> None:
    sound = np.random.default_rng(0).uniform(-0.5, 0.5, (1, 60_000)).astype(np.float32)
    separator = Separator(TinyModel(), FakeEncoder(), "cpu", "fp32")

    def separate(**options: Any) -> Any:
        return separator.separate(sound, "piano", sample_rate=16000, **options)["piano"]

    ours = separate()
    assert np.array_equal(ours, separate(options=Options(overlap=0.02)))
    assert not np.array_equal(ours, separate(options=Options(overlap=0.05)))


def test_save_has_the_defaults_of_the_output_options() -> None:
    saved = inspect.signature(audiosep.Separation.save).parameters
    for name in ("format", "template", "residual", "on_clip", "overwrite", "bitrate"):
        assert saved[name].default == getattr(OutputOptions(), name)


@pytest.fixture
def jobs(monkeypatch: pytest.MonkeyPatch) -> list[JobOptions]:
    """The options that the command line gives; nothing is separated."""
    seen: list[JobOptions] = []
    monkeypatch.setattr(job, "run", lambda inputs, queries, options, model, **_: seen.append(options))
    return seen


@pytest.mark.parametrize("verb", [("separate", "a.wav", "piano"), ("stems", "a.wav")])
def test_the_command_line_has_every_option_with_the_defaults_of_python(
    jobs: list[JobOptions], verb: tuple[str, ...]
) -> None:
    given = ("-f", "opus", "--bitrate", "96", "--track", "eng", "--template", "{stem}.{ext}", "--no-residual",
             "--on-clip", "clip", "--overwrite", "--max-seconds", "5", "--rest", "--start", "1", "--end", "2",
             "--rate", "8000", "--mono", "--loudness", "-16", "--overlap", "0.5", "--shifts", "2",
             "--batch", "3", "--quality", "best", "--labels")  # fmt: skip
    assert main([*verb]) == main([*verb, *given]) == 0
    default, chosen = jobs
    assert (default.output, default.options) == (OutputOptions(), Options())
    assert chosen.output == OutputOptions(
        "opus", "{stem}.{ext}", False, None, "clip", True, 5.0, True, bitrate=96, track="eng",
        start=1.0, end=2.0, rate=8000, mono=True, loudness=-16.0, labels=True,
    )  # fmt: skip
    assert chosen.options == Options(0.5, 2, 3, quality="best")
    for options in (chosen.output, chosen.options):
        for field in dataclasses.fields(options):
            elsewhere = ("only", "stem_head", "skip_existing", "video", "preview", "everywhere")  # not beside others
            assert field.name in elsewhere or getattr(options, field.name) != field.default, "every option is given"
