"""Tables in and out: formats, standard streams, and files that are wrong."""

from __future__ import annotations

import io
import json
import pickle

import numpy as np
import polars as pl
import pytest

from hybridflow.cli.tables import read_table, write_table
from hybridflow.errors import ConfigError, InputError

TABLE = pl.DataFrame({"a": [1, 2, None], "b": [0.5, -1e300, 3.0], "c": ["x", "y, z", None]})


def read(tmp_path, data: bytes) -> pl.DataFrame:
    (tmp_path / "t.csv").write_bytes(data)
    return read_table(str(tmp_path / "t.csv"))


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_round_trip(tmp_path, suffix):
    path = str(tmp_path / f"t.{suffix}")
    write_table(TABLE, path)
    assert read_table(path).equals(TABLE)


@pytest.mark.parametrize("suffix", ["json", "jsonl", "ndjson"])
def test_json_is_one_record_per_row(tmp_path, suffix):
    path = tmp_path / f"t.{suffix}"
    write_table(TABLE, str(path))
    text = path.read_text()
    records = json.loads(text) if suffix == "json" else [json.loads(t) for t in text.splitlines()]
    assert records == TABLE.to_dicts()


def test_format_wins_over_the_suffix(tmp_path):
    write_table(TABLE, str(tmp_path / "t.txt"), format="parquet")
    assert pl.read_parquet(tmp_path / "t.txt").equals(TABLE)
    with pytest.raises(ConfigError, match=r"suffix '.txt' says no format; use one of \.csv"):
        write_table(TABLE, str(tmp_path / "u.txt"))


def test_content_tells_parquet_from_csv(tmp_path):
    TABLE.write_parquet(tmp_path / "t.csv")
    assert read_table(str(tmp_path / "t.csv")).equals(TABLE)


@pytest.mark.parametrize(
    "data",
    [
        b"a,b\r\n1,2.5\r\n3,4.5\r\n",
        b"\xef\xbb\xbfa,b\n1,2.5\n3,4.5\n\n\n",
        b"a,b\r1,2.5\r3,4.5\r",
        b'"a","b"\n"1","2.5"\n"3","4.5"\n',
        b"a, b\n1, 2.5\n3, 4.5",
    ],
    ids=["windows", "mark-and-blank-end", "old-mac", "quoted", "spaces"],
)
def test_forms_of_csv(tmp_path, data):
    assert read(tmp_path, data).to_dict(as_series=False) == {"a": [1, 3], "b": [2.5, 4.5]}


def test_empty_cells_are_missing_also_when_quoted(tmp_path):
    table = read(tmp_path, b'a,b,c\n1,"",x\n,2,""\n')
    assert table.rows() == [(1, None, "x"), (None, 2, None)]


def test_a_number_late_in_the_file_is_seen(tmp_path):
    data = "a\n" + "1\n" * 20_000 + "0.5\n"
    assert read(tmp_path, data.encode())["a"].sum() == 20_000.5


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "the file is empty"),
        (b"\n \n", "the file is empty"),
        (b"a,b\n", "a header but no rows"),
        (b"a,b\n1,2\n3\n", "line 3 has 1 cells, the header has 2"),
        (b"a,b\n1,2\n3,4,5\n", "line 3 has 3 cells, the header has 2"),
        (b'a,b\n"1\n1",2\n3\n', "line 4 has 1 cells"),
        (b"a,b\n1,2\n\n3,4\n", "line 3 is empty"),
        (b"a,b,a\n1,2,3\n", "line 1: column names must be unique, repeated: a"),
        (b"a,,c\n1,2,3\n", "line 1: column 2 of 3 has no name"),
        (b"a;b\n1;2\n", "cells seem to be separated by ';'"),
        ("a,b\n1,2\né,4\n".encode("latin-1"), "line 3: byte 0xe9 is not UTF-8"),
        ("a,b\n1,2\n".encode("utf-16"), "UTF-16"),
        (b'a,b\n1,"2\n', "line 2: unexpected end of data"),
        (b"PAR1 this is none PAR1", "this Parquet file cannot be read"),
        (pickle.dumps([1, 2]), "looks like a pickle"),
        (b"\x1f\x8b\x08" + bytes(20), "looks like gzip-compressed data"),
        (b"<!DOCTYPE html><html></html>", "looks like an HTML page"),
        (b'[{"a": 1}]', "looks like a JSON document"),
    ],
    ids=[
        "empty",
        "blank",
        "header-only",
        "short-line",
        "long-line",
        "line-after-a-cell-of-two-lines",
        "empty-line",
        "repeated-name",
        "no-name",
        "semicolons",
        "latin-1",
        "utf-16",
        "open-quote",
        "broken-parquet",
        "pickle",
        "gzip",
        "html",
        "json",
    ],
)
def test_wrong_files_are_named_with_their_line(tmp_path, data, message):
    with pytest.raises(InputError, match=f"t.csv: .*{message}"):
        read(tmp_path, data)


def test_missing_file_and_folder(hybridflow, tables, tmp_path):
    missing = hybridflow("predict", tables / "regressor.hflow", tmp_path / "no.csv")
    assert missing.code == 1
    assert missing.said == f"error: {tmp_path / 'no.csv'}: No such file or directory\n"
    folder = hybridflow("predict", tables / "regressor.hflow", tmp_path)
    assert folder.said == f"error: {tmp_path}: Is a directory\n"


def test_model_and_table_mixed_up(hybridflow, tables):
    model, data = tables / "regressor.hflow", tables / "numbers.csv"
    table = hybridflow("predict", data, data)
    assert table.code == 1
    assert "not a hybridflow bundle: it looks like text, such as a CSV table" in table.said
    saved = hybridflow("predict", model, model)
    assert saved.code == 1
    assert "this looks like a saved model" in saved.said


def test_pickle_as_model(hybridflow, tables, tmp_path):
    (tmp_path / "m.hflow").write_bytes(pickle.dumps({"weights": list(range(100))}))
    outcome = hybridflow("predict", tmp_path / "m.hflow", tables / "numbers.csv")
    assert outcome.code == 1
    assert "looks like a pickle" in outcome.said


def test_target_that_is_not_there(hybridflow, tables, tmp_path):
    outcome = hybridflow(
        "fit", tables / "classes.csv", "--target", "kinds", "-o", tmp_path / "m.hflow"
    )
    assert outcome.code == 1
    assert "there is no column 'kinds'; the table has a, b, c, kind; did you mean" in outcome.said


def test_missing_columns_are_named_with_the_closest(hybridflow, tables, tmp_path):
    table = pl.read_csv(tables / "numbers.csv").rename({"a": "A1", "b": "bb"})
    table.write_csv(tmp_path / "t.csv")
    outcome = hybridflow("predict", tables / "regressor.hflow", tmp_path / "t.csv")
    assert outcome.code == 1
    assert "columns that the model needs are missing: a, b" in outcome.said


@pytest.mark.parametrize("verb", ["fit", "predict"])
@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("inf", r"Input X contains infinity: column 'b' \(1, first at row 2\)"),
        ("NA", r"column 'b' holds numbers, but 'NA' at row 2"),
        ("1,5", r"line 4 has 5 cells, the header has 4"),
    ],
    ids=["infinity", "text", "decimal-comma"],
)
def test_bad_cells_name_column_and_row(hybridflow, tables, tmp_path, verb, cell, message):
    lines = (tables / "numbers.csv").read_text().splitlines()
    first, _, rest = lines[3].split(",", 2)
    lines[3] = f"{first},{cell},{rest}"
    (tmp_path / "t.csv").write_text("\n".join(lines))
    if verb == "fit":
        outcome = hybridflow(
            "fit", tmp_path / "t.csv", "--target", "y", "-o", tmp_path / "m.hflow", "-q"
        )
        assert not (tmp_path / "m.hflow").exists()
    else:
        outcome = hybridflow("predict", tables / "regressor.hflow", tmp_path / "t.csv")
    assert (outcome.code, outcome.out) == (1, b"")
    assert "Traceback" not in outcome.said
    with pytest.raises(InputError, match=message):
        raise InputError(outcome.said)


def test_free_text_is_refused_by_name(hybridflow, tables, tmp_path, fast):
    table = pl.read_csv(tables / "numbers.csv").with_row_index()
    table = table.with_columns(note=pl.format("note {}", "index"), label=pl.col("index") % 2)
    table.write_csv(tmp_path / "t.csv")
    fit = [
        "fit",
        tmp_path / "t.csv",
        "--columns",
        "a,note",
        "-o",
        tmp_path / "m.hflow",
        "-q",
        *fast,
    ]
    outcome = hybridflow(*fit)
    assert outcome.code == 1
    assert "column 'note' holds 150 different texts in 150 rows, such as 'note 0'" in outcome.said
    assert hybridflow(*fit, "--column", "note=categorical").code == 0


def test_standard_streams(hybridflow, tables):
    data = (tables / "numbers.csv").read_bytes()
    model = tables / "regressor.hflow"
    from_file = hybridflow("predict", model, tables / "numbers.csv")
    assert hybridflow("predict", model, "-", stdin=data).out == from_file.out
    parquet = io.BytesIO()
    pl.read_csv(tables / "numbers.csv").write_parquet(parquet)
    assert hybridflow("predict", model, "-", stdin=parquet.getvalue()).out == from_file.out
    empty = hybridflow("predict", model, "-")
    assert (empty.code, empty.said) == (1, "error: standard input: the file is empty\n")


@pytest.mark.parametrize("format", ["csv", "parquet", "json", "ndjson"])
def test_formats_on_the_standard_output(hybridflow, tables, format):
    outcome = hybridflow(
        "predict", tables / "regressor.hflow", tables / "numbers.csv", "--format", format
    )
    readers = {
        "csv": pl.read_csv,
        "parquet": pl.read_parquet,
        "json": pl.read_json,
        "ndjson": pl.read_ndjson,
    }
    table = readers[format](io.BytesIO(outcome.out))
    model = hybridflow("predict", tables / "regressor.hflow", tables / "numbers.csv").table
    assert table.columns == model.columns
    assert np.array_equal(table["prediction"], model["prediction"])


def test_nothing_is_overwritten_without_force(hybridflow, tables, tmp_path, fast):
    output = tmp_path / "out.csv"
    output.write_text("mine")
    ask = ["predict", tables / "regressor.hflow", tables / "numbers.csv", "-o", output]
    refused = hybridflow(*ask)
    assert refused.code == 1
    assert refused.said == f"error: {output}: the file exists; --force replaces it\n"
    assert output.read_text() == "mine"
    assert hybridflow(*ask, "--force").code == 0
    assert pl.read_csv(output).height == 150

    fit = ["fit", tables / "numbers.csv", "-o", output, "-q", *fast]
    before = output.read_bytes()
    assert hybridflow(*fit).code == 1
    assert output.read_bytes() == before
    assert hybridflow(*fit, "--force").code == 0
    assert hybridflow("verify", output, "-q").code == 0


def test_output_in_a_folder_that_is_not_there(hybridflow, tables, tmp_path):
    output = tmp_path / "no" / "out.csv"
    outcome = hybridflow(
        "predict", tables / "regressor.hflow", tables / "numbers.csv", "-o", output
    )
    assert outcome.code == 1
    assert outcome.said.endswith(f"error: {output}: No such file or directory\n")


def test_paths_with_spaces_and_other_letters(hybridflow, tables, tmp_path, fast):
    folder = tmp_path / "Bäume und Größen ☂"
    folder.mkdir()
    data = folder / "daten [1] *.csv"
    data.write_bytes((tables / "numbers.csv").read_bytes())
    model, output = folder / "modèle.hflow", folder / "сказка.parquet"
    assert hybridflow("fit", data, "--target", "y", "-o", model, *fast).code == 0
    assert hybridflow("predict", model, data, "-o", output).code == 0
    assert pl.read_parquet(output).height == 150


def test_names_with_commas_spaces_and_other_letters(hybridflow, tables, tmp_path, fast):
    table = pl.read_csv(tables / "numbers.csv").rename({"a": "größe, cm", "y": "prix €"})
    table.write_csv(tmp_path / "t.csv")
    model = tmp_path / "m.hflow"
    fit = ["fit", tmp_path / "t.csv", "--target", "prix €", "--columns", 'c,"größe, cm"']
    assert hybridflow(*fit, "-o", model, *fast).code == 0
    drawn = hybridflow("sample", model, "-n", "2").table
    assert drawn.columns == ["c", "größe, cm", "prix €"]
