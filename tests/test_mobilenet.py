"""The audio tower of MobileNet shape: the published network layer by layer, one level, any length, precisions."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from test_hybrid import SMALL, mixture
from torch import Tensor, nn

from audiosep.errors import ConfigError, ModelError
from audiosep.models.hybrid import Hybrid
from audiosep.models.listener import ListenerConfig
from audiosep.models.mobilenet import MobileNetConfig, MobileNetTower
from audiosep.models.towers import TowerConfig, build_tower
from audiosep.weights import configs
from audiosep.weights.checkpoint import load_model, save_model
from research.import_mobilenet import load_published, read_published

SMALL_TOWER = MobileNetConfig(
    n_fft=512, hop=128, bands=48, mels=32, top=8000.0, width=0.1, step=4, stride=(16, 16), detail=8, dimension=16,
    tags=5, sample_rate=16000,
)  # fmt: skip

# mn04_as as its authors publish it: kernel, expanded channels, channels, stride, squeezed channels, hard swish.
PUBLISHED = (
    (3, 8, 8, 1, 0, False), (3, 24, 16, 2, 0, False), (3, 32, 16, 1, 0, False), (5, 32, 16, 2, 8, False),
    (5, 48, 16, 1, 16, False), (5, 48, 16, 1, 16, False), (3, 96, 32, 2, 0, True), (3, 80, 32, 1, 0, True),
    (3, 72, 32, 1, 0, True), (3, 72, 32, 1, 0, True), (3, 192, 48, 1, 48, True), (3, 272, 48, 1, 72, True),
    (5, 272, 64, 2, 72, True), (5, 384, 64, 1, 96, True), (5, 384, 64, 1, 96, True),
)  # fmt: skip


class Published:
    """The published network over (batch, 1, mels, frames), with random weights under their published names."""

    def __init__(self) -> None:
        self.state: dict[str, Tensor] = {}
        self._random = torch.Generator().manual_seed(0)
        self._norm("m.features.0", 1, 8, 3)
        inputs = 8
        for number, (kernel, expanded, outputs, _, squeezed, _) in enumerate(PUBLISHED, 1):
            place = f"m.features.{number}.block"
            part = 0
            if expanded != inputs:
                self._norm(f"{place}.0", inputs, expanded, 1)
                part = 1
            self._norm(f"{place}.{part}", 1, expanded, kernel)
            if squeezed:
                part += 1
                self._dense(f"{place}.{part}.conc_se_layers.0.fc1", expanded, squeezed)
                self._dense(f"{place}.{part}.conc_se_layers.0.fc2", squeezed, expanded)
            self._norm(f"{place}.{part + 1}", expanded, outputs, 1)
            inputs = outputs
        self._norm("m.features.16", 64, 384, 1)
        self._dense("m.classifier.2", 384, 512)
        self._dense("m.classifier.5", 512, 527)

    def _draw(self, *shape: int, scale: float = 1.0) -> Tensor:
        return torch.randn(*shape, generator=self._random) * scale

    def _norm(self, name: str, inputs: int, outputs: int, kernel: int) -> None:
        shape = (outputs, inputs, kernel, kernel)
        self.state[f"{name}.0.weight"] = self._draw(*shape, scale=(inputs * kernel**2) ** -0.5)
        self.state[f"{name}.1.weight"] = 1 + self._draw(outputs, scale=0.1)
        self.state[f"{name}.1.bias"] = self._draw(outputs, scale=0.1)
        self.state[f"{name}.1.running_mean"] = self._draw(outputs, scale=0.1)
        self.state[f"{name}.1.running_var"] = 0.5 + self._draw(outputs).square()
        self.state[f"{name}.1.num_batches_tracked"] = torch.tensor(7)

    def _dense(self, name: str, inputs: int, outputs: int) -> None:
        self.state[f"{name}.weight"] = self._draw(outputs, inputs, scale=inputs**-0.5)
        self.state[f"{name}.bias"] = self._draw(outputs, scale=0.1)

    def _layer(self, name: str, x: Tensor, stride: int = 1, groups: int = 1) -> Tensor:
        weight = self.state[f"{name}.0.weight"]
        x = F.conv2d(x, weight, None, stride, weight.shape[-1] // 2, 1, groups)
        mean, var = self.state[f"{name}.1.running_mean"], self.state[f"{name}.1.running_var"]
        return F.batch_norm(x, mean, var, self.state[f"{name}.1.weight"], self.state[f"{name}.1.bias"], eps=1e-3)

    def _linear(self, name: str, x: Tensor) -> Tensor:
        return F.linear(x, self.state[f"{name}.weight"], self.state[f"{name}.bias"])

    def __call__(self, mel: Tensor) -> tuple[Tensor, Tensor]:
        """(batch, mels, frames) energies -> map (batch, 384, rows, positions), logits."""
        x = F.hardswish(self._layer("m.features.0", ((mel + 1e-5).log()[:, None] + 4.5) / 5, 2))
        for number, (_, expanded, outputs, stride, squeezed, swish) in enumerate(PUBLISHED, 1):
            place, before, part = f"m.features.{number}.block", x, 0
            activate = F.hardswish if swish else F.relu
            if expanded != x.shape[1]:
                x, part = activate(self._layer(f"{place}.0", x)), 1
            x = activate(self._layer(f"{place}.{part}", x, stride, expanded))
            if squeezed:
                part += 1
                squeeze = f"{place}.{part}.conc_se_layers.0"
                scale = self._linear(f"{squeeze}.fc2", F.relu(self._linear(f"{squeeze}.fc1", x.mean((2, 3)))))
                x = x * torch.sigmoid(scale)[..., None, None]
            x = self._layer(f"{place}.{part + 1}", x)
            x = x + before if stride == 1 and before.shape[1] == outputs else x
        x = F.hardswish(self._layer("m.features.16", x))
        return x, self._linear("m.classifier.5", F.hardswish(self._linear("m.classifier.2", x.mean((2, 3)))))


@pytest.fixture(scope="module")
def published() -> Published:
    return Published()


@pytest.fixture(scope="module")
def tower() -> MobileNetTower:
    torch.manual_seed(0)
    tower = MobileNetTower(SMALL_TOWER)
    with torch.no_grad():
        for _ in range(3):  # running statistics of some sound
            tower.train().local(tower.energies(mixture(4, 1, 16000)[:, 0]))
    return tower.eval()


def shape(**changes: object) -> MobileNetConfig:
    return dataclasses.replace(SMALL_TOWER, **changes)  # type: ignore[arg-type]


@torch.no_grad()
def test_it_computes_what_the_published_network_computes(published: Published) -> None:
    mel = torch.rand(2, 128, 97, generator=torch.Generator().manual_seed(1)).pow(4)
    tower = MobileNetTower(MobileNetConfig(stride=(32, 32), detail=0)).eval()
    load_published(tower, published.state)
    want, logits = published(mel)
    got, fine = tower.maps(mel)
    assert fine is None
    torch.testing.assert_close(got.transpose(2, 3), want, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(tower.tags(got.mean((2, 3))), logits, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_dilated_kernels_give_the_published_positions_and_those_between(published: Published) -> None:
    mel = torch.rand(1, 128, 161, generator=torch.Generator().manual_seed(1)).pow(4)
    maps = []
    for stride in ((32, 32), (16, 32), (16, 16)):
        tower = MobileNetTower(MobileNetConfig(stride=stride)).eval()
        load_published(tower, published.state)
        for name, module in tower.named_modules():
            if name.endswith("squeeze.up"):
                nn.init.zeros_(module.weight)  # what channels weigh depends on all positions, not on some
        maps.append(tower.maps(mel)[0])
    assert [tuple(x.shape[2:]) for x in maps] == [(6, 4), (11, 4), (11, 8)]
    torch.testing.assert_close(maps[1][:, :, ::2], maps[0], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(maps[2][:, :, :, ::2], maps[1], rtol=1e-4, atol=1e-4)


def test_weights_of_another_network_are_refused(published: Published, tmp_path: Path) -> None:
    tower = MobileNetTower()
    with pytest.raises(ModelError, match=r"no weight 'm\.features\.0\.0\.weight'"):
        load_published(tower, {})
    with pytest.raises(ModelError, match="shape"):
        load_published(MobileNetTower(MobileNetConfig(width=0.5)), published.state)
    torch.save(published.state, tmp_path / "weights.pt")
    load_published(tower, read_published(tmp_path / "weights.pt"))
    assert torch.equal(tower.tags.out.bias, published.state["m.classifier.5.bias"])
    torch.save([1], tmp_path / "other.pt")
    with pytest.raises(ModelError, match="no state dict"):
        read_published(tmp_path / "other.pt")


@torch.no_grad()
def test_mel_energies_are_those_of_the_published_front_end() -> None:
    """Stationary noise through the bands, and through pre-emphasis, a window of 25 ms, FFT 1024 and mel triangles."""
    tower = MobileNetTower(MobileNetConfig())
    x = torch.randn(1, 320000, generator=torch.Generator().manual_seed(0)) * 0.1
    mine = tower.mel_energies(tower.energies(x))
    assert mine.shape == (1, 128, 1001)
    emphasised = F.conv1d(x[:, None], torch.tensor([[[-0.97, 1.0]]]))[:, 0]
    window = torch.hann_window(800, periodic=False)
    spectrum = torch.stft(emphasised, 1024, 320, 800, window, return_complex=True).abs().square()
    mel = 1127 * torch.log1p(torch.linspace(0, 16000, 513) / 700)
    edges = torch.linspace(0, 1127 * torch.log1p(torch.tensor(15000 / 700)).item(), 130)
    for band in (10, 40, 80, 120):
        low, centre, high = edges[band : band + 3]
        triangle = torch.minimum((mel - low) / (centre - low), (high - mel) / (high - centre)).clamp_min(0)
        want = (triangle @ spectrum[0]).mean()
        assert float(mine[0, band].mean() / want) == pytest.approx(1, abs=0.1)


@torch.no_grad()
def test_levels_are_taken_out_and_silence_is_finite(tower: MobileNetTower) -> None:
    energies = tower.energies(mixture(2, 1)[:, 0])
    torch.testing.assert_close(tower.local(energies * 1e-3), tower.local(energies), rtol=1e-3, atol=1e-3)
    assert tower.local(torch.zeros_like(energies)).isfinite().all()
    alone = tower.local(energies[1:])
    torch.testing.assert_close(tower.local(energies)[1:], alone, rtol=1e-4, atol=1e-4)  # not by the neighbour's level


@pytest.mark.parametrize("frames", [1, 2, 4, 5, 39, 40, 41])
def test_positions_cover_any_length_and_are_pooled_without_being_made(tower: MobileNetTower, frames: int) -> None:
    energies = torch.rand(1, 48, frames) ** 8
    with torch.no_grad():
        local, pooled = tower.local(energies), tower.pooled(energies)
    torch.testing.assert_close(pooled, local.mean((2, 3)), rtol=1e-4, atol=1e-5)
    assert local.shape == (1, SMALL_TOWER.hidden, -(-frames // 4), SMALL_TOWER.rows)
    assert tower.tags(local.permute(0, 2, 3, 1)).shape == (1, -(-frames // 4), SMALL_TOWER.rows, 5)


@torch.no_grad()
def test_positions_stand_where_the_sound_is() -> None:
    """A click moves the features of its own moment most; steps of 8 frames between positions of 10."""
    torch.manual_seed(1)
    tower = MobileNetTower(MobileNetConfig(width=0.2, tags=5, dimension=16)).eval()
    quiet = torch.full((1, 192, 800), 1e-3)
    for frame in (200, 403, 604):
        loud = quiet.clone()
        loud[..., frame] = 0.05
        moved = (tower.local(loud) - tower.local(quiet * loud.mean() / quiet.mean())).abs().mean((0, 1, 3))
        centre = (moved**4 * torch.arange(100)).sum() / (moved**4).sum()
        assert float(centre) * 8 + 3.5 == pytest.approx(frame, abs=8)


@torch.no_grad()
def test_a_mask_is_embedded_as_the_sound_that_it_lets_through(tower: MobileNetTower) -> None:
    x = mixture(2, 1)[:, 0]
    want = tower.embed(x)
    torch.testing.assert_close(want.norm(dim=-1), torch.ones(2))
    half = torch.full((2, 48, 1), 0.5)
    got = tower.embed_pooled(tower.pooled(half.square() * tower.energies(x)))
    torch.testing.assert_close(got, want, rtol=1e-3, atol=1e-3)


@torch.no_grad()
def test_evaluation_folds_what_training_computes_apart(tower: MobileNetTower) -> None:
    x = torch.randn(2, 8, 9, 7)
    layer = tower.blocks[3].depthwise
    x = torch.randn(2, layer.conv.in_channels, 9, 7)
    torch.testing.assert_close(layer(x), F.relu(layer.norm(layer.conv(x))), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_maps_lie_in_memory_as_convolutions_want_them(tower: MobileNetTower) -> None:
    """Channels side by side from the first map on: in the other layout some layers take eight times as long."""
    orders: list[bool] = []
    for block in tower.blocks:
        block.register_forward_pre_hook(
            lambda _, inputs: orders.append(inputs[0].is_contiguous(memory_format=torch.channels_last))
        )
    tower.maps(torch.rand(1, SMALL_TOWER.mels, 60))
    assert len(orders) == len(tower.blocks)
    assert all(orders)


@torch.no_grad()
def test_bf16_stays_near_fp32(tower: MobileNetTower) -> None:
    energies = tower.energies(mixture(2, 1)[:, 0])
    want = tower.embed_pooled(tower.pooled(energies))
    with torch.autocast("cpu", torch.bfloat16):
        got = tower.embed_pooled(tower.pooled(energies))
    assert F.cosine_similarity(got, want).min() > 0.995


def test_everything_gets_a_gradient() -> None:
    torch.manual_seed(0)
    tower = MobileNetTower(SMALL_TOWER)
    features = tower.local(tower.energies(mixture(2, 1)[:, 0])).permute(0, 2, 3, 1)
    (tower.joint(features).square().sum() + tower.tags(features).square().sum()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in tower.parameters())


@torch.no_grad()
def test_the_separator_takes_it_and_its_checkpoint_says_so(tmp_path: Path) -> None:
    listener = shape(sample_rate=32000, step=8, top=15000.0)
    torch.manual_seed(0)
    model = Hybrid(dataclasses.replace(SMALL, listener=listener, tags=True)).eval()
    estimate = model(mixture(), torch.nn.functional.normalize(torch.randn(3, 16), dim=-1))
    assert estimate.waveforms.shape == (2, 3, 2, 5000)
    assert estimate.waveforms.isfinite().all()
    again, _ = load_model(save_model(tmp_path / "model", model, query=None, extra={}))
    assert again.config.listener == listener
    assert isinstance(again.listener, MobileNetTower)


@pytest.mark.parametrize("config", [SMALL_TOWER, ListenerConfig(widths=(8, 8), strides=((1, 1), (2, 2)))])
def test_shapes_tell_which_tower_is_meant(config: TowerConfig) -> None:
    @dataclasses.dataclass(frozen=True)
    class Holder:
        tower: TowerConfig

    again = configs.from_dict(Holder, {"tower": configs.to_dict(config)})
    assert again.tower == config
    assert build_tower(again.tower).config == config
    with pytest.raises(ConfigError, match="unknown key 'depth'"):
        configs.from_dict(Holder, {"tower": configs.to_dict(config) | {"depth": 3}})


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"bands": 0}, "bands"),
        ({"detail": -1}, "detail"),
        ({"top": 9000.0}, "top"),
        ({"stride": (12, 16)}, "stride"),
        ({"mels": 40}, "mels"),
    ],
)
def test_impossible_shapes_are_refused(changes: dict[str, object], match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        shape(**changes)
