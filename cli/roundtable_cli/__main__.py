"""``python -m roundtable_cli`` in the folder ``cli/`` of a clone."""

from roundtable_cli.main import main

main()
