"""Structured logs. Owns their form: one line an event, JSON or console, never a request's text."""

import logging
import sys

import structlog

from processor.settings import LogSettings

__all__ = ["configure_logs", "quieten"]


def configure_logs(settings: LogSettings) -> None:
    """Set up structlog for the process; lines go to standard error. Call once, from a command."""
    console = settings.format == "console" or (settings.format == "auto" and sys.stderr.isatty())
    forms: list[structlog.typing.Processor] = (
        [structlog.dev.ConsoleRenderer()]
        if console
        else [
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(default=str),
        ]
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *forms,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(
            getattr(logging, settings.level.upper())
        ),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )


def quieten() -> None:
    """Warnings only, to standard error, unless the program that uses us has set up structlog:
    unconfigured, structlog writes everything to standard output."""
    if not structlog.is_configured():
        configure_logs(LogSettings(level="warning"))
