"""Listening tests: the page in a real browser, its key, the anchors, and the analysis of ratings."""

from __future__ import annotations

import base64
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import sounds

from audiosep.cli import main
from audiosep.errors import DataError
from audiosep.evaluation.listening import (
    ANCHOR,
    MID_ANCHOR,
    REFERENCE,
    Key,
    key_path,
    low_pass,
    make_test,
    read_ratings,
)
from audiosep.evaluation.ratings import analyse, screen

RATE = 16000


def systems(root: Path, items: tuple[str, ...] = ("dog", "piano"), names: tuple[str, ...] = ("ours", "theirs")) -> Path:
    for index, item in enumerate(items):
        true = sounds.voice(1.5, RATE, index)
        for name, level in zip(("reference", *names), (0.0, 0.1, 0.6, 0.9), strict=False):
            (root / name).mkdir(parents=True, exist_ok=True)
            mixed = true + level * sounds.noise(1.5, RATE, index)
            soundfile.write(root / name / f"{item}.wav", mixed, RATE, subtype="FLOAT")
    return root


def embedded(page: Path) -> dict:
    text = page.read_text(encoding="utf-8")
    return json.loads(re.search(r'<script type="application/json" id="test">(.*?)</script>', text, re.DOTALL)[1])


def decoded(text: str) -> np.ndarray:
    return soundfile.read(io.BytesIO(base64.b64decode(text)), dtype="float32")[0]


def test_the_page_does_not_tell_which_version_is_which(tmp_path: Path) -> None:
    page = tmp_path / "test.html"
    key = make_test(systems(tmp_path / "in"), page, title="A & <b>", mid_anchor=True)
    assert Key.load(key_path(page)) == key
    data = embedded(page)
    text = re.sub(r"[A-Za-z0-9+/=]{200,}", "", page.read_text(encoding="utf-8"))  # without the sounds
    assert not re.search(r"\b(ours|theirs|dog|piano|kHz)\b", text)
    assert "<h1>A &amp; &lt;b&gt;</h1>" in text
    assert "http" not in text
    for trial in data["trials"]:
        names = [signal["id"] for signal in trial["signals"]]
        assert names == sorted(names)
        mine = next(t for t in key.trials if t.id == trial["id"])
        assert {s.id for s in mine.signals} == set(names)
        assert {s.system for s in mine.signals} == {"ours", "theirs", REFERENCE, ANCHOR, MID_ANCHOR}


def test_versions_share_the_cut_and_the_gain(tmp_path: Path) -> None:
    folder = systems(tmp_path / "in", ("dog",))
    true, rate = soundfile.read(folder / "reference" / "dog.wav")
    true[:RATE] *= 0.1
    for path in folder.glob("*/dog.wav"):
        soundfile.write(path, 30 * true if path.parent.name != "theirs" else 15 * true, rate, subtype="FLOAT")
    key = make_test(folder, tmp_path / "x.html", seconds=1)  # the loudest second
    names = {signal.id: signal.system for signal in key.trials[0].signals}
    audio = {names[s["id"]]: decoded(s["audio"]) for s in embedded(tmp_path / "x.html")["trials"][0]["signals"]}
    assert all(len(x) == RATE for x in audio.values())
    assert np.abs(audio[REFERENCE]).max() == pytest.approx(0.99, abs=0.05)
    np.testing.assert_allclose(audio["theirs"], 0.5 * audio[REFERENCE], atol=1e-4)
    assert np.square(audio[REFERENCE]).mean() > np.square(true[:RATE] * 0.99 / np.abs(true).max()).mean()


@pytest.mark.parametrize(("cutoff", "checks"), [(3500.0, (4000, 4500)), (7000.0, (8000, 9000))])
def test_anchors_are_within_the_recommendation(cutoff: float, checks: tuple[int, int]) -> None:
    rate = 48000
    impulse = np.zeros((1, rate), np.float32)
    impulse[0, rate // 2] = 1
    response = 20 * np.log10(np.abs(np.fft.rfft(low_pass(impulse, rate, cutoff)[0])) + 1e-12)  # 1 Hz a bin
    assert np.abs(response[: int(cutoff)]).max() < 0.1
    assert response[checks[0] :].max() < -25
    assert response[checks[1] :].max() < -50
    filtered = low_pass(impulse, rate, cutoff)
    assert int(np.argmax(filtered)) == rate // 2  # no delay
    assert np.abs(np.fft.rfft(low_pass(impulse, 8000, 3500.0)[0]))[-1] < 1e-2
    with pytest.raises(DataError, match=r"7000 Hz are too low for an anchor of 3\.5 kHz: take recordings of 8000 Hz"):
        low_pass(impulse, 7000, 3500.0)


def test_wrong_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"reference/piano\.wav"):
        make_test(tmp_path, tmp_path / "x.html")
    folder = systems(tmp_path / "in")
    (folder / "ours" / "dog.wav").unlink()
    with pytest.raises(DataError, match=r"no ours/dog\.wav"):
        make_test(folder, tmp_path / "x.html")
    for index in range(11):
        (folder / f"more{index}").mkdir()
    with pytest.raises(DataError, match=r"BS\.1534 allows 12"):
        make_test(folder, tmp_path / "x.html")
    assert not (tmp_path / "x.html").exists()


def test_a_page_with_other_sound_is_another_test(tmp_path: Path) -> None:
    """Ratings of one page are never taken for those of another, and the key that they need is not replaced."""
    folder, page = systems(tmp_path / "in"), tmp_path / "x.html"
    key = make_test(folder, page)
    assert make_test(folder, page) == key
    written = page.read_bytes()
    soundfile.write(folder / "ours" / "dog.wav", 0.5 * sounds.voice(1.5, RATE, 0), RATE, subtype="FLOAT")
    with pytest.raises(DataError, match=r"x\.key\.json is the key of another test"):
        make_test(folder, page)
    assert (page.read_bytes(), Key.load(key_path(page))) == (written, key)
    other = make_test(folder, tmp_path / "y.html")
    assert other.test != key.test
    with pytest.raises(DataError, match="ratings of the test"):
        read_ratings([rate_all(key, tmp_path / "a.json", "a", GOOD)], other)


def rate_all(key: Key, path: Path, listener: str, values: dict[str, float], noise: float = 0.0) -> Path:
    """What the page would save for a listener who rates each system so."""
    random = np.random.default_rng(abs(hash(listener)) % 1000)
    trials = [
        {
            "trial": trial.id,
            "order": [signal.id for signal in trial.signals],
            "ratings": {
                s.id: float(np.clip(values[s.system] + noise * random.normal(), 0, 100)) for s in trial.signals
            },
        }
        for trial in key.trials
    ]
    path.write_text(json.dumps({"format": 1, "test": key.test, "listener": listener, "trials": trials}))
    return path


GOOD = {REFERENCE: 100.0, ANCHOR: 20.0, "ours": 80.0, "theirs": 50.0}


def test_analysis_of_made_up_listeners(tmp_path: Path) -> None:
    key = make_test(systems(tmp_path / "in"), tmp_path / "x.html")
    paths = [
        rate_all(key, tmp_path / f"{i}.json", f"l{i}", GOOD | {"ours": 80.0 + i, "theirs": 50.0 - i})
        for i in range(-2, 3)
    ]
    paths.append(rate_all(key, tmp_path / "careless.json", "careless", GOOD | {REFERENCE: 60.0, "ours": 0.0}))
    found = analyse(read_ratings(paths, key))
    assert list(found.excluded) == ["careless"]
    assert [summary.system for summary in found.overall] == [REFERENCE, "ours", "theirs", ANCHOR]
    ours = found.overall[1]
    assert (ours.mean, ours.median, ours.listeners) == (80, 80, 5)
    # Student's t with 4 degrees of freedom: 2.776 * sqrt(2.5) / sqrt(5)
    assert ours.high - ours.mean == pytest.approx(2.776445 * np.sqrt(2.5 / 5), abs=1e-5)
    assert (ours.lower, ours.upper) == (79, 81)
    assert set(found.items) == {"dog", "piano"}
    assert "| ours | 80.0 | 78.0 to 82.0 | 80.0 | 79.0 to 81.0 | 5 |" in found.markdown()
    assert "Excluded: careless: rated the hidden reference below 90 in 100% of the items." in found.markdown()
    json.dumps(found.data(), allow_nan=False)


def test_nothing_is_analysed_without_listeners(tmp_path: Path) -> None:
    key = make_test(systems(tmp_path / "in"), tmp_path / "x.html")
    careless = rate_all(key, tmp_path / "a.json", "careless", GOOD | {REFERENCE: 60.0})
    with pytest.raises(DataError, match=r"every listener is excluded, ask others:\n  careless: rated the hidden"):
        analyse(read_ratings([careless], key))


def test_one_listener_has_no_interval(tmp_path: Path) -> None:
    key = make_test(systems(tmp_path / "in"), tmp_path / "x.html")
    found = analyse(read_ratings([rate_all(key, tmp_path / "a.json", "a", GOOD)], key))
    assert found.overall[1].low is None
    assert "| ours | 80.0 | - |" in found.markdown()


def test_screening_by_the_mid_anchor() -> None:
    items = [f"i{n}" for n in range(10)]

    def listener(mid: dict[str, float], reference: dict[str, float] | None = None) -> dict:
        given = {(item, MID_ANCHOR): mid.get(item, 50.0) for item in items}
        return given | {(item, REFERENCE): (reference or {}).get(item, 100.0) for item in items}

    careful = {f"c{n}": listener({}) for n in range(6)}
    fooled = {"fooled": listener({"i1": 95.0, "i2": 95.0})}
    assert list(screen(careful | fooled)) == ["fooled"]
    once = {"once": listener({"i1": 95.0}, {"i3": 80.0})}
    assert screen(careful | once) == {}
    harmless = {f"h{n}": listener({"i1": 95.0, "i2": 95.0}) for n in range(4)}
    assert screen(careful | harmless) == {}  # more than a quarter did so: the item, not the listener


def test_wrong_ratings_are_named(tmp_path: Path) -> None:
    key = make_test(systems(tmp_path / "in"), tmp_path / "x.html")
    good = rate_all(key, tmp_path / "a.json", "a", GOOD)
    again = rate_all(key, tmp_path / "b.json", "a", GOOD)
    with pytest.raises(DataError, match="in two files"):
        read_ratings([good, again], key)
    data = json.loads(good.read_text())
    for change, message in (
        ({"test": "other"}, "ratings of the test 'other'"),
        ({"trials": data["trials"][:1]}, "4 of 8 ratings are missing"),
        ({"trials": None}, "not ratings"),
    ):
        again.write_text(json.dumps(data | change))
        with pytest.raises(DataError, match=message):
            read_ratings([again], key)
    again.write_text(good.read_text().replace("100.0", "101"))
    with pytest.raises(DataError, match="between 0 and 100"):
        read_ratings([again], key)
    with pytest.raises(DataError, match="no ratings"):
        read_ratings([], key)
    with pytest.raises(DataError, match="not the key"):
        Key.load(good)
    again.write_text("{}", encoding="utf-16")
    with pytest.raises(DataError, match="not the key"):
        Key.load(again)


def test_command_line(tmp_path: Path, capsys) -> None:
    page = tmp_path / "test.html"
    assert main(["listen", "make", str(systems(tmp_path / "in")), "-o", str(page), "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert made["items"] == 2
    key = Key.load(Path(made["key"]))
    files = [str(rate_all(key, tmp_path / f"{n}.json", n, GOOD, noise=2)) for n in "abc"]
    table = tmp_path / "table.md"
    assert main(["listen", "analyse", made["key"], *files, "--markdown", str(table)]) == 0
    assert capsys.readouterr().out.strip() == table.read_text().strip()
    assert main(["listen", "analyse", made["key"], str(page)]) == 1
    assert "not ratings" in capsys.readouterr().err
    assert main(["listen", "analyse", made["key"], str(tmp_path / "d.json")]) == 1
    assert f"there is no file {tmp_path / 'd.json'}" in capsys.readouterr().err
    before = Path(files[0]).read_bytes()
    assert main(["listen", "analyse", made["key"], *files, "--markdown", files[0]]) == 2
    assert Path(files[0]).read_bytes() == before
    assert main(["listen", "make", str(tmp_path / "in"), "-o", str(tmp_path / "test.txt")]) == 2


# Listens at the loudspeaker: everything that is connected to the destination also goes into an analyser.
_METER = """
const connect = AudioNode.prototype.connect;
AudioNode.prototype.connect = function (to, ...rest) {
  if (to === this.context.destination) {
    window.meter = window.meter || this.context.createAnalyser();
    connect.call(this, window.meter);
  }
  return connect.call(this, to, ...rest);
};
window.loudness = () => {
  const x = new Float32Array(window.meter.fftSize);
  window.meter.getFloatTimeDomainData(x);
  return Math.sqrt(x.reduce((sum, y) => sum + y * y, 0) / x.length);
};
"""


def test_a_listener_rates_in_a_real_browser(chromium: Any, tmp_path: Path) -> None:
    file = tmp_path / "test.html"
    key = make_test(systems(tmp_path / "in"), file)
    truth = {signal.id: signal.system for trial in key.trials for signal in trial.signals}
    context = chromium.new_context()
    page = context.new_page()
    page.set_default_timeout(120_000)
    page.add_init_script(_METER)

    def begin() -> None:
        page.goto(file.as_uri())
        assert page.is_disabled("#begin")
        page.fill("#listener", "Jo Ä")
        page.click("#begin")

    begin()
    for piece in range(2):
        page.wait_for_function("document.querySelectorAll('.signal').length === 4 && playing !== null")
        assert page.is_disabled("#next")
        page.click("#reference")
        page.wait_for_function("loudness() > 0.01")
        played = set()
        for position in range(4):
            page.keyboard.press(str(position + 1))
            page.wait_for_function(f"playing.current === state.trials[{piece}].order[{position}]")
            page.wait_for_function("loudness() > 0.005")
            name = page.evaluate("playing.current")
            played.add(name)
            # A click on the slider's middle rates about 50; the arrow keys and the mouse do the rest for a person.
            slider = page.locator(".signal input").nth(position)
            slider.click()
            slider.fill(f"{GOOD[truth[name]]:.0f}")
        assert len(played) == 4
        page.keyboard.press(" ")
        page.wait_for_function("loudness() < 1e-6")
        assert page.is_enabled("#next")
        page.click("#next")
        if piece == 0:  # half-way the page is closed and opened again: nothing is lost
            page.wait_for_function("document.getElementById('place').textContent === 'Piece 2 of 2'")
            begin()
            page.wait_for_function("document.getElementById('place').textContent === 'Piece 2 of 2'")
    page.wait_for_selector("#end:not([hidden])")
    page.fill("#comment", "fine")
    with page.expect_download() as waiting:
        page.click("#save")
    assert waiting.value.suggested_filename == f"ratings-{key.test}-Jo_.json"
    saved = tmp_path / "ratings.json"
    waiting.value.save_as(saved)
    context.close()
    data = json.loads(saved.read_text(encoding="utf-8"))
    assert (data["listener"], data["comment"]) == ("Jo Ä", "fine")
    assert all(trial["seconds"] > 0 for trial in data["trials"][:1])
    found = analyse(read_ratings([saved], key))
    assert {summary.system: summary.mean for summary in found.overall} == GOOD
