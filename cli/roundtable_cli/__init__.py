"""The command line of Roundtable. It uses the Web API alone, so that it works from any machine."""

__version__ = "0.1.0"
