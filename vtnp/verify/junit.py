"""A report as JUnit XML, which CI servers read."""

from xml.etree import ElementTree as ET

from vtnp.verify.report import Report


def text(report: Report) -> str:
    """Return the XML: one test case for each line."""
    counted = [line for line in report.lines if line.counts]
    suite = ET.Element(
        "testsuite",
        name=f"vtnp verify {report.formula}",
        tests=str(len(counted)),
        failures=str(len(report.failures())),
        errors="0",
    )
    for line in counted:
        name = f"{line.kind} {line.what}: {line.case}"
        case = ET.SubElement(suite, "testcase", classname=report.candidate, name=name)
        if not line.holds:
            said = line.note or f"error {line.figure}, bound {line.bound}"
            ET.SubElement(case, "failure", message=said).text = "\n".join(
                f"{finding.title}: {finding.says}" for finding in report.findings
            )
    ET.indent(suite)
    return ET.tostring(suite, encoding="unicode", xml_declaration=True) + "\n"
