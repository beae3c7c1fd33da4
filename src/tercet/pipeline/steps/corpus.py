"""Source -> passages, judged queries and judgements."""

from __future__ import annotations

from tercet import data
from tercet.core.artifacts import Writer
from tercet.pipeline.needs import Needs
from tercet.pipeline.run import Inputs, Step


class Corpus(Step):
    """Read the source, refuse what is malformed, count what is dropped.

    The source's identity is a digest of all that is read of it, and covers the section's keys.
    """

    name = "corpus"
    needs = Needs(sources=("corpus",), unrecorded_keys=("corpus",))
    revision = 4
    resumable = False

    def make(self, inputs: Inputs, writer: Writer) -> None:
        """As `data.write_corpus`."""
        data.write_corpus(writer, inputs.components.source)
