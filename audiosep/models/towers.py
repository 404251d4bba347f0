"""The audio towers that there are, and the one that a shape describes."""

from __future__ import annotations

from audiosep.models.audio_tower import AudioTower
from audiosep.models.listener import Listener, ListenerConfig
from audiosep.models.mobilenet import MobileNetConfig, MobileNetTower

TowerConfig = ListenerConfig | MobileNetConfig


def build_tower(config: TowerConfig) -> AudioTower:
    """A tower of this shape, with fresh weights."""
    return MobileNetTower(config) if isinstance(config, MobileNetConfig) else Listener(config)
