"""The list of mutants fits the sources: whoever moves or rewrites a statement sees here which mutants are to follow it."""

from pathlib import Path

from ringnic.host.mutation.mutants import fitted

ROOT = Path(__file__).parents[2]


def test_every_mutant_applies():
    mutants, misfits = fitted(ROOT)
    assert not misfits, "\n".join(misfits)
    rooms = {path.name for path in (ROOT / "hdl").iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert {mutant.file.split("/")[1] for mutant in mutants} >= rooms - {"spec"}
