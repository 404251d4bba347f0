"""Mixtures: sums, levels, labels, queries, songs; plans are pure functions, rendered the same on every device."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import corpora
import numpy as np
import pytest
import soundfile
import torch

from audiosep.data.augment import AugmentConfig
from audiosep.data.corpus import Corpus
from audiosep.data.labels import label_table
from audiosep.data.loading import MixtureLoader
from audiosep.data.manifest import STEMS, Clip
from audiosep.data.mixing import LEVEL, Mixer, MixtureBatch
from audiosep.data.mixture_plan import BatchPlan, PlannedSource
from audiosep.data.queries import STEM_CAPTIONS, QueryBuilder
from audiosep.data.sampling import Sampler, SamplingConfig
from audiosep.errors import ConfigError, DataError
from audiosep.weights.configs import from_dict

PLAIN = AugmentConfig(speed=0, tempo=0, pitch=0, equalise=0, bandlimit=0, reverb=0, codec=0, polarity=0)
EVERYTHING = AugmentConfig(speed=0.4, tempo=0.2, pitch=0.2, equalise=0.5, bandlimit=0.2, reverb=0.3, codec=0.2)
BASE = SamplingConfig(mixtures=8, seconds=1.0)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return corpora.make_corpus(tmp_path_factory.mktemp("corpus"))


def batches(corpus: Corpus, config: SamplingConfig, count: int = 20) -> list[tuple[BatchPlan, MixtureBatch]]:
    sampler, mixer = Sampler(corpus, config), Mixer(corpus)
    return [(plan, mixer.render(plan)) for plan in (sampler.plan(step) for step in range(count))]


def label(corpus: Corpus, source: PlannedSource) -> str:
    return corpus.clips[source.clip].label


@pytest.mark.parametrize("config", [BASE, replace(BASE, augment=EVERYTHING, songs=0.5, mix_audio=0.5)])
def test_shapes_levels_and_meaning(corpus, config):
    for plan, batch in batches(corpus, config, 6):
        mixtures, count, samples = batch.sources.shape
        assert (mixtures, samples) == (8, 16000)
        assert count == max(len(m.sources) for m in plan.mixtures)
        assert torch.isfinite(batch.sources).all()
        peaks = batch.sources.sum(1).abs().amax(-1)
        assert torch.allclose(peaks, torch.tensor([m.peak for m in plan.mixtures]), atol=1e-4)
        assert min(len(m.sources) for m in plan.mixtures) >= 2
        queries = len(plan.queries)
        assert batch.owner.shape == (queries,)
        assert batch.membership.shape == (queries, count)
        assert len(batch.captions) == len(batch.negatives) == len(batch.labels) == len(batch.families) == queries
        for q, query in enumerate(plan.queries):
            there = len(plan.mixtures[query.mixture].sources)
            assert batch.membership[q, there:].sum() == 0
            assert batch.membership[q].sum() == len(query.members) < there
            assert batch.captions[q] == batch.captions[q].lower()


@pytest.mark.parametrize(
    ("wrong", "place"),
    [
        ({"mixtures": 0}, "sampling.mixtures"),
        ({"seconds": -1.0}, "sampling.seconds"),
        ({"absent": 1.5}, "sampling.absent"),
        ({"sources": (0.0, 0.0, 0.0, 0.0)}, "sampling.sources"),
        ({"families": {"event": -1.0}}, "sampling.families"),
        ({"level_db": -3.0}, "level_db"),
        ({"augment": {"reverb": 2.0}}, "augment.reverb"),
        ({"augment": {"speeds": (1.2, 0.8)}}, "augment.speeds"),
    ],
)
def test_impossible_mixtures_are_refused(wrong, place):
    with pytest.raises(ConfigError, match=place):
        from_dict(SamplingConfig, wrong)


def test_a_plan_is_a_pure_function_of_seed_step_and_rank(corpus):
    a, b = Sampler(corpus, BASE, seed=3), Sampler(corpus, BASE, seed=3)
    b.plan(0)
    assert a.plan(7, 1) == b.plan(7, 1)
    assert a.plan(7, 1) != a.plan(7, 0)
    assert a.plan(7, 1) != a.plan(8, 1)
    assert a.plan(7, 1) != Sampler(corpus, BASE, seed=4).plan(7, 1)


def test_a_clip_that_the_corpus_lacks_is_named(corpus):
    with pytest.raises(DataError, match="no clip 'another one'"):
        corpus.index("another one")


def test_some_batches_are_of_half_as_many_mixtures_twice_as_long(corpus):
    plain, longer = (Sampler(corpus, replace(BASE, longer=share), 3) for share in (0.0, 0.5))
    plans = [longer.plan(step) for step in range(40)]
    one = plain.plan(0)
    shapes = {(plan.samples, len(plan.mixtures)) for plan in plans}
    assert shapes == {(one.samples, len(one.mixtures)), (2 * one.samples, len(one.mixtures) // 2)}


def test_workers_render_the_same_as_the_trainer(corpus):
    config = replace(BASE, augment=EVERYTHING, examples=1.0)
    sampler = Sampler(corpus, config)
    loader = MixtureLoader(sampler, workers=2)
    mixer = Mixer(corpus)
    for step in (5, 6, 2):  # in order, then a jump back as after a resume
        here, there = mixer.render(sampler.plan(step, 1)), loader.batch(step, rank=1)
        assert torch.allclose(here.sources, there.sources, rtol=1e-3, atol=1e-5)
        assert torch.allclose(here.examples, there.examples, rtol=1e-3, atol=1e-5)
        assert (here.captions, here.negatives) == (there.captions, there.negatives)
    loader.close()


@pytest.mark.gpu
def test_the_accelerator_renders_the_same(corpus, tmp_path):
    config = replace(BASE, augment=EVERYTHING, examples=1.0)
    resident = Corpus(corpus.clips, tmp_path / "cache", corpora.RATE).to("cuda")
    for step in range(5):
        here = Mixer(corpus).render(Sampler(corpus, config).plan(step))
        there = Mixer(resident).render(Sampler(resident, config).plan(step))
        assert there.sources.is_cuda
        assert torch.allclose(here.sources, there.sources.cpu(), atol=1e-4)
        assert torch.allclose(here.examples, there.examples.cpu(), atol=1e-4)


def test_no_query_matches_a_source_outside_its_target(corpus):
    table = label_table()
    config = replace(BASE, songs=0, mixed_songs=0, equal=0.2, siblings=0.3, families={"event": 1, "speech": 1})
    for plan, _ in batches(corpus, config, 30):
        for query in plan.queries:
            sources = plan.mixtures[query.mixture].sources
            for j, source in enumerate(sources):
                clip = corpus.clips[source.clip]
                if j not in query.members:
                    assert not table.implies(clip.label, query.label)
                    assert query.caption not in clip.texts
                else:
                    assert table.implies(clip.label, query.label) or table.implies(clip.label, query.caption)


def test_labels_that_imply_each_other_are_never_mixed_but_siblings_may_be(corpus):
    builder = QueryBuilder(corpus.clips, range(len(corpus)))
    number = {clip.label: i for i, clip in enumerate(corpus.clips)}
    rain, roof = number["rain"], number["rain on a surface"]
    assert not builder.separable(rain, roof)
    assert not builder.separable(rain, roof, siblings=True)
    man, woman = number["male speech"], number["female speech"]
    assert not builder.separable(man, woman)
    assert builder.separable(man, woman, siblings=True)
    found = {builder.source_query(np.random.default_rng(i), [man, woman], 0) for i in range(40)}
    assert {(q.caption, q.members) for q in found} == {
        ("male speech", (0,)),
        ("a man speaking", (0,)),
        ("speech", (0, 1)),
    }
    both = builder.source_query(np.random.default_rng(0), [rain, roof, man], 0)
    assert both.members == (0, 1) or both.caption not in corpus.clips[roof].texts


def test_two_clips_of_one_label_are_one_target(corpus):
    config = replace(BASE, songs=0, mixed_songs=0, equal=1.0, absent=0, queries=9)
    for plan, batch in batches(corpus, config, 5):
        for q, query in enumerate(plan.queries):
            same = [j for j, s in enumerate(plan.mixtures[query.mixture].sources) if label(corpus, s) == query.label]
            assert batch.membership[q, same].all()
        assert any(len(query.members) > 1 for query in plan.queries)


def test_absent_sounds_have_negatives_as_often_as_others(corpus):
    """Else a negative would tell that the sound is there."""
    config = replace(BASE, absent=1.0, negatives=1.0, songs=0)
    absent = [query for plan, _ in batches(corpus, config, 10) for query in plan.queries if not query.members]
    assert len(absent) > 40
    assert all(query.negative is not None and query.negative != query.caption for query in absent)


def test_absent_sounds_are_unrelated_to_every_source(corpus):
    table = label_table()
    absent = [
        (plan, query)
        for plan, _ in batches(corpus, replace(BASE, absent=1.0), 10)
        for query in plan.queries
        if not query.members
    ]
    assert len(absent) > 40
    for plan, query in absent:
        for source in plan.mixtures[query.mixture].sources:
            assert not table.conflict(label(corpus, source), query.label)
            assert query.caption not in corpus.clips[source.clip].texts


def test_negatives_name_another_source_of_the_mixture(corpus):
    config = replace(BASE, negatives=1.0, absent=0, songs=0.3)
    queries = [(plan, query) for plan, _ in batches(corpus, config, 10) for query in plan.queries]
    assert sum(query.negative is not None for _, query in queries) > 0.8 * len(queries)
    for plan, query in queries:
        if query.negative is not None:
            sources = plan.mixtures[query.mixture].sources
            texts = [corpus.clips[s.clip].texts for s in sources]
            assert any(query.negative in texts[j] for j in range(len(sources)) if j not in query.members)
            assert not any(query.negative in texts[j] for j in query.members)


def test_examples_are_other_recordings_of_the_sound(corpus):
    for plan, batch in batches(corpus, replace(BASE, examples=1.0, absent=0.5), 5):
        assert batch.examples is not None
        assert batch.example_of is not None
        found = [plan.queries[q] for q in batch.example_of.tolist()]
        assert len(found) == len(plan.queries)  # absent sounds too
        assert batch.examples.shape == (len(found), 16000)
        for query in found:
            assert label(corpus, query.example) == query.label
            used = {s.clip for s in plan.mixtures[query.mixture].sources}
            assert query.example.clip not in used or "song" in corpus.clips[query.example.clip].group
    without = batches(corpus, replace(BASE, examples=0.0), 1)[0][1]
    assert without.examples is None
    assert without.example_of is None


def test_independent_sounds_differ_by_the_configured_level(corpus):
    pairs = (1.0, 0.0, 0.0, 0.0)
    config = replace(BASE, songs=0, mixed_songs=0, equal=0, level_db=4.0, augment=PLAIN, sources=pairs)
    for plan, batch in batches(corpus, config, 5):
        rms = batch.sources.square().mean(-1).sqrt()
        gains = torch.tensor([[s.gain_db for s in m.sources] for m in plan.mixtures])
        assert gains.abs().max() <= 4.0
        ratio = 20 * torch.log10(rms[:, 0] / rms[:, 1])
        assert torch.allclose(ratio, gains[:, 0] - gains[:, 1], atol=0.05)
    spread = replace(config, levels="gaussian")
    gains = [s.gain_db for plan, _ in batches(corpus, spread, 5) for m in plan.mixtures for s in m.sources]
    assert max(map(abs, gains)) > 6
    assert LEVEL == 0.1


def test_songs_keep_their_balance_and_their_time(corpus):
    config = replace(BASE, songs=1.0, mixed_songs=0.0, song_level_db=0.0, augment=PLAIN)
    for plan, batch in batches(corpus, config, 4):
        assert batch.has_stems.all()
        for m, mixture in enumerate(plan.mixtures):
            clips = [corpus.clips[s.clip] for s in mixture.sources]
            assert len({clip.song for clip in clips}) == 1
            assert len({(s.segments[0].start, s.segments[0].speed) for s in mixture.sources}) == 1
            start = mixture.sources[0].segments[0].start
            expected = torch.stack(
                [
                    corpus.audio(s.clip)[start : start + 16000] * 10 ** (corpus.clips[s.clip].gain_db / 20)
                    for s in mixture.sources
                ]
            )
            expected *= mixture.peak / expected.sum(0).abs().max()
            assert torch.allclose(batch.sources[m, : len(clips)], expected, atol=1e-4)
            for s, clip in enumerate(clips):
                assert batch.stems[m, :, s].tolist() == [
                    float(clip.stem == name) for name in ("vocals", "drums", "bass", "other")
                ]
            assert batch.stems[m, :, len(clips) :].sum() == 0


def test_stem_captions_are_queries_for_whole_stems_and_mixed_songs_are_songs(corpus):
    config = replace(BASE, songs=0.0, mixed_songs=1.0, stem_captions=1.0, absent=0)
    seen = set()
    for plan, batch in batches(corpus, config, 6):
        assert batch.has_stems.all()
        songs = [{corpus.clips[s.clip].song for s in m.sources} for m in plan.mixtures]
        assert any(len(s) > 1 for s in songs)
        for query in plan.queries:
            stem = corpus.clips[plan.mixtures[query.mixture].sources[query.members[0]].clip].stem
            assert query.caption in STEM_CAPTIONS[stem]
            seen.add(stem)
    assert len(seen) == 4


def test_the_cutoff_is_at_most_the_bandwidth_of_every_source(corpus):
    config = replace(BASE, songs=0, mixed_songs=0)
    cutoffs = []
    for plan, batch in batches(corpus, config, 10):
        for m, mixture in enumerate(plan.mixtures):
            narrow = [s for s in mixture.sources if label(corpus, s) == "clock ticking"]  # recorded at 8 kHz
            if narrow:
                speed = max(s.segments[0].speed for s in narrow) / 20
                assert batch.cutoff[m] <= 4000 * speed + 1
                cutoffs.append(float(batch.cutoff[m]))
            for source in mixture.sources:
                if source.effects.lowpass:
                    assert batch.cutoff[m] <= source.effects.lowpass
    assert len(set(cutoffs)) > 1  # a faster sound reaches higher


def test_mix_audio_adds_another_segment_of_the_same_recording(corpus):
    config = replace(BASE, songs=0, mixed_songs=0, mix_audio=1.0, augment=PLAIN)
    plan, batch = batches(corpus, config, 1)[0]
    for number, mixture in enumerate(plan.mixtures):
        for source, x in zip(mixture.sources, batch.sources[number], strict=False):
            assert len(source.segments) == 2
            assert len({segment.clip for segment in source.segments}) == 1
            expected = torch.zeros(16000)
            for segment in source.segments:
                part = corpus.audio(segment.clip)[segment.start : segment.start + segment.length][: 16000 - segment.at]
                expected[segment.at : segment.at + len(part)] += part
            assert torch.nn.functional.cosine_similarity(x, expected, dim=0) > 0.999


def bursts(folder: Path, songs: bool = False) -> Corpus:
    """Six labels, or one song of four stems: clips of 6 s, all silent but for half a second of each of them."""
    clips = []
    for number, label in enumerate(STEMS if songs else (*STEMS, "clock ticking", "zipper")):
        x = np.zeros(6 * corpora.RATE, np.float32)
        x[corpora.RATE * (number + 1) // 2 :][: corpora.RATE // 2] = corpora.wave(number, 0.5, corpora.RATE)
        place = {"stem": label, "song": "one", "family": "music"} if songs else {}
        clips.append(Clip(label, str(corpora.write(folder / f"{label}.flac", x)), label, seconds=6.0, **place))
    return Corpus(clips, folder / "cache", corpora.RATE)


def test_segments_with_sound_are_preferred(tmp_path):
    config = replace(BASE, songs=0, mixed_songs=0, augment=PLAIN, mix_audio=0, sources=(1.0, 0.0, 0.0, 0.0), equal=0)
    found = [batch.sources.abs().amax(-1) > 0 for _, batch in batches(bursts(tmp_path), config, 25)]
    # A random segment of 1 s has sound with a probability of at least 0.25, one of three random ones of at least 0.57.
    assert torch.cat(found).float().mean() > 0.5


def test_silent_targets_are_not_queried(tmp_path):
    config = replace(BASE, songs=1.0, absent=0, augment=PLAIN, queries=4, stem_captions=0.5)
    silent = 0
    for plan, batch in batches(bursts(tmp_path, songs=True), config, 10):
        assert all(batch.sources[q.mixture, list(q.members)].abs().max() > 0 for q in plan.queries)
        for mixture, sources in zip(plan.mixtures, batch.sources, strict=True):
            silent += int((sources[: len(mixture.sources)].abs().amax(-1) == 0).sum())
    assert silent > 50


def test_examples_are_of_another_group_where_there_is_one(corpus, tmp_path):
    clips = [replace(c, group="two" if Path(c.id).stem.endswith("-2") else "one") for c in corpus.clips if not c.song]
    grouped = Corpus(clips, tmp_path, corpora.RATE)
    count = 0
    for plan, _ in batches(grouped, replace(BASE, examples=1.0, absent=0, equal=0, siblings=0), 5):
        for query in plan.queries:
            target = grouped.clips[plan.mixtures[query.mixture].sources[query.members[0]].clip]
            assert grouped.clips[query.example.clip].group != target.group
            count += 1
    assert count > 50


def test_songs_have_any_number_of_stems_with_levels_around_their_balance(corpus):
    config = replace(BASE, songs=1.0, song_level_db=6.0)
    mixtures = [mixture for plan, _ in batches(corpus, config, 10) for mixture in plan.mixtures]
    counts = [len(mixture.sources) for mixture in mixtures]
    assert set(counts) == {2, 3, 4}
    assert 0.5 < counts.count(4) / len(counts) < 0.85  # half of them, and a third of the others
    jitter = [s.gain_db - corpus.clips[s.clip].gain_db for mixture in mixtures for s in mixture.sources]
    assert -6 <= min(jitter) < -5 < 5 < max(jitter) <= 6


def test_texts_that_may_match_another_source_are_no_queries_and_no_negatives():
    clips = [
        Clip("a", "x", "kettle", captions=("steam",)),
        Clip("b", "x", "kettle", captions=("hot water",)),  # so this may be a text of the other kettle too
        Clip("c", "x", "lid", captions=("hot water", "clang")),
    ]
    builder = QueryBuilder(clips, range(3))
    queries = {builder.source_query(np.random.default_rng(i), [0, 2], 1) for i in range(40)}
    assert {(query.caption, query.members) for query in queries} == {("lid", (1,)), ("clang", (1,))}
    negatives = {builder.negative_text(np.random.default_rng(i), [0, 2], [0]) for i in range(40)}
    assert negatives == {"lid", "clang"}


def test_sources_that_are_almost_silent_are_not_amplified_to_the_level_of_others(tmp_path):
    loud, quiet = 0.3 * corpora.wave(0, 2.0, corpora.RATE), 1e-5 * corpora.wave(1, 2.0, corpora.RATE)
    clips = []
    for name, x in (("loud", loud), ("quiet", quiet)):
        soundfile.write(tmp_path / f"{name}.wav", x, corpora.RATE, subtype="FLOAT")
        clips.append(Clip(name, str(tmp_path / f"{name}.wav"), name, seconds=2.0))
    corpus = Corpus(clips, tmp_path / "cache", corpora.RATE)
    plan, batch = batches(corpus, replace(BASE, level_db=0, augment=PLAIN, mix_audio=0), 1)[0]
    for mixture, sources in zip(plan.mixtures, batch.sources, strict=True):
        level = {label(corpus, s): float(x.square().mean()) for s, x in zip(mixture.sources, sources, strict=False)}
        assert 10 * np.log10(level["quiet"] / level["loud"]) < -20


def test_stereo(corpus):
    config = replace(BASE, channels=2)
    mono = Mixer(corpus).render(Sampler(corpus, BASE).plan(0))
    for plan, batch in batches(corpus, config, 2):
        assert batch.sources.shape[2:] == (2, 16000)
        assert plan.channels == 2
        peaks = batch.sources.sum(1).abs().flatten(1).amax(-1)
        assert torch.allclose(peaks, torch.tensor([m.peak for m in plan.mixtures]), atol=1e-4)
        assert not torch.allclose(batch.sources[:, :, 0], batch.sources[:, :, 1])
    assert mono.sources.ndim == 3


def test_only_the_split_is_drawn_and_labels_evenly(corpus, tmp_path):
    clips = [
        replace(c, split="val" if c.id.endswith(("-0.wav", "-0.flac", "-0.opus")) else "train") for c in corpus.clips
    ]
    mixed = Corpus(clips, tmp_path, corpora.RATE)
    others = dict.fromkeys(("speech", "instrument", "music"), 0.0)
    config = replace(BASE, songs=0, mixed_songs=0, families={"event": 1.0, **others}, label_seconds=1.0)
    counts: dict[str, int] = {}
    for step in range(60):
        for mixture in Sampler(mixed, config).plan(step).mixtures:
            for source in mixture.sources:
                clip = mixed.clips[source.clip]
                assert clip.split == "train"
                counts[clip.label] = counts.get(clip.label, 0) + 1
    assert set(counts) == {name for name, (family, _) in corpora.LABELS.items() if family == "event"}
    assert max(counts.values()) < 3 * min(counts.values())
    with pytest.raises(DataError, match="'test'"):
        Sampler(mixed, replace(config, split="test"))


def test_labels_with_little_audio_are_drawn_less(tmp_path):
    clips = []
    for number, (name, seconds) in enumerate({"long": 4.0, "enough": 2.0, "short": 0.5}.items()):
        path = corpora.write(tmp_path / f"{name}.flac", corpora.wave(number, seconds, corpora.RATE))
        clips.append(Clip(name, str(path), name, seconds=seconds))
    few = Corpus(clips, tmp_path / "cache", corpora.RATE)
    config = replace(BASE, mixtures=100, label_seconds=2.0, equal=0, sources=(1.0, 0.0, 0.0, 0.0))
    plans = [Sampler(few, config).plan(step) for step in range(10)]
    first = [label(few, mixture.sources[0]) for plan in plans for mixture in plan.mixtures]
    counts = {name: first.count(name) for name in ("long", "enough", "short")}
    assert counts["long"] == pytest.approx(counts["enough"], rel=0.2)
    assert counts["short"] == pytest.approx(counts["enough"] / 4, rel=0.3)


@pytest.mark.parametrize(
    ("families", "drawn"),
    [
        (SamplingConfig().families, {"event": 0.40, "speech": 0.16, "singing": 0.07, "animals": 0.21}),
        ({"event": 2.0, "speech": 0.0}, {"event": 2.0, "singing": 2.0, "animals": 2.0}),
        ({"speech": 0.0}, {"event": 1.0, "singing": 1.0, "animals": 1.0}),
    ],
)
def test_a_family_that_no_weight_names_is_drawn_as_often_as_the_others_on_average(tmp_path, families, drawn):
    clips = []
    for number, family in enumerate(("event", "speech", "singing", "animals")):
        path = corpora.write(tmp_path / f"{family}.flac", corpora.wave(number, 2.0, corpora.RATE))
        clips.append(Clip(family, str(path), f"label {family}", family=family, seconds=2.0))
    sampler = Sampler(Corpus(clips, tmp_path / "cache", corpora.RATE), replace(BASE, mixtures=400, families=families))
    first = [clips[mixture.sources[0].clip].family for mixture in sampler.plan(0).mixtures]
    assert set(first) == set(drawn)
    for family, weight in drawn.items():
        assert first.count(family) / len(first) == pytest.approx(weight / sum(drawn.values()), abs=0.08)


def test_batches_move_between_devices(corpus):
    batch = Mixer(corpus).render(Sampler(corpus, replace(BASE, examples=1.0)).plan(0))
    moved = batch.to("meta")
    assert moved.sources.device.type == moved.examples.device.type == moved.stems.device.type == "meta"
    assert moved.captions == batch.captions
