"""From folders of evaluations to tables and pictures: Markdown, LaTeX, CSV, and an HTML page that loads nothing."""

from langbridge.evaluate.report.contents import Groups, Report, make_report, name_runs
from langbridge.evaluate.report.formats import as_markdown, write_report

__all__ = ["Groups", "Report", "as_markdown", "make_report", "name_runs", "write_report"]
