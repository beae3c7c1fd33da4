"""The steps of a run in the order of the flow, a file each."""

from tercet.config.recipe import Recipe
from tercet.pipeline.run import Step
from tercet.pipeline.steps.corpus import Corpus
from tercet.pipeline.steps.embeddings import embeddings_step
from tercet.pipeline.steps.evaluation import Evaluation
from tercet.pipeline.steps.model import Model
from tercet.pipeline.steps.negatives import Negatives
from tercet.pipeline.steps.queries import Queries
from tercet.pipeline.steps.scores import scores_step
from tercet.pipeline.steps.student import student_step
from tercet.pipeline.steps.targets import Targets
from tercet.pipeline.steps.triplets import Triplets


def steps_of(recipe: Recipe) -> dict[str, Step]:
    """Every step of a recipe's run by its name, in order."""
    model, student, queries = Model(), student_step(recipe), Queries()
    steps: list[Step] = [
        Corpus(),
        embeddings_step(recipe),
        *((queries, student) if "queries" in student.needs.steps else (student, queries)),
        Negatives(),
        scores_step(recipe),
        Triplets(),
        Targets(),
        model,
        Evaluation(model),
    ]
    return {step.name: step for step in steps}
