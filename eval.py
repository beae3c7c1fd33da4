"""Measure a run's model beside the one it came from, on the recipe's test queries and index.

    python eval.py recipes/quickstart.yaml

Before there is an adapted model it measures the model as it came.
"""

from __future__ import annotations

from tercet import Recipe, cli
from tercet.artifacts import locked
from tercet.console import console
from tercet.pipeline import Pipeline
from tercet.retrieval import compare, print_comparison, print_means


def main(recipe: Recipe, flags: set[str]) -> None:
    """Embed the corpus with each model, search the test queries, compare."""
    pipeline = Pipeline(recipe)
    pipeline.check()
    with locked(recipe.folder):
        _, _, what = pipeline.measured("test")
        console.print(f"measuring on {what}, over the {recipe.index.backend} index")
        before = pipeline.figures(pipeline.student, pipeline.vectors)
        adapted = recipe.folder / "model"
        if not adapted.exists():
            print_means(f"{recipe.model.name}, zero-shot", before)
            return
        pipeline.check_adapted()
        encoder = pipeline.parts.student(adapted)
        vectors = encoder.encode_passages(pipeline.contents, show_progress="embedding")
        after = pipeline.figures(encoder, vectors)
    title = f"{recipe.model.name}, zero-shot and adapted"
    resamples = recipe.evaluation.resamples
    print_comparison(title, compare(before, after, resamples=resamples, seed=recipe.seed))


if __name__ == "__main__":
    cli.run(main, "eval.py", "Measure the adapted model beside the one it came from.")
