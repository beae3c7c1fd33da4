"""Documents are read whole, split at their seams, and named so that names last."""

from __future__ import annotations

from pathlib import Path

import pytest

from tercet.config.corpus import CorpusSection, QueriesTable
from tercet.core.schema import InputError, Passage
from tercet.data.sources import Documents, open_source

WORDS = "The quick brown fox jumps over the lazy dog. "
HTML = """<html><head><title>Brown &amp; quick</title><style>p {}</style></head>
<body><nav>Home</nav><h1>Fox</h1><p>It <b>jumps</b> over
the dog.</p><script>alert(1)</script><div>Intro<p>Para</div><ul><li>one</li><li>two</li></ul>
<table><tr><td>Name</td><td>Price</td></tr></table><section>A</section><section>B</section>
</body></html>"""


def pdf(text: str) -> bytes:
    """The smallest PDF with one line of text."""
    stream = f"BT /F1 12 Tf 72 720 Td ({text}) Tj ET".encode()
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents 4 0 R"
        b" /Resources << /Font << /F1 5 0 R >> >> >>",
        b"<< /Length %d >>\nstream\n%s\nendstream" % (len(stream), stream),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
        b"<< /Title (A paper) >>",
    ]
    out, places = b"%PDF-1.4\n", []
    for number, content in enumerate(objects, 1):
        places.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, content)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    trailer = b"<< /Size 7 /Root 1 0 R /Info 6 0 R >>"
    return out + (
        b"xref\n0 7\n0000000000 65535 f \n%strailer\n%s\nstartxref\n%d\n%%%%EOF"
        % (table, trailer, len(out))
    )


def write(folder: Path) -> Path:
    (folder / "deep").mkdir(parents=True, exist_ok=True)
    (folder / "a-note_2.txt").write_text("\ufeffPlain café.")
    (folder / "deep" / "page.HTML").write_text(HTML)
    (folder / "guide.md").write_text(f"# The *guide*\n\n{WORDS * 30}\n\n## Next\n\n{WORDS * 30}")
    (folder / "paper.pdf").write_bytes(pdf("On foxes"))
    (folder / "empty.txt").write_text("")
    (folder / ".hidden.txt").write_text("no")
    (folder / "code.py").write_text("no")
    return folder


def read(folder: Path, characters: int = 1_200) -> dict[str, Passage]:
    source = Documents(str(folder), characters=characters)
    return {passage.id: passage for _, passage in source.passages()}


def test_every_kind_of_document_is_read(tmp_path: Path) -> None:
    found = read(write(tmp_path))
    assert found["a-note_2.txt#1"] == Passage("a-note_2.txt#1", "a note 2", "Plain café.")
    page = found["deep/page.HTML#1"]
    assert page.title == "Brown & quick"
    blocks = [
        "Fox",
        "It jumps over the dog.",
        "Intro",
        "Para",
        "one",
        "two",
        "Name Price",
        "A",
        "B",
    ]
    assert page.text == "\n\n".join(blocks)
    assert found["paper.pdf#1"] == Passage("paper.pdf#1", "A paper", "On foxes")
    assert found["guide.md#1"].title == "The *guide*"
    assert found["empty.txt#1"].contents == "", "a file's name is no text"
    assert {id.partition("#")[0] for id in found} == {
        *("a-note_2.txt", "deep/page.HTML", "guide.md", "paper.pdf", "empty.txt")
    }


def test_passages_are_no_longer_than_asked_and_end_at_seams(tmp_path: Path) -> None:
    found = read(write(tmp_path), 400)
    parts = [passage.text for id, passage in found.items() if id.startswith("guide.md")]
    assert len(parts) >= 6 and all(len(part) <= 400 for part in parts)
    assert all(part.endswith((".", "guide*", "Next")) for part in parts)
    assert "".join("".join(parts).split()) == "".join((tmp_path / "guide.md").read_text().split())


def test_what_is_passed_over_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    read(write(tmp_path))
    assert "skipped" in (told := capsys.readouterr().out) and "1 of .py" in told


def test_a_new_file_renames_nothing(tmp_path: Path) -> None:
    before = read(write(tmp_path))
    identity = Documents(str(tmp_path), characters=1_200).identity()
    (tmp_path / "aaa.md").write_text("first of all")
    after = read(tmp_path)
    assert after == before | {"aaa.md#1": Passage("aaa.md#1", "aaa", "first of all")}
    assert Documents(str(tmp_path), characters=1_200).identity() != identity


def test_a_judged_document_is_all_its_passages(tmp_path: Path) -> None:
    write(tmp_path / "docs")
    (tmp_path / "j.csv").write_text("query,doc\nfoxes,guide.md\npages,deep/page.HTML#1\n")
    queries = QueriesTable(path=str(tmp_path / "j.csv"), positives="doc")
    section = CorpusSection(source="documents", path=str(tmp_path / "docs"), queries=queries)
    source = open_source(section)
    found = [row[3] for row in source.judgements()]
    parts = [passage.id for _, passage in source.passages() if passage.id.startswith("guide.md")]
    assert len(parts) > 1 and found == [*parts, "deep/page.HTML#1"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"caf\xe9", r"a.txt: not UTF-8 \(byte 4\)"),
        ("a.pdf", b"%PDF-1.4\nbroken", "a.pdf: cannot be read as PDF"),
        ("a.pdf", pdf("x")[:300], "a.pdf: cannot be read as PDF"),
    ],
)
def test_a_damaged_document_is_refused_by_name(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        read(tmp_path)


def test_a_folder_without_documents_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no document"):
        read(tmp_path)
    with pytest.raises(InputError, match="no such folder"):
        read(tmp_path / "nowhere")


@pytest.mark.fault("malformed input")
def test_a_damaged_pdf_says_one_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """pypdf alone says one for each of the blanks, and takes as long as it takes to say them."""
    broken = pdf("x").replace(b"/Type /Pages", b"/Type" + b" x" * 1_000).replace(b"Count 1", b"")
    (tmp_path / "a.pdf").write_bytes(broken)
    with pytest.raises(InputError, match=r"a\.pdf: cannot be read as PDF"):
        read(tmp_path)
    assert not caplog.records
