"""Names for runs that nobody named: two short words, easy to say and to find again."""

from __future__ import annotations

import secrets

ADJECTIVES = """
able amber ample apt azure balmy bold brave breezy bright brisk calm candid clear clever coral cosy crisp daring
deft eager early easy fair fleet fond frank fresh gentle glad golden grand happy hardy hazel honest humble ivory
jolly keen kind lively lucid lucky lunar mellow merry mild modest neat nimble noble olive open patient placid plain
polar polite proud quick quiet rapid ready rosy rustic sage sandy serene silver sleek smooth snug solar sound spry
steady stout sunny swift tidy trusty tranquil upbeat vivid warm wise witty zesty
"""
NOUNS = """
acorn alder anchor aspen badger basil beacon beaver birch bison bough brook canyon cedar cliff clover comet condor
cove crane creek cricket curlew cypress dale delta dove dune eagle egret elm ember falcon fern finch fjord fox
garnet glade grove gull harbor hawk heath heron hill ibis iris island jasper juniper kestrel lagoon lake lark laurel
lemur linden lotus lynx maple marten meadow mesa moss oak onyx orchid osprey otter owl pebble pine plover pond
poplar prairie puffin quail quartz raven reef ridge river robin rowan sparrow spruce stork stream summit swallow swan
tern thistle thrush tulip valley violet walnut willow wren yarrow
"""


def run_name_suggest() -> str:
    """Return a random two-word name such as ``quiet-heron``. Two runs may get the same one; names need not differ."""
    return f"{secrets.choice(ADJECTIVES.split())}-{secrets.choice(NOUNS.split())}"
