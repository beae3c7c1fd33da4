"""What a record says through deployments and rollbacks; no server is asked."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("weaviate")

from tercet.core.files import weights_digest
from tercet.core.schema import InputError
from tercet.retrieval.weaviate.deployments import Deployment, Record

BASE = Deployment(collection="Articles", vector_name="theirs", model="base")


def made(number: int, form: str = "collection") -> Deployment:
    if form == "collection":
        return Deployment(collection=f"Articles_{number}", model=str(number), made="collection")
    return Deployment(
        collection="Articles", vector_name=f"v{number}", model=str(number), made="vector"
    )


def deployed(keep: int, *entries: Deployment) -> tuple[Record, list[Deployment]]:
    record, past = Record("Articles", entries=(BASE,), at=0), []
    for entry in entries:
        begun = record.begun(entry)
        assert begun.current == record.current
        record, past = begun.deployed(entry, keep)
        assert record.current == entry
    return record, past


def test_what_answers_changes_with_the_last_step_alone() -> None:
    record = Record("Articles", entries=(BASE,), at=0)
    begun = record.begun(made(1))
    assert begun.current == BASE and begun.entries[1] == replace(made(1), complete=False)
    assert begun.begun(made(1)) == begun  # killed and run again
    done, past = begun.deployed(made(1), 2)
    assert done.entries == (BASE, made(1)) and done.current == made(1) and not past
    assert done.begun(made(1)) == done  # deployed again


@pytest.mark.parametrize("keep", [1, 2, 3])
def test_as_many_stay_as_are_kept(keep: int) -> None:
    record, past = deployed(keep, *map(made, range(4)))
    assert record.entries == tuple(map(made, range(3 - keep, 4)))
    assert past == ([BASE] if keep == 3 else [made(2 - keep)])
    for number in range(2, 2 - keep, -1):
        record = record.rolled_back()
        assert record.current == made(number)
    with pytest.raises(InputError, match="nothing was deployed to Articles before"):
        record.rolled_back()


def test_a_vector_that_cannot_be_dropped_is_retired() -> None:
    record, past = deployed(1, *(made(number, "vector") for number in range(3)))
    assert past == [made(0, "vector")]
    assert record.entries[0] == replace(made(0, "vector"), retired=True)
    with pytest.raises(InputError):
        record.rolled_back().rolled_back()


def test_what_a_rollback_left_is_past_with_the_next_deployment() -> None:
    record, _ = deployed(2, made(1))
    record, past = record.rolled_back().begun(made(2)).deployed(made(2), 2)
    assert record.entries == (BASE, made(2)) and [each.collection for each in past] == [
        "Articles_1"
    ]


def test_a_query_encoder_is_a_deployment_of_the_same_place() -> None:
    asked = replace(BASE, model="asked")
    record, _ = deployed(2, asked)
    assert record.entries == (BASE, asked)
    assert record.rolled_back().current == BASE


def test_the_digest_of_a_model_in_one_file_is_the_file_s(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no model"):
        weights_digest(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    (tmp_path / "space.safetensors").write_bytes(b"no weights")
    (tmp_path / "config.json").write_text("{}")
    assert weights_digest(tmp_path) == hashlib.sha256(b"weights").hexdigest()
    (tmp_path / "2_Dense").mkdir()
    (tmp_path / "2_Dense" / "model.safetensors").write_bytes(b"more")
    (tmp_path / "checkpoint-5").mkdir()
    (tmp_path / "checkpoint-5" / "model.safetensors").write_bytes(b"earlier")
    assert weights_digest(tmp_path) == hashlib.sha256(b"moreweights").hexdigest()
