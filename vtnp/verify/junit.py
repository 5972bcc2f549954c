"""A report as JUnit XML, which CI servers read."""

from xml.etree import ElementTree as ET

from vtnp.verify.report import Report


def as_xml(report: Report) -> str:
    """Return the XML: one test case for each line that counts."""
    counted = [line for line in report.lines if line.counts]
    suite = ET.Element(
        "testsuite",
        name=f"vtnp {report.formula}",
        tests=str(len(counted)),
        failures=str(len(report.failures())),
        errors="0",
    )
    for line in counted:
        name = f"{line.kind} {line.what}: {line.case}"
        case = ET.SubElement(suite, "testcase", classname=report.candidate, name=name)
        numbers = "" if line.error is None else f"error {line.error:.3g}, bound {line.bound:.3g}"
        if not line.holds:
            message = ", ".join(filter(None, (_printable(line.note), numbers)))
            ET.SubElement(case, "failure", message=message).text = "\n".join(
                _printable(f"{finding.title}: {finding.explanation}") for finding in report.findings
            )
        elif numbers:
            ET.SubElement(case, "system-out").text = numbers
    ET.indent(suite)
    return ET.tostring(suite, encoding="unicode", xml_declaration=True) + "\n"


def _printable(text: str) -> str:
    """Replace what XML cannot hold, such as terminal colours in a candidate's message."""
    return "".join(each if each.isprintable() or each in "\t\n" else "\ufffd" for each in text)
