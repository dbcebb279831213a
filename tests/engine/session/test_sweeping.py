"""Sweeps on the command line."""

import json
from pathlib import Path

import msgspec
import pytest

from featherweight.engine.command_line import main
from featherweight.engine.events import Source, TaskSource
from featherweight.engine.jobs import Job
from featherweight.engine.readings import Reading, SweepPlan
from featherweight.engine.recipe import Choice, Setting
from featherweight.engine.session import Session

CHOICES = (
    Choice(precision=Setting("integer", {"bits": 3})),
    Choice(structure=Setting("tucker", {"keep": 0.4})),
)


def test_that_the_command_line_reads_what_a_session_reads(
    small_files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    choices = tmp_path / "choices.yaml"
    choices.write_bytes(msgspec.yaml.encode(CHOICES))
    network, data = str(small_files / "bars.fwz"), str(small_files / "bars.npz")
    command = ["sweep", network, "--data", data, "--store", str(tmp_path / "store")]
    command += ["--samples", "128", "--choices", str(choices), "--layers", "conv2", "fc"]
    assert main([*command, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    session, found = Session(), list[Reading]()
    session.open(Source(path=network))
    session.set_task(TaskSource(data=data))
    plan = SweepPlan(choices=CHOICES, layers=("conv2", "fc"), samples=128)
    summary = session.sweep(plan, str(tmp_path / "other"), Job(), found.extend)
    assert told["summary"] == msgspec.to_builtins(summary)
    last = {(reading.layers, repr(reading.choice)): reading for reading in found}
    assert msgspec.convert(told["readings"], list[Reading]) == sorted(
        last.values(), key=lambda reading: reading.layers
    )
    assert main(command) == 0
    table = capsys.readouterr()
    assert "0 settings to read, 4 known" in table.err
    assert "tucker 0.4" in table.out
    assert "cannot take" in table.out
    assert "4 readings, 4 of them known before, 1 failed" in table.out
