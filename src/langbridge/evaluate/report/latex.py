"""A report's tables as LaTeX, for papers: `booktabs`, `graphicx` and, for scripts of the world, XeLaTeX or LuaLaTeX."""

from langbridge.evaluate.report.contents import Cell, Report, Row, Table
from langbridge.evaluate.report.wording import counts, figures, heading, label, legend, spans, title

_SPECIAL = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%", "_": r"\_",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "−": "$-$", "±": r"$\pm$",
}  # fmt: skip


def as_latex(report: Report) -> str:
    blocks = ["% \\usepackage{booktabs,graphicx}"]
    blocks += [_table(table, " ".join(legend(report))) for table in report.tables]
    for name, lines in report.statements:
        blocks.append("\n".join([f"% {name}", *(f"%   {what}: {value}" for what, value in lines)]))
    return "\n\n".join(blocks) + "\n"


def _table(table: Table, legend: str) -> str:
    columns = table.columns
    groups, rules, place = [], [], 2
    for text, width in spans(table):
        groups.append(rf"\multicolumn{{{width}}}{{c}}{{{text}}}")
        rules.append(rf"\cmidrule(lr){{{place}-{place + width - 1}}}")
        place += width
    lines = [
        r"\begin{table}",
        r"\centering",
        r"\resizebox{\textwidth}{!}{%",
        rf"\begin{{tabular}}{{l{'r' * (len(columns) + 1)}}}",
        r"\toprule",
        " & " + " & ".join(groups) + r" & \\",
        "".join(rules),
        " & " + " & ".join(_escaped(heading(column)) for column in columns) + r" & $n$ \\",
        r"\midrule",
    ]
    kind = None
    for row in table.rows:
        if kind is not None and row.kind != kind:
            lines.append(r"\midrule")
        kind = row.kind
        cells = [_cell(row, row.cells.get(column)) for column in columns]
        lines.append(f"{_escaped(label(row))} & " + " & ".join(cells) + rf" & {counts(row)} \\")
    notes = [legend, *table.notes]
    notes += [f"{row.name}: {row.source}." for row in table.rows if row.source]
    return "\n".join(
        [
            *lines,
            r"\bottomrule",
            r"\end{tabular}}",
            rf"\caption{{{_escaped(title(table))}. {_escaped(' '.join(notes))}}}",
            rf"\label{{tab:{table.task}-{_key(table.measure)}}}",
            r"\end{table}",
        ]
    )


def _cell(row: Row, cell: Cell | None) -> str:
    text = figures(row, cell, r" {{\scriptsize$\pm${}}}", r" {{\scriptsize {}}}")
    return text.replace("−", "$-$") or "--"


def _key(measure: str) -> str:
    return "".join(character if character.isalnum() else "-" for character in measure)


def _escaped(text: str) -> str:
    return "".join(_SPECIAL.get(character, character) for character in text)
