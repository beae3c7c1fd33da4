"""Deploy a run's model to the Weaviate collection that a service searches, and roll it back.

Every object gets the adapted model's vector: in the collection itself, or in a copy of it under an
alias. Only when all are there, indexed, and found by queries as the run found them does the record
on the server name them, which clients read.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tercet import retrieval
from tercet.config.loading import load_run
from tercet.config.recipe import Recipe
from tercet.core.console import console, progress
from tercet.core.files import weights_digest
from tercet.core.metric_names import parse_metric
from tercet.core.schema import InputError
from tercet.pipeline.finished import standing
from tercet.serving.deployment_plan import Form, Plan

if TYPE_CHECKING:
    from tercet.retrieval.weaviate.deployments import Deployment
    from tercet.retrieval.weaviate.live import LiveCollection

#: How much less than the run's own metric the deployed vectors may reach: a graph misses some.
_LOSS = 0.03


def deploy(
    run: str | Path | Recipe,
    collection: str,
    *,
    form: Form | None = None,
    vector_name: str | None = None,
    replaces: str | None = None,
    id: str | None = None,
    keep: int = 2,
    confirm: Callable[[str], bool] | None = None,
) -> Deployment:
    """Give a collection's objects the vectors of a run's model and let it answer for that name.

    `collection` is a collection, or an alias that clients search. `form` is "vector" (a named
    vector of the collection itself) or "collection" (a copy with all properties, under the alias);
    by default the one that fails no search that runs now. `replaces` is the vector that is searched
    now, if there are several; `id` the property with the ids of the run's passages, if its corpus
    was not read from the collection. `keep` earlier deployments stay. `confirm` is asked about the
    plan. A killed deployment goes on where it was.

    Raises InputError for what cannot be deployed, before any work, and for vectors that do not
    find what the run found; what answers is then unchanged.
    """
    from tercet.retrieval.weaviate.client import WeaviateServer, check_name

    if keep < 1:
        raise InputError(f"--keep is {keep}: keep at least 1, for a rollback")
    check_name(collection)
    pipeline = standing(run if isinstance(run, Recipe) else load_run(run))
    server = WeaviateServer.connect()
    try:
        server.check_writes("a deployment writes vectors and its record")
        plan = Plan(pipeline, server, collection, replaces, id)
        plan.choose(form, vector_name)
        _say(plan.described)
        if confirm and not confirm(f"Deploy to {collection}?"):
            raise InputError("nothing was deployed")
        return _carry_out(plan, keep)
    finally:
        server.close()


def rollback(name: str | None = None, *, run: str | Path | Recipe | None = None) -> Deployment:
    """Return to the deployment before: of a served name, or of the one that serves a run's model.

    Raises InputError if there is none.
    """
    from tercet.retrieval.weaviate.client import WeaviateServer
    from tercet.retrieval.weaviate.deployments import Records, rollback as roll_back

    server = WeaviateServer.connect()
    try:
        if name is None:
            if run is None:
                raise InputError("say what to roll back: a run, or --weaviate NAME")
            pipeline = standing(run if isinstance(run, Recipe) else load_run(run))
            model = weights_digest(pipeline.model.path)
            serving = [
                record.served
                for record in Records(server)
                if record.current and record.current.model == model
            ]
            if len(serving) != 1:
                what = "serves under " + ", ".join(serving) if serving else "serves nowhere"
                raise InputError(
                    f"run {pipeline.recipe.name} {what} on {server.url}: give --weaviate NAME"
                )
            (name,) = serving
        record, left = roll_back(server, name)
        assert record.current is not None
        _say(
            f"{record.served} answers from {record.current} again; {left} stays until the next "
            "deploy"
        )
        return record.current
    finally:
        server.close()


def _carry_out(plan: Plan, keep: int) -> Deployment:
    """Fill, check, and let the record name the new vectors."""
    from tercet.retrieval.weaviate.deployments import Records, serve

    entry, rollout = plan.entry, plan.rollout
    factor = plan.source.config.replication_config.factor
    if rollout:
        Records(plan.server).write(plan.record.begun(entry), factor)
        rollout.prepare()
        what = f"vectors for {entry.collection}"
        with progress(what, plan.objects.total, "objects") as advance:
            counts = rollout.fill(advance)
        rollout.settle()
        sampled = rollout.verify()
        _say(
            f"{counts.objects:,} objects counted on every replica, {counts.written:,} written, "
            f"{counts.objects - counts.with_text:,} without text; {sampled} compared"
        )
    live = plan.open(entry.collection, entry.searched)
    if space := plan.encoder.space:
        space.check(f"collection {live.name}, vector {live.vector}", live.metric, live.vectors_of)
    _compare(plan, live)
    removed = serve(plan.server, plan.record, entry, keep=keep, factor=factor)
    _say(f"{plan.record.served} answers from {entry}")
    if removed:
        _say(f"removed {', '.join(removed)}")
    record = Records(plan.server).find(plan.record.served)
    if stay := [each for each in record.entries if each.retired] if record else []:
        names = ", ".join(f"{each.vector_name} of {each.collection}" for each in stay)
        _say(f"past and still there, as Weaviate drops no named vector: {names}")
    return entry


def _compare(plan: Plan, live: LiveCollection) -> None:
    """Search with the run's test queries. Raises InputError if they find less than they did."""
    pipeline, objects = plan.pipeline, plan.objects
    queries, qrels, described = pipeline.split("test")
    metric = plan.recipe.training["metric_for_best_model"]
    figures = retrieval.read_figures(pipeline.evaluation)["adapted"][metric]
    expected = float(np.mean(list(figures.values())))
    strange = objects.total - objects.of_run
    depth = parse_metric(metric)[1] * (2 if strange else 1)
    vectors = plan.encoder.encode_queries([query.text for query in queries])
    rankings = live.search(vectors, retrieval.deeper(queries, depth))
    known = pipeline.passages.rows({id for ranking in rankings for id, _ in ranking})
    found_of_run = [[each for each in ranking if each[0] in known] for ranking in rankings]
    run = retrieval.measured(queries, found_of_run, None)
    found = float(np.mean(list(retrieval.evaluate(qrels, run, [metric])[metric].values())))
    # Passages that are gone cannot be found, and a share of those found may be new ones.
    changed = max(strange, len(pipeline.passages) - objects.of_run)
    if not found >= expected - _LOSS - changed / objects.total:
        raise InputError(
            f"searched with {described}, {live.name} reaches {metric} {found:.3f} and the run "
            f"{expected:.3f}: not deployed, {plan.record.served} answers as before (its index may "
            "be too coarse: see its ef)"
        )
    _say(f"searched with {described}: {metric} {found:.3f}, as the run ({expected:.3f})")


def _say(text: str) -> None:
    console.print(text)
