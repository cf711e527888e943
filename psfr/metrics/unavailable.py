"""The exception of metrics that need what is not installed or not there."""


class UnavailableError(Exception):
    """The reason why a metric cannot be computed here."""
