"""Bad inputs: each case of tests/cli/test_bad_inputs.py is refused with not a byte written and no traceback."""

from __future__ import annotations

import subprocess
import sys
from xml.etree import ElementTree

from tests.support.runs import ROOT
from tests.torture.injection import scratch
from tests.torture.result import Result

CORPUS = "tests/cli/test_bad_inputs.py"
SAMPLE = ("-k", "malformed or as_a_program")  # the corpus is a test itself, which runs whole beside a sample


def run(sample: bool) -> Result:
    with scratch() as folder:
        report = folder / "report.xml"
        words = ("-q", "-p", "no:cacheprovider", f"--junitxml={report}", CORPUS, *(SAMPLE if sample else ()))
        done = subprocess.run(
            [sys.executable, "-m", "pytest", *words], cwd=ROOT, capture_output=True, text=True, check=False
        )
        if not report.exists():
            return Result(0, [f"the corpus was not tried: {done.stdout[-2000:]}{done.stderr[-2000:]}"])
        cases = list(ElementTree.parse(report).iter("testcase"))
    tried = [case for case in cases if case.find("skipped") is None]
    wrong = [case for case in tried if case.find("failure") is not None or case.find("error") is not None]
    return Result(len(tried), [f"{case.get('name')}: it is not refused as it must be" for case in wrong])
