"""The models that can speak, by name. Each is loaded only when it is asked for."""

from importlib import import_module
from typing import cast

from processor.engines.base import Engine
from processor.errors import MissingExtra, SettingsError
from processor.settings import EngineSettings

__all__ = ["ENGINES", "create"]

#: Name → where the class is. The extra that installs an engine has the engine's name.
ENGINES = {"hibari": "processor.engines.hibari:HibariEngine"}


def create(settings: EngineSettings) -> Engine:
    """The engine that the settings name, not yet warmed up.

    Raises SettingsError for an unknown name, MissingExtra if its package is not installed.
    """
    place = ENGINES.get(settings.name)
    if place is None:
        raise SettingsError(
            f"engine.name: no engine {settings.name!r}; there is {', '.join(ENGINES)}"
        )
    module, _, name = place.partition(":")
    try:
        kind = getattr(import_module(module), name)
    except ModuleNotFoundError as error:
        raise MissingExtra(f"the engine {settings.name} ({error.name})", settings.name) from error
    return cast(Engine, kind(settings))
