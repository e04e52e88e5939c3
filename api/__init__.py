"""The Web API for people and their programs: everything that the pages do, at ``/api/v1/``.

It stands beside the pages: it asks the same modules who may do what, and calls the same services. What devices and
instances call (``/api/edge``, ``/api/runs``) is another interface, which ``docs/protocol.md`` describes.
"""
