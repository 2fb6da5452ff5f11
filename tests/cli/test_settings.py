"""Config files, ``--set`` and flags: what wins, and what is said of mistakes."""

from __future__ import annotations

import pytest

import hybridflow as package
from hybridflow.cli.settings import MAX_BYTES, Source, line_of, merge, read_file
from hybridflow.errors import ConfigError

TOML = """
target = "y"       # what is predicted
seed = 4
drop = ["b"]

[flow]
name = "realnvp"
layers = 3

[training]
steps = 20
"""
JSON = """{
  "target": "y", "seed": 4, "drop": ["b"],
  "flow": {"name": "realnvp", "layers": 3},
  "training": {"steps": 20}
}"""


@pytest.mark.parametrize(("suffix", "text"), [("toml", TOML), ("json", JSON)], ids=["toml", "json"])
def test_a_file_does_what_flags_do(hybridflow, tables, tmp_path, suffix, text):
    config = tmp_path / f"fit.{suffix}"
    config.write_text(text)
    by_file, by_flags = tmp_path / "file.hflow", tmp_path / "flags.hflow"
    outcome = hybridflow("fit", tables / "numbers.csv", "--config", config, "-o", by_file)
    assert outcome.code == 0, outcome.said
    flags = ["--target", "y", "--seed", "4", "--drop", "b", "--flow", "realnvp"]
    sets = ["--set", "flow.layers=3", "--set", "training.steps=20"]
    assert hybridflow("fit", tables / "numbers.csv", *flags, *sets, "-o", by_flags).code == 0
    assert by_file.read_bytes() == by_flags.read_bytes()


def test_flags_win_and_it_is_said(hybridflow, tables, tmp_path):
    config = tmp_path / "fit.toml"
    config.write_text(TOML)
    model = tmp_path / "m.hflow"
    options = ["--flow", "nice", "--seed", "5", "--set", "training.steps=10"]
    outcome = hybridflow("fit", tables / "numbers.csv", "--config", config, "-o", model, *options)
    assert outcome.code == 0, outcome.said
    assert f"note: --seed wins over {config}, line 3: seed = 4\n" in outcome.said
    assert f"note: --flow wins over {config}, line 6: flow = " in outcome.said
    assert (
        f"--set training.steps=10 wins over {config}, line 11: training.steps = 20" in outcome.said
    )
    params = package.load(model).get_params()
    assert params["flow"] == "nice"  # the layers in the file were those of realnvp
    assert params["random_state"] == 5
    assert params["training"].steps == 10


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.toml", 'target = "y"\nsede = 1\n', "line 2: sede: unknown key; .* did you mean 'seed'"),
        ("a.toml", "seed = 1.5\n", "line 1: seed: .*integer.*, got 1.5"),
        ("a.toml", 'seed = "1"\n', 'line 1: seed: .*integer.*, got "1"'),
        ("a.toml", "seed = 1\nseed = 2\n", "a.toml: Cannot overwrite a value .*line 2"),
        ("a.toml", "seed = \n", "a.toml: Invalid value .*line 1"),
        ("a.toml", "[flow]\nlayer = 3\n", "line 2: flow.layer: unknown key; .* mean 'layers'"),
        ("a.toml", "[flow]\nlayers = 0\n", "line 2: flow.layers: .*greater than.*, got 0"),
        ("a.toml", "# layers\nflow = {layers = 'x'}\n", 'line 2: flow.layers: .*, got "x"'),
        ("a.toml", "[training]\nsteps = 0\n", "line 2: training.steps: .*, got 0"),
        ("a.toml", "task = 'clustering'\n", "line 1: task: "),
        ("a.toml", "[flow]\nname = 'mafia'\n", "unknown flow 'mafia'|'mafia'"),
        ("a.json", '{"seed": 1,\n "sede": 2}', "line 2: sede: unknown key"),
        ("a.json", '{"seed": 1,\n "seed": 2}', "seed: the key is repeated"),
        ("a.json", '{"seed": 1,\n}', "a.json, line 2: "),
        ("a.json", "[1]", "expected an object with settings"),
        ("a.json", "[" * 100_000, "nested too deeply"),
        ("a.json", '{"flow":\n {"layers": [1]}}', "line 2: flow.layers: "),
        ("a.yaml", "seed: 1", "YAML is not read: write the settings as TOML"),
        ("a.ini", "seed=1", "write the settings as TOML"),
        ("a.toml", "#" * (MAX_BYTES + 1), "larger than 1 MiB"),
    ],
)
def test_mistakes_name_line_and_key(hybridflow, tables, tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    outcome = hybridflow(
        "fit", tables / "numbers.csv", "--config", tmp_path / name, "-o", tmp_path / "m.hflow"
    )
    assert outcome.code == 1
    assert not (tmp_path / "m.hflow").exists()
    with pytest.raises(ConfigError, match=message):
        raise ConfigError(outcome.said)


def test_not_utf8(hybridflow, tables, tmp_path):
    (tmp_path / "a.toml").write_bytes(b"seed = 1\ntarget = '\xe9'\n")
    with pytest.raises(ConfigError, match="line 2: not UTF-8"):
        read_file(tmp_path / "a.toml")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--set", "flow.layer=3"], "flow.layer: unknown key"),
        (["--set", "layers"], "expected KEY=VALUE, for instance flow.layers=6"),
        (["--set", "flow.net.units=3"], "expected KEY=VALUE"),
        (["--set", "fluw.layers=3"], "'fluw' has no parameters"),
        (["--set", "flow.layers=six"], 'flow.layers: .*, got "six"'),
        (["--flow", "mafia"], "did you mean 'maf'"),
        (["--target", "y", "--head", "categorical"], "categorical"),
        (["--head", "gaussian"], r"head: a FlowDensity \(density\) has none"),
        (["--likelihood-weight", "0.1"], "likelihood_weight: a FlowDensity"),
        (["--target", "y", "--likelihood-weight", "-1"], "likelihood_weight must be"),
        (["--members", "0"], "members must be"),
        (["--device", "abacus"], "device must be"),
        (["--validation", "2"], "a share lies between 0 and 1"),
        (["--task", "density", "--target", "y"], "takes no target; .* --drop y"),
        (["--task", "regression"], "needs a target column: --target NAME"),
        (["--columns", "a", "--drop", "b"], "columns and drop exclude each other"),
        (["--target", "y", "--columns", "a,y"], "columns: 'y' is the target"),
        (["--target", "y", "--weight", "y"], "both the target and the weight"),
        (["--columns", "a,zz"], "there is no column 'zz'"),
        (["--drop", "a,b,c,y"], "no column is left"),
        (["--set", "contamination=0.9", "--task", "outliers"], "contamination must be"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_mistakes_in_flags(hybridflow, tables, tmp_path, options, message):
    outcome = hybridflow("fit", tables / "numbers.csv", *options, "-o", tmp_path / "m.hflow")
    assert outcome.code == 1, outcome.said
    with pytest.raises(ConfigError, match=message):
        raise ConfigError(outcome.said)


def test_order_of_precedence():
    document = {"seed": 1, "members": 1, "flow": {"name": "maf", "layers": 2}}
    settings, notes = merge(document, Source(), ["members=2", "flow.layers=3"], {"seed": 3})
    assert (settings.seed, settings.members) == (3, 2)
    assert settings.flow == {"name": "maf", "layers": 3}
    assert len(notes) == 3


@pytest.mark.parametrize(
    ("path", "line"),
    [(["seed"], 3), (["flow"], 6), (["flow", "layers"], 8), (["training", "steps"], 11)],
    ids=[".".join(p) for p in (["seed"], ["flow"], ["flow", "layers"], ["training", "steps"])],
)
def test_lines_of_keys(path, line):
    assert line_of(TOML, path) == line
    assert line_of(TOML, [*path, "missing"]) is None
