"""The user's configuration file: defaults that hold for every command of this user.

~/.config/audiosep/config.toml          on Linux; $AUDIOSEP_CONFIG names another file

stems_model = "htdemucs"                the model that gives stems beside `mini`, see docs/stem-models.md
"""

from __future__ import annotations

import os
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

from audiosep.errors import ConfigError
from audiosep.weights.catalogue import expand_home
from audiosep.weights.configs import from_dict

VARIABLE = "AUDIOSEP_CONFIG"


@dataclass(frozen=True)
class UserConfig:
    """What the file says.

    Attributes:
        stems_model: name, folder or hub id of the model that gives stems beside `mini`; None for mini itself.
    """

    stems_model: str | None = None


def config_folder() -> Path | None:
    """The folder of this user's configurations; None for a user without a home folder."""
    try:
        if sys.platform == "win32":
            folder = Path(os.environ.get("APPDATA") or Path.home() / "AppData/Roaming").expanduser()
        elif sys.platform == "darwin":
            folder = Path.home() / "Library/Application Support"
        else:
            folder = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config").expanduser()
    except RuntimeError:
        return None
    return folder / "audiosep"


def user_config_path() -> Path | None:
    """The user's configuration file, whether it exists or not; None for a user without a home folder."""
    if chosen := os.environ.get(VARIABLE):
        return expand_home(chosen)
    folder = config_folder()
    return None if folder is None else folder / "config.toml"


def read_user_config() -> UserConfig:
    """Read the user's configuration file.

    Returns:
        What it says; the defaults where there is none.

    Raises:
        ConfigError: it cannot be read, is no TOML, or has an unknown key or a value of another type.
    """
    path = user_config_path()
    if path is None:
        return UserConfig()
    try:
        return from_dict(UserConfig, tomllib.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError as error:
        if os.environ.get(VARIABLE):
            raise ConfigError(f"${VARIABLE} names {path}, which does not exist") from error
        return UserConfig()
    except ConfigError as error:
        raise ConfigError(f"your configuration file {path}: {error}") from error
    except (OSError, ValueError) as error:  # TOML that is damaged is a ValueError
        raise ConfigError(f"your configuration file {path} cannot be read: {error}") from error
