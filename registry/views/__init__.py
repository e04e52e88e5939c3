"""Pages of the registry, of single models and packages, and of what came from what."""
