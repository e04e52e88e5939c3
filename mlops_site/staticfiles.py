"""Storage of the hashed static files."""

from whitenoise.storage import CompressedManifestStaticFilesStorage


class ModuleStaticFilesStorage(CompressedManifestStaticFilesStorage):
    """Also rewrites the imports between ES modules, so that a page and the modules it loads share one instance of each."""

    support_js_module_import_aggregation = True
