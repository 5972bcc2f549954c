"""A report as JUnit XML, which CI servers read."""

from xml.etree import ElementTree as ET

from vtnp.verify.report import Report


def text(report: Report) -> str:
    """Return the XML: one test case for each line."""
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
        figures = "" if line.figure is None else f"error {line.figure:.3g}, bound {line.bound:.3g}"
        if not line.holds:
            said = ", ".join(filter(None, (_plain(line.note), figures)))
            ET.SubElement(case, "failure", message=said).text = "\n".join(
                _plain(f"{finding.title}: {finding.says}") for finding in report.findings
            )
        elif figures:
            ET.SubElement(case, "system-out").text = figures
    ET.indent(suite)
    return ET.tostring(suite, encoding="unicode", xml_declaration=True) + "\n"


def _plain(text: str) -> str:
    """Leave out what XML cannot have, such as the colours of somebody's message."""
    return "".join(each if each.isprintable() or each in "\t\n" else "\ufffd" for each in text)
