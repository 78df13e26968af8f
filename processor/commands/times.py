"""Moments as a person types them."""

from datetime import UTC, datetime, timedelta

import typer

__all__ = ["moment"]

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def moment(text: str | None, option: str, now: datetime | None = None) -> datetime | None:
    """The moment that ``text`` names: a span before ``now`` such as 15m, or an ISO instant.

    None stays None. Raises BadParameter, which names ``option``.
    """
    if text is None:
        return None
    number, unit = text[:-1], _UNITS.get(text[-1:])
    try:
        if unit is not None and number.isascii() and number.isdigit():
            return (now or datetime.now(UTC)) - timedelta(**{unit: int(number)})
        found = datetime.fromisoformat(text)
    except (ValueError, OverflowError):  # OverflowError: before the year 1
        raise typer.BadParameter(
            "use a span such as 90s, 15m, 2h or 1d, or an instant such as 2026-01-31T12:00:00Z",
            param_hint=option,
        ) from None
    if found.tzinfo is None:
        raise typer.BadParameter(
            "has no time zone; add one, as in 2026-01-31T12:00:00Z", param_hint=option
        )
    return found
