"""The report of `minswin conform` as JUnit XML, which most servers that run tests can show."""

from __future__ import annotations

import re
from collections.abc import Sequence
from xml.etree import ElementTree

from minswin.crosscheck.conform_judge import DIFFERS, NOT_COVERED, REFUSED, Verdict
from minswin.crosscheck.report import explain

_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def junit_xml(title: str, verdicts: Sequence[Verdict]) -> str:
    """One test case for every probe; one that is not covered or refused is skipped."""
    counts = {
        "tests": len(verdicts),
        "failures": sum(v.status == DIFFERS for v in verdicts),
        "errors": 0,
        "skipped": sum(v.status in (NOT_COVERED, REFUSED) for v in verdicts),
    }
    told = {name: str(n) for name, n in counts.items()}
    told["time"] = f"{sum(v.seconds for v in verdicts):.3f}"
    root = ElementTree.Element("testsuites", told)
    suite = ElementTree.SubElement(
        root, "testsuite", {"name": f"minswin conform {_clean(title)}", **told}
    )
    for verdict in verdicts:
        _add(suite, verdict)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _add(suite: ElementTree.Element, verdict: Verdict) -> None:
    function, _, case = verdict.name.partition("/")
    names = {"classname": f"minswin.{function}", "name": case, "time": f"{verdict.seconds:.3f}"}
    element = ElementTree.SubElement(suite, "testcase", names)
    message = {"message": _clean(verdict.message)}
    if verdict.status == DIFFERS:
        failure = ElementTree.SubElement(element, "failure", message)
        failure.text = _clean("\n".join(explain(verdict)))
    elif verdict.status in (NOT_COVERED, REFUSED):
        ElementTree.SubElement(element, "skipped", message)


def _clean(text: str) -> str:
    """Without the characters that XML cannot hold."""
    return _NOT_XML.sub("�", text)
