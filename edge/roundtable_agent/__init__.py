"""The agent of a Roundtable device, and the runner of an aggregator: both open instances and report on them."""

__version__ = "0.1.0"
