"""CLIMATE-FEVER: claims about the climate with evidence sentences from Wikipedia.

A claim is a query. A passage is a sentence, or an article with all its evidence sentences. Evidence
that supports or refutes a claim has grade 1, evidence without enough information 0.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from tercet.core.files import digest
from tercet.core.schema import InputError, Passage, Query
from tercet.data.sources.cells import Row, as_id, as_rows, as_text
from tercet.data.sources.hub import HubDataset

_SPLIT = "test"
_COLUMNS = ("claim_id", "claim", "evidences")
_EVIDENCE = ("evidence_id", "evidence_label", "article", "evidence")
# Labels as numbers or names, depending on the version of the dataset.
_GRADES = {0: 1, 1: 1, 2: 0, "SUPPORTS": 1, "REFUTES": 1, "NOT_ENOUGH_INFO": 0}
_READING = 1  # increased when the same rows are read differently


class ClimateFever:
    """Reads the dataset `climate_fever`, from the Hub or a folder of the same columns."""

    def __init__(
        self,
        path: str,
        *,
        unit: Literal["sentence", "article"] = "sentence",
        revision: str | None = None,
    ) -> None:
        self.unit = unit
        self.dataset = HubDataset(path, split=_SPLIT, revision=revision)

    def identity(self) -> str:
        """Digest of the dataset's commit or files and the reader's version."""
        return digest([self.dataset.identity, self.unit, _READING])

    def passages(self) -> Iterator[tuple[str, Passage]]:
        """Distinct sentences, or articles with their sentences in order; claims share them."""
        sentences: dict[str, tuple[str, str, str]] = {}
        for place, evidence in self._evidences():
            id = evidence["evidence_id"]
            found = (evidence["article"], evidence["evidence"])
            known = sentences.setdefault(id, (place, *found))
            if known[1:] != found:
                raise InputError(f"{place}: evidence {id!r} has another text than at {known[0]}")
        if self.unit == "sentence":
            for id, (place, article, text) in sentences.items():
                yield place, Passage(id, article, text)
            return
        articles: dict[str, list[str]] = {}
        for id in sentences:
            articles.setdefault(sentences[id][1], []).append(id)
        for article, ids in articles.items():
            texts = [sentences[id][2] for id in sorted(ids, key=_number)]
            yield sentences[ids[0]][0], Passage(article, article, " ".join(texts))

    def queries(self) -> Iterator[tuple[str, Query]]:
        """The claims."""
        for place, row in self._claims():
            yield place, Query(row["claim_id"], row["claim"])

    def judgements(self) -> Iterator[tuple[str, str, str, str, int]]:
        """Each claim's evidence; an article has the largest grade of its sentences."""
        key = "evidence_id" if self.unit == "sentence" else "article"
        for place, row in self._claims():
            grades: dict[str, int] = {}
            for evidence in _as_rows(row["evidences"], place):
                grade = _GRADES.get(evidence["evidence_label"])
                if grade is None:
                    raise InputError(f"{place}: {evidence['evidence_label']!r} is no label")
                passage = evidence[key]
                grades[passage] = max(grade, grades.get(passage, 0))
            for passage, grade in grades.items():
                yield place, _SPLIT, row["claim_id"], passage, grade

    def _claims(self) -> Iterator[tuple[str, Row]]:
        for place, row in self.dataset.rows(_COLUMNS):
            _demand(row, _COLUMNS, place)
            claim_id = as_id(row["claim_id"], "claim_id", place)
            claim = as_text(row["claim"], "claim", place)
            yield place, row | {"claim_id": claim_id, "claim": claim}

    def _evidences(self) -> Iterator[tuple[str, Row]]:
        for place, row in self._claims():
            for evidence in _as_rows(row["evidences"], place):
                yield place, evidence


def _as_rows(evidences: Any, place: str) -> list[Row]:
    """The evidence as a list of rows; older versions of the dataset have a row of lists."""
    if isinstance(evidences, dict):
        evidences = as_rows(evidences)
    for evidence in evidences:
        _demand(evidence, _EVIDENCE, place)
        for name in ("evidence_id", "article"):
            evidence[name] = as_id(evidence[name], name, place)
        evidence["evidence"] = as_text(evidence["evidence"], "evidence", place)
    rows: list[Row] = evidences
    return rows


def _demand(row: Row, columns: tuple[str, ...], place: str) -> None:
    missing = [name for name in columns if name not in row]
    if missing:
        raise InputError(f"{place}: no column {missing[0]!r}; there are {', '.join(row)}")


def _number(evidence_id: str) -> tuple[int, str]:
    """The number of the sentence at the end of its id, such as "Global warming:14"."""
    number = evidence_id.rpartition(":")[2]
    return int(number) if number.isdecimal() and len(number) < 19 else 0, evidence_id
