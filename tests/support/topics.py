"""What the tiny collection is about."""

from __future__ import annotations

# Twenty topics of five words that no other topic has: what a passage is about is never in doubt.
TOPICS = [
    ("lighthouse", "lantern", "keeper", "harbour", "foghorn"),
    ("beehive", "honey", "pollen", "swarm", "wax"),
    ("glacier", "moraine", "crevasse", "meltwater", "icefall"),
    ("violin", "bow", "rosin", "luthier", "varnish"),
    ("bakery", "sourdough", "yeast", "oven", "crust"),
    ("railway", "locomotive", "sleeper", "signal", "platform"),
    ("orchard", "apple", "grafting", "blossom", "cider"),
    ("telescope", "mirror", "nebula", "eyepiece", "galaxy"),
    ("pottery", "kiln", "glaze", "clay", "wheel"),
    ("volcano", "lava", "ash", "crater", "magma"),
    ("library", "catalogue", "shelf", "manuscript", "binding"),
    ("sailboat", "mast", "rudder", "keel", "spinnaker"),
    ("chess", "gambit", "bishop", "endgame", "castling"),
    ("vineyard", "grape", "harvest", "barrel", "cellar"),
    ("bridge", "girder", "pylon", "cable", "river"),
    ("desert", "dune", "oasis", "camel", "sandstorm"),
    ("weaving", "loom", "yarn", "shuttle", "tapestry"),
    ("hospital", "nurse", "surgeon", "bandage", "ward"),
    ("forest", "oak", "beetle", "fungus", "canopy"),
    ("market", "stall", "merchant", "spice", "scales"),
]
