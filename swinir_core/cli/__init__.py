"""The ``swinir`` command."""
