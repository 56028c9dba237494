"""Data sets that ``datasets`` opens: Parquet with media in it, Arrow, WebDataset, folders."""

import io
import json
import tarfile
from pathlib import Path

import pytest

from pride_mm.errors import UserError
from pride_mm.media import probe

DESCRIBED = """
corpus = "hub"
source = "clips"
id = "hub_{number}"
group = "{number}"
split = "{table|split}"

[field.video]
column = ["clip", "mp4"]

[field.audio]
column = "voice"

[field.dialogue]
column = ["said", "json.said"]

[field.emotion]
column = ["felt", "json.felt"]
"""


@pytest.fixture
def described(tmp_path: Path) -> Path:
    (tmp_path / "hub.toml").write_text(DESCRIBED)
    return tmp_path / "hub.toml"


@pytest.fixture
def rows(clips: list[Path], data_dir: Path) -> list[dict]:
    voice = sorted((data_dir / "ravdess" / "audio16k").glob("*.flac"))[0]
    return [
        {
            "number": n,
            "clip": {"bytes": clip.read_bytes(), "path": clip.name},
            "voice": {"bytes": voice.read_bytes(), "path": voice.name},
            "said": f"words {n}",
            "felt": "sad",
        }
        for n, clip in enumerate(clips[:3])
    ]


def check(items: list, rows: list[dict], voices: bool = True) -> None:
    assert [item.id for item in items] == ["hub_0", "hub_1", "hub_2"]
    for item, row in zip(items, rows, strict=True):
        assert item.inputs["dialogue"][0].text == row["said"]
        assert Path(item.inputs["video"].path).read_bytes() == row["clip"]["bytes"]
        assert probe(Path(item.inputs["video"].path)).video is not None
        if voices:
            assert Path(item.inputs["audio"].path).read_bytes() == row["voice"]["bytes"]
            assert item.inputs["audio"].path.endswith(".flac")


def test_media_in_parquet_are_written_to_files(take_in, described, rows, tmp_path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    (tmp_path / "data").mkdir()
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "data" / "validation-00000-of-00001.parquet")
    items, _, _ = take_in(described, tmp_path / "data")
    check(items, rows)
    assert {item.split for item in items} == {"valid"}
    assert '"media/hub_0.video.mp4"' in (tmp_path / "out" / "items.jsonl").read_text()


def test_a_saved_data_set_with_media_columns(take_in, described, rows, tmp_path) -> None:
    from datasets import Audio, Dataset, DatasetDict, Features, Value, Video

    features = Features(
        number=Value("int64"),
        clip=Video(decode=False),
        voice=Audio(decode=False),
        said=Value("string"),
        felt=Value("string"),
    )
    table = Dataset.from_list(rows, features=features).cast_column("clip", Video()).cast_column("voice", Audio())
    DatasetDict(test=table).save_to_disk(str(tmp_path / "saved"))
    items, _, _ = take_in(described, tmp_path / "saved")
    check(items, rows)
    assert {item.split for item in items} == {"test"}


def test_a_folder_of_webdataset(take_in, described, rows, tmp_path) -> None:
    (tmp_path / "wds").mkdir()
    with tarfile.open(tmp_path / "wds" / "train-000000.tar", "w") as tar:
        for row in rows:
            said = json.dumps({"said": row["said"], "felt": row["felt"]}).encode()
            for suffix, data in (("mp4", row["clip"]["bytes"]), ("json", said)):
                member = tarfile.TarInfo(f"{row['number']}.{suffix}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    own = described.read_text().replace("{number}", "{__key__}").replace('[field.audio]\ncolumn = "voice"\n', "")
    described.write_text(own)
    items, _, _ = take_in(described, tmp_path / "wds")
    check(items, rows, voices=False)
    assert {item.split for item in items} == {"train"}


def test_no_such_data_set(take_in, described) -> None:
    with pytest.raises(UserError, match=r"No table at 'nobody/nothing', nor a data set that `datasets` opens \("):
        take_in(described, "nobody/nothing")
