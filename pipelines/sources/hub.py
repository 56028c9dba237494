"""Any data set that ``datasets`` opens, by name or from a folder: Arrow, WebDataset, folders of files.

Rows are streamed, media come as they are stored (``bytes`` and ``path``, not decoded), and no code of a data set runs.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipelines.sources.rows import Part, Row, rank
from pride_mm.errors import BadSamples, SampleError, UserError


def dataset_parts(name: str) -> list[Part]:
    """The splits of a data set, train before valid before test.

    Raises:
        UserError: ``datasets`` opens nothing of that name.
    """
    try:
        splits = _open(name)
    except Exception as error:  # noqa: BLE001  (datasets raises what its many readers raise)
        said = str(error).strip().splitlines()
        reason = f"{type(error).__name__}: {said[0][:200]}" if said else type(error).__name__
        raise UserError(
            f"No table at '{name}', nor a data set that `datasets` opens ({reason}). Give a file of rows (.csv, .tsv, "
            ".jsonl, .json, .parquet), the folder of train, valid and test files, or the name of a data set."
        ) from None
    return [_part(split, splits[split], Path(name)) for split in sorted(splits, key=lambda s: (rank(s), s))]


def _open(name: str) -> dict[str, Any]:
    from datasets import Dataset, load_dataset, load_from_disk

    saved = [Path(name) / file for file in ("dataset_info.json", "dataset_dict.json")]
    if not any(path.is_file() for path in saved):
        return dict(load_dataset(name, streaming=True))
    kept = load_from_disk(name)
    kept = {"data": kept} if isinstance(kept, Dataset) else kept
    return {split: table.to_iterable_dataset() for split, table in kept.items()}


def _part(split: str, table: Any, folder: Path) -> Part:
    known = table.info.splits or {}
    size = known[split].num_examples if split in known else 0
    columns = list(table.features) if table.features else None

    def rows(bad: BadSamples) -> Iterator[Row]:
        number = 0
        try:
            for number, record in enumerate(table.decode(False), 1):
                yield Row(f"{split}:{number}", number, record)
        except (MemoryError, GeneratorExit):
            raise
        except Exception as error:  # noqa: BLE001
            # not its message: that may hold the row
            reason = f"cannot be read ({type(error).__name__}); nothing from here on was read"
            bad.add(SampleError(f"{split}:{number + 1}", None, reason))

    return Part(split, size or 1, columns, rows, folder if folder.is_dir() else Path())
