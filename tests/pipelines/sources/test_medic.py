"""A folder like MEDIC's, and the documents of supervisors."""

import shutil
from pathlib import Path

import pytest

from pipelines.sources.documents import read_documents

NOTES = {
    "Situation": "She has lost her job and has told nobody.",
    "Feelings": "Shame more than grief; she looks away.",
    "Analysis": "She takes her worth from work: the loss is one of self.\n\nReassurance would hurt now.",
}


@pytest.fixture
def folder(tmp_path: Path, clips: list[Path]) -> Path:
    for name in ("clips", "transcripts", "documents"):
        (tmp_path / name).mkdir()
    for number, clip in enumerate(clips[:4]):
        shutil.copy(clip, tmp_path / "clips" / f"c{number}.mp4")
        cue = "00:00:00.100 --> 00:00:01.000\n<v Client>I have told nobody.\n"
        (tmp_path / "transcripts" / f"c{number}.vtt").write_text(f"WEBVTT\n\n{cue}")
    (tmp_path / "labels.csv").write_text(
        "id,group,expression_of_experience,emotional_reaction,cognitive_reaction,response\n"
        "c0,s1,2,1,0,What keeps you from telling?\nc1,s1,1,2,1,\nc2,s2,0,0,0,\nc3,s2,2.0,1,1,\n"
    )
    word(tmp_path / "documents" / "c0.docx", NOTES)
    pdf(tmp_path / "documents" / "c1.pdf", "Situation: She has lost her job.")
    (tmp_path / "documents" / "c2.txt").write_text("Feelings: anger\nSituation\nAt work.\n", encoding="utf-8-sig")
    (tmp_path / "documents" / "c3_1.txt").write_text("Situation: one says this")
    (tmp_path / "documents" / "c3_2.txt").write_text("Situation: another says that")
    return tmp_path


def word(path: Path, sections: dict[str, str]) -> None:
    from docx import Document

    document = Document()
    document.add_heading("Supervision", 0)
    for title, text in sections.items():
        document.add_heading(title, 1)
        for part in text.split("\n"):
            document.add_paragraph(part)
    table = document.add_table(1, 2)
    table.rows[0].cells[0].text, table.rows[0].cells[1].text = "What happens next", "She calls her sister."
    document.save(str(path))


def pdf(path: Path, line: str) -> None:
    """A page with a line of text, as small as the format allows."""
    stream = f"BT /F1 12 Tf 72 720 Td ({line}) Tj ET".encode()
    objects = [
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 612 792]/Contents 4 0 R/Resources<</Font<</F1 5 0 R>>>>>>",
        b"<</Length %d>>stream\n%s\nendstream" % (len(stream), stream),
        b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
    ]
    data, places = b"%PDF-1.4\n", []
    for number, body in enumerate(objects, 1):
        places.append(len(data))
        data += b"%d 0 obj%s endobj\n" % (number, body)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    data += b"xref\n0 6\n0000000000 65535 f \n%strailer<</Size 6/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF" % (
        table,
        len(data),
    )
    path.write_bytes(data)


def test_clips_labels_transcripts_and_documents(take_in, folder) -> None:
    items, annotations, bad = take_in("medic", folder)
    assert not len(bad)
    assert [item.id for item in items] == ["medic_c0", "medic_c1", "medic_c2", "medic_c3"]
    assert [item.group for item in items] == ["s1", "s1", "s2", "s2"]
    assert items[0].inputs["dialogue"][0].speaker == "Client"
    assert items[0].inputs["video"].path == str(folder / "clips" / "c0.mp4")
    assert items[0].targets == {"response": "What keeps you from telling?"}
    assert {(note.annotator, note.origin) for note in annotations} == {("supervisor", "expert")}
    first = dict(annotations[0].values)
    assert [first.pop(name) for name in ("expression", "emotional_reaction", "cognitive_reaction")] == [2, 1, 0]
    assert first == {
        "situation": NOTES["Situation"],
        "feelings": NOTES["Feelings"],
        "analysis": NOTES["Analysis"],
        "future": "She calls her sister.",
    }
    assert annotations[1].values["situation"] == "She has lost her job."
    assert annotations[2].values["situation"] == "At work."
    assert annotations[2].values["feelings"] == "anger"
    assert annotations[3].values["situation"] == "one says this\n\nanother says that"


def test_broken_documents_are_named_without_their_text(take_in, folder) -> None:
    (folder / "documents" / "c0.docx").write_bytes(b"PK\x03\x04 a secret that is no document")
    (folder / "documents" / "c1.pdf").write_bytes(b"%PDF-1.4 a secret")
    (folder / "documents" / "c2.txt").write_bytes("Situation: a secret of J\xf6rg".encode("latin-1"))
    (folder / "clips" / "c3.mp4").unlink()
    with (folder / "labels.csv").open("a") as file:
        file.write("c9,s3,2,1,0,\nc0,s1,2,a secret,0,\n")
    from pride_mm.errors import UserError

    with pytest.raises(UserError, match="No item") as stopped:
        take_in("medic", folder, max_bad=60)
    said = str(stopped.value)
    for name in ("labels.csv:2: situation: not a Word document: c0.docx", "labels.csv:3: situation: not a PDF"):
        assert name in said
    assert "secret" not in said
    assert "labels.csv:4: situation: not UTF-8: c2.txt" in said


def test_what_is_no_document_is_refused(tmp_path) -> None:
    (tmp_path / "x.exe").write_bytes(b"MZ")
    with pytest.raises(ValueError, match=r"no document: x.exe \(allowed: .txt, .md, .docx, .pdf\)"):
        read_documents([tmp_path / "x.exe"])
    (tmp_path / "x.txt").write_bytes("Über".encode("utf-16"))
    assert read_documents([tmp_path / "x.txt"]) == "Über"
    assert read_documents([tmp_path / "x.txt"], "Situation") == ""
