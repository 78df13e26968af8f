"""The models that can speak, by name. Each is loaded only when it is asked for."""

from importlib import import_module
from typing import cast

from processor.engines.apart import EngineApart
from processor.engines.base import Engine
from processor.errors import MissingExtra, SettingsError
from processor.settings import Settings

__all__ = ["ENGINES", "create", "make"]

#: Name → the module whose ``create`` makes it. An extra that installs one has the engine's name.
ENGINES = {
    "hibari": "processor.engines.hibari",
    "simulated": "processor.engines.simulated",
}


def create(settings: Settings) -> Engine:
    """The engine that the settings name, not yet warmed up; in a process of its own if they say so.

    Raises as ``make`` does.
    """
    engine = make(settings)
    return EngineApart(settings, engine) if settings.engine.apart else engine


def make(settings: Settings) -> Engine:
    """The engine that the settings name, here, not yet warmed up.

    Raises SettingsError for an unknown name, MissingExtra if its package is not installed.
    """
    name = settings.engine.name
    place = ENGINES.get(name)
    if place is None:
        raise SettingsError(f"engine.name: no engine {name!r}; there is {', '.join(ENGINES)}")
    try:
        module = import_module(place)
    except ModuleNotFoundError as error:
        raise MissingExtra(f"the engine {name} ({error.name})", name) from error
    return cast(Engine, module.create(settings))
