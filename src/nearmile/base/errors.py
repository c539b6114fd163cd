"""The one error style: what is wrong, where, and what to do about it."""


class NearmileError(Exception):
    """An error that a person caused or can mend; its text is shown without a traceback."""
