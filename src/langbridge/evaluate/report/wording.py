"""The words and numbers that all formats share."""

from langbridge.evaluate.report.contents import GROUPS, Report, Row, Table
from langbridge.evaluate.scores import stated_error

HEADINGS = {"high": "high avg", "low": "low avg", "all": "avg"}


def title(table: Table) -> str:
    return f"{table.task}: {table.measure}, per cent"


def heading(column: str) -> str:
    return HEADINGS.get(column, column)


def spans(table: Table) -> list[tuple[str, int]]:
    """The headings over the columns: (text, how many columns), the average of all last."""
    found = [(f"{group}-resource", len(table.columns_of(group))) for group in GROUPS if table.languages[group]]
    return [*found, ("all", 1)] if len(found) > 1 else found


def figures(row: Row, column: str, error: str = " ± {}", interval: str = " {}") -> str:
    """A cell in per cent, with its error, if it has one, and its interval."""
    cell = row.cells.get(column)
    if cell is None:
        return ""
    if cell.score is None:
        return _number(cell.published or 0.0) + "*" * cell.own_languages
    text = _number(100 * cell.score.mean, "+" if row.kind == "difference" else "")
    text += stated_error(cell.score.stderr, error)
    if cell.interval is not None:
        text += interval.format(f"[{_number(100 * cell.interval.low)}, {_number(100 * cell.interval.high)}]")
    return text


def _number(value: float, sign: str = "") -> str:
    return f"{value:{sign}.1f}".replace("-", "−")


def label(row: Row) -> str:
    return f"{row.name} (published)" if row.kind == "published" else row.name


def counts(row: Row) -> str:
    """How many questions each language has: one number, or the least and the most."""
    found = [cell.score.n for name, cell in row.cells.items() if cell.score is not None and name not in HEADINGS]
    if not found:
        return ""
    return str(found[0]) if min(found) == max(found) else f"{min(found)} to {max(found)}"


def legend(report: Report) -> list[str]:
    """How the numbers are to be read."""
    lines = [
        "Scores are in per cent ± one standard error, which is left out where all answers are right, or none. Averages "
        "are means over the languages of their columns, each language with the same weight; their standard errors are "
        "clustered by question, because the languages share the questions.",
        f"High- and low-resource languages: {report.groups}.",
    ]
    if report.left_out:
        lines.append(f"Left out, having no scored answer in the languages shown: {', '.join(report.left_out)}.")
    if any(row.kind == "difference" for table in report.tables for row in table.rows):
        lines.append(
            "Differences are paired by question and language; their standard errors are clustered by question, with "
            "the 95% bootstrap interval in brackets (10,000 draws of questions with all their languages, "
            "percentiles, fixed seed). No correction is made for looking at many languages."
        )
    return lines
