"""A report as JUnit XML, which CI servers read."""

from xml.etree import ElementTree as ET

from vtnp._registry.printable import printable
from vtnp.verify.report import Report


def as_xml(report: Report) -> str:
    """Return the XML: one test case for each line that counts.

    What XML cannot hold, such as terminal colours in a candidate's message, is escaped as for a
    terminal.
    """
    counted = [line for line in report.lines if line.counts]
    suite = ET.Element(
        "testsuite",
        name=printable(f"vtnp {report.formula}"),
        tests=str(len(counted)),
        failures=str(len(report.failures())),
        errors="0",
    )
    for line in counted:
        name, of = printable(f"{line.kind} {line.what}: {line.case}"), printable(report.candidate)
        case = ET.SubElement(suite, "testcase", classname=of, name=name)
        numbers = "" if line.error is None else f"error {line.error:.3g}, bound {line.bound:.3g}"
        if not line.holds:
            message = printable(", ".join(filter(None, (line.note, numbers))))
            ET.SubElement(case, "failure", message=message).text = "\n".join(
                printable(f"{finding.title}: {finding.explanation}") for finding in report.findings
            )
        elif numbers:
            ET.SubElement(case, "system-out").text = numbers
    ET.indent(suite)
    return ET.tostring(suite, encoding="unicode", xml_declaration=True) + "\n"
