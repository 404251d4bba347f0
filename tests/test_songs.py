"""Songs of research/corpus/songs: composed, played on sounds that the tests make, mixed and mastered."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path

import numpy as np
import pytest
import soundfile

pytest.importorskip("mido")
pytest.importorskip("pyworld")

from audiosep.data.shards import read_shards
from audiosep.errors import DataError
from research.corpus.songs import effects, mixing
from research.corpus.songs.composing import compose
from research.corpus.songs.effects import RATE
from research.corpus.songs.library import Library
from research.corpus.songs.rendering import named, render_song, render_songs
from research.corpus.songs.scores import Note, Part, Score
from research.corpus.songs.singing import sing, voice_of
from research.corpus.songs.styles import LEADS, PADS, PROGRAMS, STYLES
from research.corpus.sources import Source

VOICE = 24_000  # Hz


def spoken(seconds: float, hertz: float) -> np.ndarray:
    """Syllables: noise, then a pulse train through a resonance, then silence."""
    t = np.arange(int(seconds * VOICE)) / VOICE
    pulses = sum(np.sin(2 * np.pi * hertz * k * t) / k for k in range(1, 25))
    place = t % 0.4
    noise = np.random.default_rng(0).standard_normal(len(t)) * 0.1
    return 0.2 * np.where(place < 0.06, noise, np.where(place < 0.34, pulses, 0.0))


class Sounds:
    """A table with bytes: two kits, basses, guitars, a man and a woman."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.rows: list[Source] = []
        random = np.random.default_rng(1)
        t = np.arange(RATE // 2) / RATE
        for style in STYLES.values():
            for origin in (*style.kits, *style.basses, "karoryfer emilyguitar", "karoryfer shinyguitar"):
                if origin.isdigit() or origin.split()[0] in ("saw", "square", "sine"):
                    continue
                if any(row.origin == origin for row in self.rows):
                    continue
                if origin in style.kits:
                    for label in ("kick drum", "snare drum", "hi-hat", "crash cymbal"):
                        self.add(origin, label, random.standard_normal(RATE // 5) * np.exp(-t[: RATE // 5] * 20) * 0.3)
                else:
                    for note in (36, 48, 60):
                        hertz = 440 * 2 ** ((note - 69) / 12)
                        self.add(origin, "bass guitar", 0.5 * np.sin(2 * np.pi * hertz * t) * np.exp(-4 * t), note=note)
        for name, hertz, label in (("adam", 110.0, "male speech"), ("eve", 210.0, "female speech")):
            self.add("", label, spoken(7, hertz), family="speech", speaker=name, rate=VOICE)

    def add(self, origin: str, label: str, x: np.ndarray, rate: int = RATE, **values: object) -> None:
        file = io.BytesIO()
        soundfile.write(file, x, rate, format="WAV", subtype="PCM_16")
        number = f"{len(self.rows):016x}"
        self.files[number] = file.getvalue()
        known = {"family": "instrument", "licence": "CC0-1.0", "credit": f"somebody: {origin or label}"}
        known |= {"evidence": "LICENSE", "seconds": len(x) / rate, "rate": rate, "channels": 1, "sha256": number}
        row = Source("a/b", "0" * 40, f"{number}.wav", label, origin=origin, **{**known, **values})  # type: ignore[arg-type]
        self.rows.append(row)

    def library(self) -> Library:
        return Library(self.rows, lambda source: self.files[source.sha256])


@pytest.fixture(scope="module")
def sounds() -> Sounds:
    return Sounds()


def rms_db(x: np.ndarray) -> float:
    return float(10 * np.log10(np.square(x).mean() + 1e-12))


@pytest.mark.parametrize("style", sorted(STYLES))
def test_compositions(style: str) -> None:
    score = compose(3, style)
    assert compose(3, style) == score
    assert compose(4, style) != score
    assert 40 < score.seconds < 90
    roles = {part.role for part in score.parts}
    assert "bass" in roles
    assert ("drums" in roles) == bool(STYLES[style].kits)
    for part in score.parts:
        named(part, None)  # every instrument has a label
        for note in part.notes:
            assert 0 <= note.at < score.beats + 1
            assert note.beats > 0
            assert 0 < note.loudness <= 1
            assert part.role == "drums" or 20 <= int(note.pitch) <= 100
    # Basses play the key, up to passing notes.
    bass = next(part for part in score.parts if part.role == "bass")
    scale = {(score.key + step) % 12 for step in ((0, 2, 3, 5, 7, 8, 10) if score.minor else (0, 2, 4, 5, 7, 9, 11))}
    assert np.mean([int(note.pitch) % 12 in scale for note in bass.notes]) > 0.85


def test_most_songs_are_sung() -> None:
    scores = [compose(seed) for seed in range(60)]
    assert sum(any(part.role == "vocals" for part in score.parts) for score in scores) > 42
    assert len({score.style for score in scores}) > 15
    assert len({(score.key, score.minor) for score in scores}) > 12


def test_programs_have_labels() -> None:
    for style in STYLES.values():
        assert {*style.leads, *style.pads, *style.keys, *LEADS, *PADS} <= set(PROGRAMS)


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Songs of about ten seconds, without the soundfont."""
    monkeypatch.setattr("research.corpus.songs.composing.SECONDS", (9.0, 11.0))

    def played(part: Part, score: Score, program: int) -> np.ndarray:
        from research.corpus.songs.players import song_samples

        out = np.zeros((2, song_samples(score)), np.float32)
        for note in part.notes:
            at, count = int(note.at * 60 / score.tempo * RATE), RATE // 4
            t = np.arange(count) / RATE
            x = 0.1 * np.sin(2 * np.pi * 440 * 2 ** ((int(note.pitch) - 69) / 12) * t)
            out[:, at : at + count] += x[: max(0, out.shape[1] - at)].astype(np.float32)
        return out

    monkeypatch.setattr("research.corpus.songs.players.play_soundfont", played)


def test_rendered_twice_the_same_and_sums(sounds: Sounds, short: None, tmp_path: Path) -> None:
    score, stems = render_song(5, sounds.library(), "rock")
    _, again = render_song(5, sounds.library(), "rock")
    assert [stem.name for stem in stems] == [stem.name for stem in again]
    for one, two in zip(stems, again, strict=True):
        np.testing.assert_array_equal(one.samples, two.samples)
    assert {"drums", "bass", "other", "vocals"} == {stem.stem for stem in stems}
    master = np.sum([stem.samples for stem in stems], axis=0)
    assert np.abs(master).max() <= mixing.CEILING + 1e-4
    assert np.abs(master).max() > 0.3
    assert -22 < rms_db(master) < -7
    assert abs(master.shape[1] / RATE - score.seconds - 2.5) < 0.1
    for stem in stems:
        assert np.isfinite(stem.samples).all()
        assert rms_db(stem.samples) > -50
    vocals = next(stem for stem in stems if stem.stem == "vocals")
    assert vocals.sources[0].speaker in ("adam", "eve")
    assert vocals.rate == 32_000


def test_shards_of_songs(sounds: Sounds, short: None, tmp_path: Path) -> None:
    done: list[int] = []
    render_songs([7, 8], sounds.library(), tmp_path / "a", lambda seed, _: done.append(seed))
    assert done == [7, 8]
    render_songs([7], sounds.library(), tmp_path / "b")
    assert (tmp_path / "a" / "song-00007.tar").read_bytes() == (tmp_path / "b" / "song-00007.tar").read_bytes()
    render_songs([7, 8], sounds.library(), tmp_path / "a", lambda seed, _: pytest.fail("made anew"))
    clips = read_shards(tmp_path / "a")
    assert {clip.song for clip in clips} == {"song-00007", "song-00008"}
    assert {clip.family for clip in clips} == {"music"}
    assert all(clip.stem and clip.licence.startswith("CC0-1.0") and clip.credit for clip in clips)
    assert len({clip.group for clip in clips}) == 2


def test_singing_hits_the_notes(sounds: Sounds) -> None:
    library = sounds.library()
    random = np.random.default_rng(0)
    notes = (Note(0.5, 1.0, 57, 0.8), Note(1.5, 1.0, 62, 0.8), Note(4.0, 2.0, 59, 0.8))
    score = Score("pop", 60.0, 9, False, 7.0, ())
    voice = voice_of("eve", library.sources_of("eve"), library, random)
    assert voice is not None
    assert abs(voice.pitch - 210) < 10
    x = sing(Part("vocals", "voice 0", notes), score, voice, random)
    for note in notes:
        begin = int((note.at + 0.35) * RATE)
        part = x[begin : begin + int(0.4 * RATE)] * np.hanning(int(0.4 * RATE))
        spectrum = np.abs(np.fft.rfft(part, 1 << 18))
        hertz = 440 * 2 ** ((int(note.pitch) - 69) / 12)
        low, high = (int(hertz * 2 ** (s / 12) * (1 << 18) / RATE) for s in (-5, 5))
        heard = (low + int(np.argmax(spectrum[low:high]))) * RATE / (1 << 18)
        assert abs(12 * np.log2(heard / hertz)) < 0.7
    silent = x[int(3.0 * RATE) : int(3.5 * RATE)]
    assert rms_db(silent) < rms_db(x) - 30


def test_the_limiter_keeps_its_ceiling() -> None:
    random = np.random.default_rng(2)
    x = (random.standard_normal((2, RATE)) * np.linspace(0.1, 3, RATE)).astype(np.float32)
    gain = effects.limiter_gain(x, 0.8)
    assert np.abs(x * gain).max() <= 0.8 + 1e-5
    assert gain.max() <= 1
    quiet = effects.limiter_gain(x * np.float32(0.01), 0.8)
    np.testing.assert_allclose(quiet, 1)


def test_effects_do_what_they_say() -> None:
    random = np.random.default_rng(3)
    t = np.arange(RATE) / RATE
    tone = (0.3 * np.sin(2 * np.pi * 220 * t)).astype(np.float32)
    driven = effects.amplified(tone, 36, random)
    spectrum = np.abs(np.fft.rfft(driven * np.hanning(RATE)))
    assert spectrum[660] > 0.05 * spectrum[220]  # overtones that were not there
    assert spectrum[12_000:].max() < 0.01 * spectrum.max()  # the cabinet, and no aliases
    response = effects.room(random, 1.0)
    np.testing.assert_allclose(np.square(response).sum(1), 1, rtol=1e-3)
    dry = effects.placed(tone, 0.0)
    wet = effects.in_room(dry, effects.Tone(0, 0, 0), response, -100)
    np.testing.assert_allclose(wet, dry, atol=1e-3)
    loud = effects.compressed(dry * np.where(t < 0.5, 0.1, 1).astype(np.float32), -12, 8)
    assert rms_db(loud[:, : RATE // 2]) > rms_db(loud[:, RATE // 2 :]) - 12  # 20 dB before
    left = effects.placed(tone, -1.0)
    assert rms_db(left[1]) < -60


def test_a_missing_instrument_is_named(sounds: Sounds) -> None:
    rows = [row for row in sounds.rows if row.origin != "karoryfer growlybass"]
    library = Library(rows, lambda source: sounds.files[source.sha256])
    with pytest.raises(DataError, match="no instrument or speaker 'karoryfer growlybass'"):
        library.notes("karoryfer growlybass")


def test_kits_join_microphones() -> None:
    sounds = Sounds()
    sounds.rows.clear()
    click = np.zeros(RATE // 10)
    click[100] = 0.5
    for name in ("OHL", "OHR", "Snare_top"):
        sounds.add("kit", "snare drum", click)
        sounds.rows[-1] = dataclasses.replace(sounds.rows[-1], path=f"Samples/Snare/3-Snare-{name}.wav")
    kit = sounds.library().kit("kit")
    assert list(kit) == ["snare"]
    assert len(kit["snare"]) == 1
    np.testing.assert_allclose(*np.abs(kit["snare"][0]).max(1))
