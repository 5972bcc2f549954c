"""What comes from files, candidates and command lines is printed, and never obeyed."""

import ast
import json
import sys
from io import StringIO, TextIOWrapper
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

import vtnp
from vtnp._registry.printable import printable, shortened
from vtnp.cli import main, output
from vtnp.verify import check
from vtnp.verify.junit import as_xml
from vtnp.verify.report import Finding, Line, Report
from vtnp.verify.text import print_report

PACKAGE = Path(vtnp.__file__).parent
OBEYED = "\x1b[31mred\x1b[0m\a\b\r\x7f\x9b2J\u202e\u2028\ud800-\udcff\0[red]:smile:[/]"
ESCAPED = r"\x1b[31mred\x1b[0m\x07\x08\r\x7f\x9b2J\u202e\u2028\ud800-\udcff\x00[red]:smile:[/]"


def fit(text):
    """Whether a terminal obeys none of it but ends of lines."""
    return all(line.isprintable() for line in text.split("\n"))


# --- The one function -----------------------------------------------------------------------------


def test_what_a_terminal_obeys_is_escaped():
    assert printable(OBEYED) == ESCAPED
    assert printable("a\n\tb") == r"a\n\tb"
    assert printable("a\n\tb", lines=True) == "a\n\tb"
    assert printable(Path("a\x1b")) == r"a\x1b"


def test_what_an_encoding_lacks_is_escaped():
    assert printable("é名", encoding="ascii") == r"\xe9\u540d"
    assert printable("é名", encoding="latin1") == "é\\u540d"
    assert printable("é名") == "é名"


@given(st.text(st.characters(), max_size=50), st.booleans())
def test_any_text_becomes_printable(text, lines):
    shown = printable(text, lines=lines)
    shown.encode()
    assert (shown.replace("\t", "").replace("\n", "") if lines else shown).isprintable()
    assert printable(shown, lines=lines) == shown
    if text.isprintable():
        assert shown == text


@given(st.text(max_size=60), st.integers(5, 60))
def test_a_text_is_shortened_in_its_middle(text, most):
    short = shortened(text, most)
    assert len(short) == min(len(text), most)
    if short != text:
        begin, dots, end = short.partition("...")
        assert dots
        assert text.startswith(begin)
        assert text.endswith(end)
        assert len(begin) >= len(end)


# --- All that is printed passes through it --------------------------------------------------------


def calls_of(path, *names):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    calls = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return [ast.unparse(call) for call in calls if ast.unparse(call).endswith(names)]


def test_one_module_prints_and_one_writes_reports():
    printing = ("print", ".write", ".writelines", "_print_help", "warn", "warnings.warn")
    found = {
        (str(path.relative_to(PACKAGE)), call)
        for path in PACKAGE.rglob("*.py")
        for call in calls_of(path, *printing)
    }
    found -= {each for each in found if each[1].endswith((".as_text", "_print"))}
    assert found == {
        ("checkpoints/files.py", "warnings.warn"),  # of bfloat16, with `printable`
        ("cli/output.py", "print"),
        ("verify/text.py", "out.print"),
    }


def test_every_text_of_a_report_is_escaped():
    """Rich is passed the texts of reports by `_shown` alone."""
    tree = ast.parse((PACKAGE / "verify/text.py").read_text(encoding="utf-8"))
    shown = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
    fields = {"candidate", "note", "title", "explanation", "fix", "example", "what", "case"}
    unsafe = []
    parents = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
    for node in shown:
        if node.attr in fields:
            above, inside = node, False
            while above in parents:
                above = parents[above]
                inside |= isinstance(above, ast.Call) and ast.unparse(above.func) == "_shown"
                inside |= isinstance(above, ast.If) and node in ast.walk(above.test)
                inside |= isinstance(above, ast.Assign) and ast.unparse(above.targets[0]) == "words"
            if not inside:
                unsafe.append(ast.unparse(node))
    assert unsafe == []


# --- Reports --------------------------------------------------------------------------------------


@pytest.fixture
def report():
    line = Line("value", OBEYED, OBEYED, holds=False, error=1.0, bound=0.5, note=OBEYED)
    fine = Line("law", OBEYED, OBEYED, holds=True, note=OBEYED, error=0.0, bound=1.0)
    finding = Finding(OBEYED, OBEYED, OBEYED, equivalents=(OBEYED,))
    return Report(
        OBEYED, OBEYED, OBEYED, 0, (line, fine), (finding,), (OBEYED,), f"x = 1\n{OBEYED}"
    )


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "latin1"])
def test_a_report_on_a_terminal(report, encoding):
    class Terminal(TextIOWrapper):
        def isatty(self):
            return False

    from io import BytesIO

    file = BytesIO()
    stream = Terminal(file, encoding=encoding)
    console = Console(file=stream, width=4000, highlight=False, emoji=False, color_system=None)
    print_report(report, every_line=True, console=console)
    stream.flush()
    text = file.getvalue().decode(encoding)
    assert fit(text)
    # candidate, formula, library; note; what, case, note of two lines; four of the finding; example
    assert text.count(ESCAPED) == 3 + 1 + 2 * 3 + 4 + 1
    assert "x = 1\n" in text


def test_a_report_in_colours_has_no_others(report):
    file = StringIO()
    console = Console(file=file, width=4000, force_terminal=True, highlight=False, emoji=False)
    print_report(report, every_line=True, console=console)
    text = file.getvalue()
    assert "\x1b[" in text
    assert "\x1b[31mred" not in text
    assert ESCAPED in text


def test_words_between_colons_are_no_pictures(report, capsys):
    print_report(report)
    out = capsys.readouterr().out
    assert ":smile:" in out
    assert fit(out)


def test_a_report_as_junit(report):
    xml = as_xml(report)
    assert fit(xml)
    suite = ET.fromstring(xml.encode())
    assert suite.get("name") == f"vtnp {ESCAPED}"
    for case in suite.findall("testcase"):
        assert case.get("classname") == ESCAPED
        assert ESCAPED in case.get("name")
    assert suite.find("testcase/failure").get("message").startswith(ESCAPED)
    assert suite.find("testcase/failure").text == f"{ESCAPED}: {ESCAPED}"


def test_a_report_as_json(report):
    text = json.dumps(report.as_dict())
    assert fit(text)
    assert json.loads(text)["candidate"] == OBEYED


@given(st.text(st.characters(), max_size=20))
def test_junit_of_any_text_is_xml(text):
    line = Line("value", text, text, holds=False, note=text)
    report = Report(text, text, "", 0, (line,), (Finding(text, text),))
    suite = ET.fromstring(as_xml(report).encode())
    assert suite.find("testcase").get("classname") == printable(text)


def test_a_candidate_that_raises_in_colours(capsys):
    def red(x):
        raise RuntimeError("\x1b[31mred\x1b[0m\u202e")

    report = check(red, "relu", examples=1)
    print_report(report)
    shown = capsys.readouterr().out
    assert fit(shown)
    assert r"\x1b[31mred" in shown.replace("\n", "")
    assert r"\x1b[31mred" in as_xml(report)


# --- The command ----------------------------------------------------------------------------------

ARGUMENTS = ["\x1b[31mred", "a\nb", "\udcff", "\u202e", "\x9b", "\a"]


@pytest.mark.parametrize("text", ARGUMENTS)
@pytest.mark.parametrize(
    "command",
    [
        ("{}",),
        ("cost", "{}"),
        ("cost", "softmax", "{}"),
        ("cost", "softmax", "n={}"),
        ("cost", "softmax", "{}=3"),
        ("cost", "timesformer", "scheme={}"),
        ("cost", "softmax", "--dtype", "{}"),
        ("cost", "softmax", "--sweep", "{}"),
        ("verify", "{}", "--formula", "softmax"),
        ("verify", "math:{}", "--formula", "softmax"),
        ("verify", "math:sin", "--formula", "{}"),
        ("verify", "math:sin", "--formula", "softmax", "--size", "n={}"),
        ("vectors", "check", "{}", "."),
        ("vectors", "{}"),
        ("compare", "{}", "--weights", "x.npz"),
        ("compare", "timesformer", "--weights", "{}.npz", "--candidate", "math:sin"),
    ],
)
def test_an_error_is_one_line_whatever_was_typed(capsys, command, text):
    assert main([word.format(text) for word in command]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    (line,) = printed.err.splitlines()
    assert line.startswith("vtnp: ")
    assert line.isprintable()
    assert len(line) <= 1000


def test_a_long_argument_is_shortened(capsys):
    assert main(["cost", "x" * 10**6]) == 2
    assert len(capsys.readouterr().err) <= 1001


@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
def test_output_that_the_terminal_has_no_letters_for(monkeypatch, encoding):
    class Stream(StringIO):
        pass

    Stream.encoding = encoding
    out, err = Stream(), Stream()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    output.say("é\n\x1b")
    output.complain(ValueError("é\n\x1b"))
    letter = "é" if encoding == "utf-8" else r"\xe9"
    assert out.getvalue() == f"{letter}\n\\x1b\n"
    assert err.getvalue() == f"vtnp: {letter}\\n\\x1b\n"


def test_what_is_exported_is_told_on_one_line(capsys, tmp_path):
    pytest.importorskip("jsonschema")
    folder = tmp_path / "a\x1b[31m\nb"
    assert main(["vectors", "export", str(folder), "--formula", "causal-mask"]) == 0
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    assert fit(out)
    assert r"a\x1b[31m\nb" in out


@pytest.mark.parametrize(
    ("code", "says"),
    [
        (b"def f(:", "SyntaxError"),
        (b"raise ValueError('\\x1b[31mred')", r"ValueError: \x1b[31mred"),
        (b"\0", "null bytes"),
        (b"import no_such_module", "No module named 'no_such_module'"),
        (b"raise SystemExit(3)", "SystemExit: 3"),
        (b"f = (" + b"(" * 9000, "too many nested parentheses"),
    ],
)
def test_a_candidate_that_cannot_be_imported(tmp_path, capsys, code, says):
    path = tmp_path / "mine.py"
    path.write_bytes(code)
    assert main(["verify", f"{path}:f", "--formula", "softmax"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"vtnp: cannot import {path}: ")
    assert says in line


@pytest.mark.parametrize("name", ["..x:f", ".:f", "\0:f", "a..b:f"])
def test_a_module_that_cannot_be_imported(capsys, name):
    assert main(["verify", name, "--formula", "softmax"]) == 2
    assert "vtnp: cannot import" in capsys.readouterr().err


@pytest.mark.parametrize(
    "value", ["(" * 60_000, "[" * 5000, "-" * 60_000 + "1", "{[]: 1}", "'\\d'"]
)
def test_values_that_are_no_literals_are_strings(value):
    from vtnp.cli.verify import _value

    assert _value(value) == (value.strip("'") if value == "'\\d'" else value)
    assert _value("[1, {'a': None}]") == [1, {"a": None}]


def test_sizes_have_nine_digits_at_most(capsys):
    for text in ("9" * 10, "9" * 5000, "-1", "", "x"):
        words = ["verify", "math:sin", "--formula", "softmax", "--size", f"n={text}"]
        assert main(words) == 2
        assert "expected" in capsys.readouterr().err


def test_nothing_is_printed_by_readers_of_files(capfd, tmp_path):
    from vtnp.checkpoints import FileError, load

    np.savez(tmp_path / "x.npz", a=np.ones(2))
    with pytest.raises(FileError):
        load(tmp_path / "x.npz")
    assert capfd.readouterr() == ("", "")
