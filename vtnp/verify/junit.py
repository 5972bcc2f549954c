"""A report as JUnit XML, which CI servers read."""

from xml.etree import ElementTree as ET

from vtnp._registry.printable import printable
from vtnp.verify.report import NOT_RUN, Report


def as_xml(report: Report) -> str:
    """Return the XML: one test case for each line that counts, or an error where nothing ran.

    What XML cannot hold, such as terminal colours in a candidate's message, is escaped as for a
    terminal.
    """
    counted = [line for line in report.lines if line.counts]
    has_run = report.status != NOT_RUN
    suite = ET.Element(
        "testsuite",
        name=printable(f"vtnp {report.formula}"),
        tests=str(len(counted) if has_run else 1),
        failures=str(len(report.failures())),
        errors="0" if has_run else "1",
    )
    if not has_run:
        case = ET.SubElement(
            suite, "testcase", classname=printable(report.candidate), name="not run"
        )
        ET.SubElement(case, "error", message=printable("; ".join(report.notes)))
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
